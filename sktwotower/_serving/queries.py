"""What a recommender with a vector for everyone is asked: ids, rows, histories."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from sktwotower._data.histories import InteractionCodes
from sktwotower._data.interactions import Roles, check_X
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._nn.segments import segment_positions
from sktwotower._search.candidate_sets import CandidateSet
from sktwotower._search.top_k import DotScores
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower.base import RecommenderMixin, warn_of_unknown
from sktwotower.utils._columns import (
    as_objects,
    as_pandas,
    id_array,
    is_frame,
    refuse_repeated_names,
    time_numbers,
    where_first,
)


@dataclass(frozen=True, eq=False)
class Query:
    """Who is asked for.

    Attributes
    ----------
    ids : ndarray of shape (n_queries,)
        What a query is called: an id, or, where there are none, the index of the frame.
    codes : ndarray of shape (n_queries,)
        0 for who is not known.
    given : DataFrame of n_queries rows, or None
        Features that take the place of those of training.
    has_ids : bool
        Whether ``ids`` are ids.
    """

    ids: np.ndarray
    codes: np.ndarray
    given: pd.DataFrame | None = None
    has_ids: bool = True


class QueriesMixin(RecommenderMixin):
    """Reads what queries of users and items are given."""

    def _side(self, name: str) -> EntityEmbedder:
        """The users or the items, as vectors."""
        raise NotImplementedError

    def _recommendable(self, name: str) -> np.ndarray:
        """Codes of the items, or users, that can be recommended."""
        raise NotImplementedError

    def _choice(self, name: str) -> np.ndarray:
        return self._catalogue if name == "item" else self._recommendable("user")

    def _asked(self, X: Any, name: str, where: str) -> Query:
        """Ids, codes and features of a query of users or items."""
        X = as_pandas(X)
        if isinstance(X, list) and X and isinstance(X[0], list | np.ndarray):
            X = as_objects(X)
        vocabulary = self._vocabulary(name)
        if isinstance(X, list | tuple) or np.ndim(X) != 2:
            ids = id_array(X, what=f"{name} id", where=where)
            return Query(ids, vocabulary.codes(ids))
        if len(X) == 0:
            return Query(np.empty(0, dtype=object), np.empty(0, dtype=np.int32))
        named, given = (None, None)
        if isinstance(X, pd.DataFrame):
            refuse_repeated_names(X, where=where)
            named, given = self._side(name).read(X)
            if named is None and given is not None:
                codes = np.zeros(len(X), dtype=np.int32)
                return Query(X.index.to_numpy(), codes, given, has_ids=False)
        if named is None:  # laid out like the X of fit
            X = check_X(self, X, reset=False)
            roles = Roles.of(self)
            ids = roles.ids(X, f"{name}_column")
            features = getattr(roles, f"{name}_features")
            if features is not None:
                given = as_feature_frame(features.read(X))
        else:
            ids = id_array(
                named, what=f"{name} id", where=f"Column {named.name!r} of {where}"
            )
        return Query(ids, vocabulary.codes(ids), given)

    def _read_history(
        self, history: Any, ids: np.ndarray, codes: np.ndarray
    ) -> InteractionCodes:
        """Interactions of the queries; their users are positions among the queries."""
        rows = check_X(self, history, reset=False)
        roles = Roles.of(self)
        users = roles.ids(rows, "user_column")
        items = self._item_vocabulary.codes(roles.ids(rows, "item_column"))
        times = None
        if roles.timestamp_column is not None and roles.has(rows, "timestamp_column"):
            column = roles.column(rows, "timestamp_column")
            times = time_numbers(column, name=roles.timestamp_column)
        n_unknown = int((items == 0).sum())
        if n_unknown:
            warnings.warn(
                f"{n_unknown} of the {len(items)} rows of history have items that are not "
                "known, and are left out.",
                stacklevel=3,
            )
        number, distinct = pd.factorize(ids)
        user_of = Vocabulary(distinct).codes(users) - 1
        keep = (items > 0) & (user_of >= 0)
        # One user may be asked for several times: each query has the user's rows.
        order = np.argsort(user_of[keep], kind="stable")
        events = InteractionCodes(
            user_of[keep][order],
            items[keep][order],
            np.ones(len(order), dtype=bool),
            None if times is None else times[keep][order],
        )
        counts = np.bincount(events.users, minlength=len(distinct))
        starts = np.cumsum(counts) - counts
        rows_of_queries = segment_positions(
            torch.from_numpy(starts[number]), torch.from_numpy(counts[number])
        ).numpy()
        return replace(
            events.take(rows_of_queries),
            users=np.repeat(np.arange(len(codes)), counts[number]),
        )

    def _offered_scores(
        self, candidates: Any, vectors: np.ndarray, name: str
    ) -> tuple[CandidateSet, DotScores]:
        """What is chosen from, items or users, and the queries' scores for it."""
        side = self._side(name)
        if not is_frame(candidates):
            offered = self._offered(candidates, len(vectors), name)
            return offered, side.scores(vectors, offered.codes)
        ids, given = self._rows_of(candidates, "candidates", name)
        codes = self._vocabulary(name).codes(ids)
        if given is None:
            warn_of_unknown(codes, name)
            ids, codes = ids[codes > 0], codes[codes > 0]
        return CandidateSet(codes, ids), DotScores(vectors, side.vectors(codes, given))

    def _rows_of(
        self, frame: Any, what: str, name: str
    ) -> tuple[np.ndarray, pd.DataFrame | None]:
        """Ids and features of a frame of users or items, each once."""
        frame = as_pandas(frame)
        refuse_repeated_names(frame, where=what)
        side = self._side(name)
        column, given = side.read(frame)
        if column is None:
            names = " or ".join(map(repr, side.id_names)) or f"that of {name}_table"
            raise ValueError(
                f"{what} has no column with {name} ids ({names}); its columns are "
                f"{list(frame.columns)}."
            )
        ids = id_array(column, what=f"{name} id", where=f"Column {column.name!r} of {what}")
        repeated = pd.Series(ids).duplicated().to_numpy()
        if repeated.any():
            rows, first = where_first(repeated)
            raise ValueError(
                f"{what} has {rows} with a duplicate id in column {column.name!r} "
                f"{first}; keep one row for each {name}."
            )
        return ids, given


def as_feature_frame(features: pd.DataFrame | pd.Series | None) -> pd.DataFrame | None:
    """Features as a frame, also those of a single column."""
    return features.to_frame() if isinstance(features, pd.Series) else features
