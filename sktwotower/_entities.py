"""The two sides of an interaction: ids and codes, tables, encoded features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from sktwotower._nn.towers import EntityRows
from sktwotower.utils._columns import (
    Column,
    as_pandas,
    id_array,
    is_frame,
    refuse_repeated_names,
    where_first,
)

# A field whose rows are mostly non-zero is multiplied as a matrix from this width on;
# below it the bag that all sparse fields share is as fast.
_DENSE_WIDTH = 16
_DENSE_SHARE = 0.5


class Vocabulary:
    """Ids to dense codes and back. Code 0 is unknown; codes are append-only.

    Parameters
    ----------
    ids : array-like of shape (n,), optional
        First ids; repeated ones count once, in the order of their first appearance.
    """

    def __init__(self, ids: ArrayLike = ()) -> None:
        self._index = pd.Index(pd.unique(np.asarray(ids)))

    def __len__(self) -> int:
        return len(self._index)

    @property
    def ids(self) -> np.ndarray:
        """Ids of the codes 1, 2, ..., (n,)."""
        return self._index.to_numpy()

    def codes(self, ids: np.ndarray) -> np.ndarray:
        """Codes of ids, (n,) int32; 0 for those that are not known."""
        return self._index.get_indexer(pd.Index(ids)).astype(np.int32) + 1

    def extend(self, ids: np.ndarray) -> Vocabulary:
        """A vocabulary that also has these ids; known codes stay."""
        new = pd.unique(ids[self.codes(ids) == 0])
        longer = Vocabulary()
        longer._index = self._index.append(pd.Index(new)) if len(new) else self._index
        return longer


class EntityTable:
    """A side table of users or items, held by reference.

    A plain frame among an estimator's parameters is copied by every ``clone``, which a
    search does for each candidate and fold. This holder is not: clones share it. It is
    checked once, when it is made.

    Parameters
    ----------
    frame : DataFrame
        One row an entity. It is not copied; do not change it afterwards.
    id_column : str
        Name of the column with the entities' ids, unique and never missing.
    features : str or list of str, default=None
        Columns that are features; None: every column but the id. A single name is given
        to the encoder as a 1-D column, as text vectorizers want it.

    Raises
    ------
    TypeError
        If ``frame`` is no data frame.
    ValueError
        If a column is not there, or ids are missing or repeated.

    See Also
    --------
    TwoTowerRecommender : Takes tables as ``user_table`` and ``item_table``.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktwotower import EntityTable
    >>> films = pd.DataFrame({"film": [10, 20], "genres": ["Comedy", "Drama|War"]})
    >>> EntityTable(films, "film")
    EntityTable(2 rows, id_column='film', features=['genres'])
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        id_column: Column,
        features: str | Sequence[str] | None = None,
    ) -> None:
        if not is_frame(frame):
            raise TypeError(
                f"An EntityTable holds a data frame; got {type(frame).__name__}."
            )
        self.frame = frame
        self.id_column = id_column
        self.features = features
        self._frame = as_pandas(frame)
        refuse_repeated_names(self._frame, where="The table")
        names = list(self._frame.columns)
        wanted = [features] if isinstance(features, str) else features
        if wanted is None:
            wanted = [name for name in names if name != id_column]
        for name in [id_column, *wanted]:
            if name not in names:
                raise ValueError(
                    f"The table has no column {name!r}; its columns are {names}."
                )
        self._wanted = list(wanted)
        ids = id_array(self._frame[id_column], what="id", where="The table")
        repeated = pd.Series(ids).duplicated().to_numpy()
        if repeated.any():
            rows, first = where_first(repeated)
            raise ValueError(
                f"The table has {rows} with a duplicate id in column {id_column!r} "
                f"{first}; keep one row for each id."
            )
        self._vocabulary = Vocabulary(ids)

    def __sklearn_clone__(self) -> EntityTable:
        return self

    def __repr__(self) -> str:
        return (
            f"EntityTable({len(self._frame)} rows, id_column={self.id_column!r}, "
            f"features={self._wanted!r})"
        )

    @property
    def ids(self) -> np.ndarray:
        """Ids of the rows, in the order of the frame."""
        return self._vocabulary.ids

    @property
    def feature_rows(self) -> pd.DataFrame | pd.Series:
        """The features of the rows, in the order of the frame."""
        features = self._wanted[0] if isinstance(self.features, str) else self._wanted
        return self._frame[features].reset_index(drop=True)


def as_table(
    table: Any, *, parameter: str, id_column: Column, names: Sequence[str] | None
) -> EntityTable | None:
    """The table of a parameter; a plain frame has its id named like X's, or first."""
    if table is None or isinstance(table, EntityTable):
        return table
    if not is_frame(table):
        raise TypeError(
            f"{parameter} must be a DataFrame, an EntityTable or None; got "
            f"{type(table).__name__}."
        )
    columns = list(as_pandas(table).columns)
    if not columns:
        raise ValueError(f"{parameter} has no column, and so no ids.")
    wanted: Column | None = id_column
    if isinstance(
        id_column, Integral
    ):  # a position in X names a column only if X has names
        wanted = names[int(id_column)] if names else None
    chosen: Column = columns[0]
    if wanted is not None and wanted in columns:
        chosen = wanted
    try:
        return EntityTable(table, chosen)
    except ValueError as error:
        hint = ""
        if chosen != wanted and isinstance(wanted, str):
            hint = (
                f" It has no id column {wanted!r} as X has, so its first column was taken "
                "for the ids; name another with EntityTable(frame, id_column)."
            )
        raise ValueError(f"{parameter}: {error}{hint}") from error


@dataclass(frozen=True)
class Entities:
    """One side of the interactions, ready for a tower. Row ``r`` belongs to code ``r``.

    Attributes
    ----------
    vocabulary : Vocabulary
        Those of training first, then those that only the table has.
    id_codes : ndarray of shape (n + 1,), int32
        Rows of the id table; 0 for an entity without a training row.
    features : csr_matrix of shape (n + 1, n_columns)
        Encoded features; row 0, and that of an entity without features, is empty.
    fields : dict of str to slice
        Which columns are which field.
    """

    vocabulary: Vocabulary
    id_codes: np.ndarray
    features: sp.csr_matrix
    fields: dict[str, slice]

    def __len__(self) -> int:
        return len(self.vocabulary)

    def blocks(self) -> tuple[list[sp.csr_matrix], list[sp.csr_matrix]]:
        """The fields' columns, in the order of a tower's fields: as bags, as matrices."""
        sparse: list[sp.csr_matrix] = []
        dense: list[sp.csr_matrix] = []
        for columns in self.fields.values():
            block = self.features[:, columns]
            filled = block.nnz >= _DENSE_SHARE * block.shape[0] * block.shape[1]
            is_dense = filled and block.shape[1] >= _DENSE_WIDTH
            (dense if is_dense else sparse).append(block)
        return sparse, dense

    def rows(self, *, with_id: bool) -> EntityRows:
        """The tensors that a tower's input is gathered from."""
        n_rows = len(self) + 1
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
            n_columns=bags.shape[1],
            dense=tuple(dense),
        )


def build_entities(
    ids: np.ndarray,
    trained: np.ndarray,
    table: EntityTable | None,
    encoder: BaseEstimator | None,
    *,
    parameter: str,
) -> tuple[Entities, BaseEstimator | None]:
    """Vocabulary and encoded features of one side.

    Parameters
    ----------
    ids : ndarray of shape (n,)
        Ids of all interactions, in order.
    trained : ndarray of shape (n,), bool
        Rows that train; an entity with none of them keeps the unknown id code.
    table : EntityTable or None
        Features; its entities join the vocabulary.
    encoder : estimator or None
        Fitted here on the features of all entities of the vocabulary, as a clone.
    parameter : str
        The table's parameter, for messages.

    Returns
    -------
    entities : Entities
    encoder : fitted estimator or None
        None without a table.
    """
    vocabulary = Vocabulary(ids)
    n_interacting = len(vocabulary)
    if table is not None:
        vocabulary = vocabulary.extend(table.ids)
    has_rows = np.zeros(len(vocabulary) + 1, dtype=bool)
    has_rows[vocabulary.codes(ids[trained])] = True
    id_codes = np.where(has_rows, has_rows.cumsum(), 0).astype(np.int32)
    no_features = sp.csr_matrix((len(id_codes), 0), dtype=np.float32)
    if table is None:
        return Entities(vocabulary, id_codes, no_features, {}), None
    rows = vocabulary.codes(table.ids)
    n_lacking = n_interacting - int((rows <= n_interacting).sum())
    if n_lacking:
        warnings.warn(
            f"{parameter} lacks {n_lacking} of the {n_interacting} ids that X has; their "
            "features are taken as unknown.",
            stacklevel=6,
        )
    frame = table.feature_rows
    if frame.ndim == 2 and frame.shape[1] == 0:
        return Entities(vocabulary, id_codes, no_features, {}), None
    encoder = clone(encoder)
    food = prepare(encoder, frame)
    with config_context(transform_output="default"):  # frames hold no sparse matrix
        if hasattr(encoder, "fit_transform"):
            encoded = encoder.fit_transform(food)
        else:
            encoded = encoder.fit(food).transform(food)
    # From the table's order to that of the codes; who is not in the table stays empty.
    scatter = sp.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (rows, np.arange(len(rows)))),
        shape=(len(vocabulary) + 1, len(rows)),
    )
    encoded = as_features(encoded, parameter)
    features = sp.csr_matrix(scatter @ encoded)
    features.sort_indices()
    return Entities(vocabulary, id_codes, features, field_slices(encoder, encoded)), encoder


def prepare(encoder: BaseEstimator, frame: pd.DataFrame | pd.Series) -> Any:
    """What an encoder wants to eat: a text vectorizer takes a column, not a frame."""
    first = encoder
    while isinstance(first, Pipeline):
        steps = [step for _, step in first.steps if not isinstance(step, str)]
        if not steps:  # only "passthrough"
            return frame
        first = steps[0]
    if isinstance(frame, pd.Series) or get_tags(first).input_tags.two_d_array:
        return frame
    if frame.shape[1] == 1:
        return frame.iloc[:, 0]
    raise ValueError(
        f"{type(first).__name__} encodes a single column, but the table has the features "
        f"{list(frame.columns)}; pick one with EntityTable(frame, id_column, "
        "features='...') or combine encoders in a ColumnTransformer."
    )


def as_features(encoded: Any, parameter: str) -> sp.csr_matrix:
    """What any transformer returns, as a finite float32 CSR matrix."""
    if is_frame(encoded):
        encoded = as_pandas(encoded).to_numpy()
    matrix = sp.csr_matrix(encoded, dtype=np.float32)
    if not np.isfinite(matrix.data).all():
        bad = ~np.isfinite(matrix.data)
        row = int(np.searchsorted(matrix.indptr, bad.argmax(), side="right")) - 1
        raise ValueError(
            f"The encoder of {parameter} returned {int(bad.sum())} values that are NaN or "
            f"infinite (first at row {row}); impute or scale them in the encoder."
        )
    matrix.sum_duplicates()
    return matrix


def field_slices(encoder: BaseEstimator, encoded: sp.csr_matrix) -> dict[str, slice]:
    """Named groups of columns: an encoder's own ``output_indices_``, else one group."""
    last = encoder
    while isinstance(last, Pipeline):
        last = last.steps[-1][1]
    everything = {"features": slice(0, encoded.shape[1])}
    slices: dict[str, slice] = getattr(last, "output_indices_", everything)
    return {name: part for name, part in slices.items() if part.stop > part.start}
