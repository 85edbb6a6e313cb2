"""The entities of one side: ids, encoded features, and the rows that a tower reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from sktwotower._data.encoding import Encoder, as_features, transformed
from sktwotower._data.feature_frames import rows_at
from sktwotower._data.roles import Frame
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._nn.inputs import EntityRows
from sktwotower.utils._columns import Column


@dataclass(frozen=True, eq=False)
class Entities:
    """Users or items with their encoded features.

    Row ``r`` holds the current features of code ``r``. The rows after those hold the
    features that entities had at earlier times; only training reads them.

    Attributes
    ----------
    vocabulary : Vocabulary of n entities
        The entities of the training rows first, then those that only the table has.
    id_codes : ndarray of shape (n_rows,), int32
        Row of the id table; 0 for entities without a training row.
    features : csr_matrix of shape (n_rows, n_columns)
        Encoded features. Row 0, the unknown entity, is empty, as are the rows of entities
        without features.
    fields : dict of str to slice
        Columns of each field.
    dense : frozenset of str
        Fields that are multiplied as dense matrices.
    encoder : fitted transformer or None
        Encoder of the features; None if there are none.
    raw_features : DataFrame or Series of m rows, or None
        Features before encoding, of the entities that have some.
    raw_positions : ndarray of shape (n + 1,) or None
        Row of each code in ``raw_features``; -1 for entities without features.
    popularity : ndarray of shape (n_rows,), float32, or None
        Last entry of each embedding: the popularity of an item, or the weight that a user
        gives to it.
    varying : tuple of str or int
        Names of the features that differ among training rows of one entity; empty where
        each interaction has the features of its own row.
    """

    vocabulary: Vocabulary
    id_codes: np.ndarray
    features: sp.csr_matrix
    fields: dict[str, slice]
    dense: frozenset[str] = frozenset()
    encoder: Encoder | None = None
    raw_features: Frame | None = None
    raw_positions: np.ndarray | None = None
    popularity: np.ndarray | None = None
    varying: tuple[Column, ...] = ()

    def __len__(self) -> int:
        return len(self.vocabulary)

    @property
    def columns(self) -> list:
        """Names of the features before encoding."""
        if self.raw_features is None:
            return []
        if isinstance(self.raw_features, pd.Series):
            return [self.raw_features.name]
        return list(self.raw_features.columns)

    @property
    def described(self) -> np.ndarray:
        """Whether each code has features, (n + 1,) bool."""
        if self.raw_positions is None:
            return np.zeros(len(self) + 1, dtype=bool)
        return self.raw_positions >= 0

    def raw_positions_of(self, codes: np.ndarray) -> np.ndarray:
        """Row of each code in ``raw_features``, (n,); -1 for codes without features.

        Codes may be larger than the number of entities.
        """
        assert self.raw_positions is not None
        return self.raw_positions[np.where(codes <= len(self), codes, 0)]

    def blocks(self) -> tuple[list[sp.csr_matrix], list[sp.csr_matrix]]:
        """The columns of the sparse and of the dense fields, in the tower's order."""
        sparse, dense = self.field_order()
        return (
            [self.features[:, self.fields[name]] for name in sparse],
            [self.features[:, self.fields[name]] for name in dense],
        )

    def field_order(self) -> tuple[list[str], list[str]]:
        """Names of the sparse and of the dense fields, in the tower's order."""
        return (
            [name for name in self.fields if name not in self.dense],
            [name for name in self.fields if name in self.dense],
        )

    def rows(self, *, with_id: bool) -> EntityRows:
        """The rows as tensors; with ``with_id=False`` the tower has no id field."""
        n_rows = len(self.id_codes)
        sparse, wide = self.blocks()
        dense = [torch.from_numpy(block.toarray()) for block in wide]
        lengths = np.stack(
            [
                np.zeros(n_rows, dtype=np.int64),
                *(np.diff(block.indptr) for block in sparse),
            ]
        )  # (n_sparse_fields + 1, n_rows)
        bags = sp.hstack(sparse, format="csr") if sparse else self.features[:, :0]
        pointers = bags.indptr[:-1, None] + lengths.cumsum(axis=0).T
        return EntityRows(
            id_codes=torch.from_numpy(self.id_codes) if with_id else None,
            n_ids=int(self.id_codes.max(initial=0)) + 1,
            pointers=torch.from_numpy(pointers.astype(np.int64)),
            columns=torch.from_numpy(bags.indices.astype(np.int64)),
            values=torch.from_numpy(bags.data.astype(np.float32)),
            field_widths=tuple(block.shape[1] for block in sparse),
            dense=tuple(dense),
            appended=(
                None
                if self.popularity is None
                else torch.from_numpy(self.popularity[:, None])
            ),
        )

    def now(self) -> Entities:
        """The entities without their rows of earlier times."""
        n = len(self) + 1
        if len(self.id_codes) == n:
            return self
        return replace(
            self,
            id_codes=self.id_codes[:n],
            features=self.features[:n],
            popularity=None if self.popularity is None else self.popularity[:n],
        )

    def take(self, codes: np.ndarray, features: pd.DataFrame | None = None) -> Entities:
        """The rows of some codes, with other features if these are passed.

        Parameters
        ----------
        codes : ndarray of shape (n,)
            0 for unknown entities.
        features : DataFrame of n rows, optional
            Some of the feature columns. Columns that it lacks have their values from
            training, or are missing for unknown entities.

        Raises
        ------
        ValueError
            If the encoder cannot encode them.
        """
        encoded = self.features[codes]
        if features is not None and features.size:
            encoded = self._encode(self.complete(codes, features), features)
        return replace(
            self,
            id_codes=self.id_codes[codes],
            features=encoded,
            popularity=None if self.popularity is None else self.popularity[codes],
        )

    def column(
        self, name: Column, codes: np.ndarray, features: pd.DataFrame | None = None
    ) -> pd.Series:
        """One feature of some codes before encoding: from ``features``, else of training.

        It is missing for entities without features.
        """
        if features is not None and name in features:
            return features[name].reset_index(drop=True)
        known = pd.DataFrame(self.raw_features)[name]
        return rows_at(known, self.raw_positions_of(codes))

    def complete(self, codes: np.ndarray, features: pd.DataFrame) -> Frame:
        """All feature columns of some codes: from ``features``, else from training."""
        assert self.raw_features is not None
        frame = {name: self.column(name, codes, features) for name in self.columns}
        if isinstance(self.raw_features, pd.Series):
            return frame[self.raw_features.name]
        return pd.DataFrame(frame)

    def _encode(self, frame: Frame, features: pd.DataFrame) -> sp.csr_matrix:
        assert self.encoder is not None
        try:
            encoded = transformed(self.encoder, frame)
        except Exception as error:
            lacking = self._lacking_and_needed(frame, features)
            if not lacking:
                raise
            raise ValueError(
                f"The encoder cannot encode rows without {lacking}, which are neither in "
                f"the frame nor known from training: {error} Give these columns, or let "
                "the encoder impute them."
            ) from error
        return as_features(encoded, "the queries", len(frame))

    def _lacking_and_needed(self, frame: Frame, features: pd.DataFrame) -> list:
        """Columns without which the encoder fails, of those that ``features`` lacks.

        Empty if it fails with values from training in their place, too.
        """
        encoder = self.encoder
        assert encoder is not None
        rows, known = pd.DataFrame(frame), pd.DataFrame(self.raw_features)
        fillers = {
            name: known[name].dropna().iloc[:1]
            for name in self.columns
            if name not in features and rows[name].isna().any()
        }
        lacking = [name for name, filler in fillers.items() if len(filler)]

        def works_with(names: list) -> bool:
            filled = rows.copy()
            for name in names:
                at = np.zeros(len(rows), dtype=np.int64)
                filled[name] = rows_at(fillers[name], at)
            try:
                transformed(encoder, filled)
            except Exception:
                return False
            return True

        if not lacking or not works_with(lacking):
            return []
        needed = [n for n in lacking if not works_with([o for o in lacking if o != n])]
        return needed or lacking
