"""Ranked candidates as arrays of ids and scores, or as a frame."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd

from sktwotower._data.queries import Query
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._search.candidate_sets import CandidateSet

Answer = tuple[np.ndarray, np.ndarray] | pd.DataFrame


def check_count(value: int, name: str = "n_recommendations") -> None:
    """Raise ValueError unless it is a number of answers."""
    if not isinstance(value, Integral) or value is True or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")


def ranked_answer(
    query: Query,
    candidates: CandidateSet,
    columns: np.ndarray,
    scores: np.ndarray,
    vocabulary: Vocabulary,
    *,
    as_frame: bool,
    query_name: str,
    answer_name: str,
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
    as_frame : bool
        Whether to return a frame, with one row for each query and answer.
    query_name, answer_name : str
        Columns of that frame.
    """
    found = candidates.ids_of(columns, vocabulary.ids)
    if not as_frame:
        return found, scores
    filled = columns >= 0
    rows, ranks = np.nonzero(filled)
    return pd.DataFrame(
        {
            query_name: query.ids[rows],
            answer_name: pd.Series(found[filled]).infer_objects(),
            "score": scores[filled],
            "rank": ranks + 1,
        }
    )
