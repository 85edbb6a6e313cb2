"""Ranked candidates as arrays of ids and scores, or as a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.queries import Query
from sktwotower._data.roles import ColumnRoles, SideName
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._search.candidate_sets import CandidateSet
from sktwotower.utils._arrow_types import as_time_type

Answer = tuple[np.ndarray, np.ndarray] | pd.DataFrame
_MOST = 10**8  # answers to one query, which take 1.2 GB


def check_count(value: int, name: str = "n_recommendations") -> int:
    """A number of answers as an integer of Python; raise ValueError if it is none."""
    if not isinstance(value, Integral) or value is True or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")
    if value > _MOST:
        raise ValueError(
            f"{name}={value!r} is more than {_MOST:,}. Rows are padded to this length, so "
            "use at most the number of items (or users), such as len(model.item_ids_)."
        )
    return int(value)  # small ones of NumPy overflow, and faiss takes none of them


@dataclass(frozen=True)
class FrameNames:
    """Names of the columns of ids in an answer that is a frame.

    Attributes
    ----------
    query, answer : str
        The columns of what was asked and of what was found.
    query_type, answer_type : str or None
        Their dtypes in X, if pandas would not merge others with it.
    """

    query: str
    answer: str
    query_type: str | None = None
    answer_type: str | None = None

    @classmethod
    def of(
        cls,
        roles: ColumnRoles,
        side: SideName,
        answer: SideName,
        others: Sequence[str] = ("score", "rank"),
    ) -> FrameNames:
        """The names of the columns of X; ``user`` and ``item`` where it has none.

        Parameters
        ----------
        roles : ColumnRoles
            The columns of X.
        side, answer : {"user", "item"}
            What is asked about, and what is answered. If both are the same, ids that are
            asked about are in a column ``query``.
        others : sequence of str
            The other columns of the answer.

        Raises
        ------
        ValueError
            If X has the ids in a column that is called like another one of the answer.
        """
        asked, found = _name(roles, side), _name(roles, answer)
        types = [roles.arrow_times.get(name) for name in (asked, found)]
        names = cls("query" if side == answer else asked, found, *types)
        columns = [names.query, names.answer, *others]
        repeated = [name for name in columns if columns.count(name) > 1]
        if repeated:
            raise ValueError(
                f"The answer would have two columns {repeated[0]!r}: columns of ids are "
                "called as in X. Rename that column of X before fit."
            )
        return names


def _name(roles: ColumnRoles, side: SideName) -> str:
    name = roles.name_of(roles.user_column if side == "user" else roles.item_column)
    return side if name is None else str(name)


def ranked_answer(
    query: Query,
    candidates: CandidateSet,
    columns: np.ndarray,
    scores: np.ndarray,
    vocabulary: Vocabulary,
    *,
    names: FrameNames | None,
) -> Answer:
    """Ids and scores of ranked columns.

    Parameters
    ----------
    query : Query
        What was asked.
    candidates : CandidateSet
        What the columns are.
    columns, scores : ndarray of shape (n_queries, k)
        Best first; columns of -1 are padding.
    vocabulary : Vocabulary
        Known ids of the candidates' side.
    names : FrameNames or None
        Names of the columns of a frame, with one row for each query and answer; None:
        arrays.
    """
    if names is None:
        return candidates.ids_of(columns, vocabulary.ids), scores
    filled = columns >= 0
    rows, ranks = np.nonzero(filled)
    ids = candidates.ids_of(columns[filled], vocabulary.ids)
    asked: Any = query.ids[rows]
    if names.query_type is not None and query.has_ids:
        asked = as_time_type(pd.Series(asked).infer_objects(), names.query_type)
    return pd.DataFrame(
        {
            names.query: asked,
            names.answer: as_time_type(pd.Series(ids).infer_objects(), names.answer_type),
            "score": scores[filled],
            "rank": ranks + 1,
        }
    )
