"""Pairs of users and items in the forms in which people have them, beside rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from sktwotower.utils._columns import Column, as_pandas, id_array
from sktwotower.utils._forms import as_listed, given, how_to_list, is_scalar


def ungrouped(X: Any) -> Any:
    """Groups of pandas as the frame, or as a Series of the lists of each group.

    The levels of an index become a frame.
    """
    if isinstance(X, pd.MultiIndex):
        return X.to_frame(index=False)
    if isinstance(X, pd.api.typing.DataFrameGroupBy):
        return X.obj
    if isinstance(X, pd.api.typing.SeriesGroupBy):
        return X.agg(list)
    return X


def chosen(X: pd.Series) -> pd.Series:
    """The entries that are True, if all of them are True, False or missing."""
    is_mask = pd.api.types.infer_dtype(X, skipna=True) == "boolean"
    return X[X.astype("boolean").fillna(False)] if is_mask else X


def is_list(value: Any) -> bool:
    """Whether a value is several ids; a tuple is one, since it can be hashed."""
    return isinstance(value, list | Set | Iterator) or (
        not isinstance(value, tuple | Mapping) and np.ndim(value) == 1
    )


def has_lists(values: Iterable[Any]) -> bool:
    """Whether one of the values is several ids."""
    dtype = getattr(values, "dtype", object)
    if dtype is not object and dtype != np.dtype(object) and "list" not in str(dtype):
        return False
    return any(map(is_list, _one_of_each_type(values)))


def are_lists(values: Iterable[Any]) -> bool:
    """Whether each of the values is several ids."""
    return all(map(is_list, _one_of_each_type(values)))


def _one_of_each_type(values: Iterable[Any]) -> Iterable[Any]:
    return {type(value): value for value in values}.values()


def pairs_by_id(
    X: Any,
    names: Sequence[Column],
    others: Sequence[Column],
    *,
    where: str,
    what: tuple[str, str],
    ordered: bool = False,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Pairs from ids by the id of a user, or of an item; None if X is something else.

    Parameters
    ----------
    X : dict or Series
        Lists of ids by id; or a Series of ids with an index that is named like the column
        of ids, or has a level that is.
    names, others : sequence of str
        Names of the column of the ids that are keys, and of the other column of ids. If
        both are levels of an index, each entry is a pair, and its value, such as a count,
        does not matter, unless it is False or missing in a mask.
    where : str
        Name of X, for messages.
    what : tuple of str
        What keys and values are, for messages: ``("user id", "item id")``.
    ordered : bool, default=False
        Whether the order of each list matters, so that sets are refused.

    Returns
    -------
    keys, values : ndarray of shape (n_pairs,)
        The ids of each pair. Missing values, which pad lists, are left out.
    """
    if isinstance(X, Mapping):
        columns = [name for name in (*names, *others) if name in X]
        if columns:
            raise ValueError(
                f"{where} is a dict with the columns {columns}; make it a frame, with "
                "pandas.DataFrame(...)."
            )
        keys: Any = list(X)
        lists = [_listed(v, f"{where}[{k!r}]", ordered) for k, v in X.items()]
    elif isinstance(X, pd.Series):
        level: Any = next((name for name in X.index.names if name in names), None)
        if level is None and isinstance(X.index, pd.MultiIndex):
            raise ValueError(
                f"{where} is a Series with the index levels {list(X.index.names)}, none of "
                f"which is called like a column of {what[0]}s ({_either(names)}); rename "
                "one, or give a frame of pairs."
            )
        other: Any = next((name for name in X.index.names if name in others), None)
        if level is not None and other is not None:
            pairs = chosen(X).index
            return (
                id_array(pairs.get_level_values(level), what=what[0], where=where),
                id_array(pairs.get_level_values(other), what=what[1], where=where),
            )
        if level is None and not has_lists(X):
            return None
        keys = X.index.get_level_values(level or 0)
        if not has_lists(X):
            ids = id_array(keys, what=what[0], where=f"The index of {where}")
            return ids, id_array(X, what=what[1], where=where)
        lists = [
            _listed(v, f"{where}[{k!r}]", ordered) for k, v in zip(keys, X, strict=True)
        ]
    else:
        return None
    numbers, flat = flat_lists(lists, what=what[1], where=where)
    ids = id_array(keys, what=what[0], where=f"The keys of {where}")
    return ids[numbers], flat


def flat_lists(
    lists: Sequence[Any] | np.ndarray, *, what: str, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Number of its list, and id, of each id of some lists.

    Missing ids, which pad the rows of an array, are left out. Messages call an id ``what``.
    """
    if isinstance(lists, np.ndarray):
        flat = pd.Series(lists.ravel())
    else:
        flat = pd.Series(list(chain.from_iterable(lists)), dtype=object)
    numbers = np.repeat(np.arange(len(lists)), [len(ids) for ids in lists])
    is_id = flat.notna().to_numpy()
    return numbers[is_id], id_array(flat[is_id], what=what, where=where)


def _listed(value: Any, where: str, ordered: bool) -> Any:
    """A list of ids; an empty one for a missing value."""
    value = as_pandas(value, where=where)
    if ordered and isinstance(value, Set):
        raise ValueError(
            f"{where} is {given(value)}, which has no order; give a list in the order of "
            "time."
        )
    value = as_listed(value)
    if isinstance(value, tuple) or is_list(value):
        return value
    if is_scalar(value) and pd.isna(value):
        return []
    raise ValueError(
        f"{where} must be a list of ids; got {given(value)}. {how_to_list(value)}"
    )


def _either(names: Sequence[Column]) -> str:
    return " or ".join(map(repr, names)) or "X has no names"
