"""The forms in which recommenders of other packages answer, checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower.utils._columns import is_frame
from sktwotower.utils._ids import described, kinds_of

# How many rows of an answer, and how many values of each, show what they are.
_N_LOOKED_AT = 100


def ids_and_others(
    answers: Any, n: int, *, what: str, name: str
) -> tuple[Any, tuple[Any, ...]]:
    """The rows of item ids of an answer, and what follows them in a tuple.

    Raises
    ------
    TypeError
        Unless there is one ordered row for each of ``n`` queries, which are called
        ``what``. ``name`` is the class of the recommender.
    """
    is_tuple = isinstance(answers, tuple) and len(answers) > 0
    ids, others = (answers[0], answers[1:]) if is_tuple else (answers, ())
    if not _has_rows(ids, n, _is_sequence):
        form = _form(ids, _is_sequence)
        raise TypeError(
            f"{name}.recommend returned {form} for {n} {what}; a scorer needs one row of "
            "item ids for each, or a tuple that starts with such rows."
        )
    return ids, others


def refuse_no_collections(answers: Any, n: int, *, name: str) -> None:
    """Raise TypeError unless there is one collection for each of n users."""
    if not _has_rows(answers, n, _is_collection):
        raise TypeError(
            f"{name}.seen_items returned {_form(answers, _is_collection)} for {n} users; "
            "it must return a list with the item ids of each."
        )


def refuse_scores(
    ids: Any, others: Sequence[Any], known: pd.Index, item_ids: np.ndarray, *, name: str
) -> None:
    """Raise TypeError for scores in the place of ids, or beside each id.

    Parameters
    ----------
    ids : sequence of sequences
        What should be item ids.
    others : sequence
        What was returned after them.
    known : Index
        Items that are known.
    item_ids : ndarray of shape (n,)
        Item ids of X.
    name : str
        The class of the recommender.
    """
    first = _first_values(ids)
    pair = next((v for v in first if isinstance(v, list | tuple | np.ndarray)), None)
    kinds = {} if pair is None else kinds_of(item_ids)
    if pair is not None and type(pair).__name__ not in kinds:
        raise TypeError(
            f"{name}.recommend returned rows of {type(pair).__name__} (such as {pair!r}), "
            f"where item ids of X are of type {described(kinds)}; a scorer needs rows of "
            "item ids, with scores as a second array if at all."
        )
    if not others or not _has_rows(others[0], len(ids), _is_sequence):
        return
    second = _first_values(others[0])
    share, other_share = _share_in(known, first), _share_in(known, second)
    are_scores = _are_floats(first) and not _are_floats(second) and other_share >= share
    if other_share and (are_scores or not share):
        raise TypeError(
            f"{name}.recommend returned a tuple whose second array has the item ids (such "
            f"as {plain(second[0])!r}) and whose first has scores (such as "
            f"{plain(first[0])!r}); it must return (ids, scores)."
        )


def objects(ids: Any) -> np.ndarray:
    """Ids as an array of objects, also if they are tuples."""
    return np.fromiter(ids, dtype=object, count=len(ids))


def plain(value: Any) -> Any:
    """A scalar of NumPy as one of Python, for messages."""
    return value.item() if isinstance(value, np.generic) else value


def _is_collection(value: Any) -> bool:
    """Whether this can be the items of a user."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    if isinstance(value, Mapping | str | bytes) or is_frame(value) or sp.issparse(value):
        return False
    return isinstance(value, Collection)


def _is_sequence(value: Any) -> bool:
    """Whether this can be a ranking."""
    return _is_collection(value) and not isinstance(value, Set)


def _has_rows(answers: Any, n: int, is_row: Callable[[Any], bool]) -> bool:
    return _is_sequence(answers) and len(answers) == n and all(map(is_row, answers))


def _form(answers: Any, is_row: Callable[[Any], bool]) -> str:
    """What an answer is, for messages."""
    form = f"a {type(answers).__name__}"
    if not _is_sequence(answers):
        return f"{form} of {len(answers)} rows" if is_frame(answers) else form
    others = [type(row).__name__ for row in answers if not is_row(row)]
    of = f", one of them of type {others[0]}," if others else ""
    return f"{form} of {len(answers)} rows{of}"


def _first_values(rows: Any) -> np.ndarray:
    """The first values of the first rows that are not padding, as objects."""
    values = [v for row in islice(rows, _N_LOOKED_AT) for v in islice(row, _N_LOOKED_AT)]
    return objects([v for v in values if np.ndim(v) or not pd.isna(v)])


def _are_floats(values: np.ndarray) -> bool:
    return bool(len(values)) and all(isinstance(v, float | np.floating) for v in values)


def _share_in(known: pd.Index, ids: np.ndarray) -> float:
    if not len(ids) or any(isinstance(v, list | np.ndarray) for v in ids):
        return 0.0
    return float((known.get_indexer(pd.Index(ids).infer_objects()) >= 0).mean())
