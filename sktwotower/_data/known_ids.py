"""Ids that are compared with the known ones: warnings and errors if their types differ."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.vocabulary import Ids, Vocabulary
from sktwotower.utils._ids import described, kinds_of, number_in
from sktwotower.utils._warnings import warn


def other_kinds(
    ids: np.ndarray,
    codes: np.ndarray,
    vocabulary: Vocabulary,
    *,
    known_as: str = "known",
    known_ones: str = "the known ones",
) -> tuple[str, int]:
    """What to say of ids that are unknown because of their type, and how many there are.

    Either no id is known and none has the type of a known one; or some are known in
    another spelling ("100" where 100 is known). Nothing is said otherwise: ``("", 0)``.
    """
    unknown = ids[codes == 0]
    if not len(unknown) or not len(vocabulary):
        return "", 0
    known, other = vocabulary.kinds, kinds_of(unknown)
    if len(known) == 1 and set(other) == set(known):
        return "", 0
    if len(unknown) == len(ids) and not set(other) & set(known):
        reason = (
            f"they are of type {described(other)}, where {known_ones} are of type "
            f"{described(known)}; {_what_to_do(other, known)}"
        )
        return reason, len(unknown)
    values, spellings = _known_in_another_spelling(unknown, vocabulary)
    if not len(values):
        return "", 0
    reason = (
        f"{values[0]!r} is not {known_as}, and {spellings[0]!r} is; "
        f"{_what_to_do(kinds_of(values), known)}"
    )
    return reason, int((Vocabulary(values).codes(unknown) > 0).sum())


def warn_of_unknown(
    ids: np.ndarray,
    codes: np.ndarray,
    vocabulary: Vocabulary,
    *,
    side: str,
    subject: str,
    then: str | None = None,
) -> None:
    """Warn of unknown ids: of all, or if their type differs from the known ones'.

    Parameters
    ----------
    ids, codes : ndarray of shape (n,)
        Ids and their codes; 0 for unknown ones.
    vocabulary : Vocabulary
        The known ids.
    side : {"user", "item"}
        What they are ids of.
    subject : str
        The ids and the argument or column that has them: ``"user ids of history"``.
    then : str, optional
        What becomes of unknown ids: ``"are left out"``. None: unknown ids are normal, and
        the warning is of another type only.
    """
    n_unknown = int((codes == 0).sum())
    if not n_unknown:
        return
    reason, n_of_reason = other_kinds(ids, codes, vocabulary)
    if not reason and then is None:
        return
    n = n_unknown if then else n_of_reason
    result = f" and {then}" if then else ""
    if reason:
        result += f": {reason}" if n == n_of_reason else f"; {n_of_reason} since {reason}"
    warn(f"{n} of {len(codes)} {subject} are not known {side}s{result}.")


def warn_of_other_queries(
    ids: np.ndarray, codes: np.ndarray, asked: Vocabulary, side: str, argument: str
) -> None:
    """Warn of rows of an argument whose ids have another type than those asked for."""
    reason, _ = other_kinds(
        ids, codes, asked, known_as="one", known_ones="those of the query"
    )
    if reason:
        warn(
            f"Rows of {argument} have {side} ids that are not among those of the query: "
            f"{reason}."
        )


def refuse_other_kinds(
    ids: Ids, vocabulary: Vocabulary, *, where: str, what: str, or_else: str = ""
) -> None:
    """Raise ValueError for ids to learn from whose type differs from the known ones'.

    None of them is known and none has the type of a known one; or some are numbers where
    strings that look like numbers are known, or the other way round. ``or_else`` is a
    further thing that the caller can do, for the message.
    """
    distinct = _distinct(ids)
    codes = vocabulary.codes(distinct)
    new = distinct[codes == 0]
    if not len(new) or not len(vocabulary):
        return
    known = vocabulary.kinds
    kinds = kinds_of(distinct)
    if not (codes > 0).any() and not set(kinds) & set(known):
        raise ValueError(
            f"None of the {len(distinct)} {what}s of {where} is known: they are of type "
            f"{described(kinds)}, where the known ones are of type {described(known)}; "
            f"{_what_to_do(kinds, known)}{or_else}."
        )
    _refuse_numbers_and_spelled_ones(
        new, vocabulary.ids, f"{where} and the known {what}s together have"
    )


def refuse_ids_in_index(
    X: pd.DataFrame | pd.Series,
    names: Sequence[Any],
    vocabulary: Vocabulary,
    *,
    where: str,
    side: str,
) -> None:
    """Raise ValueError for rows without known ids whose index has some.

    Numbers do not count, since an index of numbers often counts rows.

    Parameters
    ----------
    X : DataFrame or Series
        Rows without ids, or values of which none is known.
    names : sequence of str or int
        Names that a column of ids may have.
    vocabulary : Vocabulary
        The known ids.
    where, side : str
        Name of the argument and what its ids are of, for the message.
    """
    for level in range(X.index.nlevels):
        labels = X.index.get_level_values(level)
        if pd.api.types.is_numeric_dtype(labels.dtype):
            continue
        ids = labels.to_numpy(dtype=object)
        known = [v for v in ids[vocabulary.codes(ids) > 0] if not isinstance(v, Number)]
        if not known:
            continue
        rename = "".join(f".rename_axis({name!r})" for name in names[:1])
        hint = f"give {where}{rename}.reset_index() with the ids in a column"
        if isinstance(X, pd.Series):
            hint = f"give {where}.index for these ids"
        raise ValueError(
            f"The index of {where} has ids of known {side}s, such as {known[0]!r}, and "
            f"{'its values are not' if isinstance(X, pd.Series) else 'no column has ids'}; "
            f"{hint}, or {where}.reset_index(drop=True) if the rows are new {side}s."
        )


def refuse_mixed(ids: Ids, *, where: str, what: str) -> None:
    """Raise ValueError for a column of numbers and of strings that look like numbers."""
    values = ids.categories if isinstance(ids, pd.Categorical) else ids
    if values.dtype != object or not {"number", "string"} <= set(kinds_of(values)):
        return
    distinct = _distinct(ids)
    _refuse_numbers_and_spelled_ones(distinct, distinct, f"{where} has {what}s that are")


def _refuse_numbers_and_spelled_ones(
    one: np.ndarray, other: np.ndarray, subject: str
) -> None:
    for some, more in ((one, other), (other, one)):
        if some.dtype == object and "number" in kinds_of(more):
            spelled = next((v for v in some if number_in(v) is not None), None)
            if spelled is not None:
                number = kinds_of(more)["number"]
                both = described({"number": number, "string": spelled})
                raise ValueError(
                    f"{subject} {both}; {number!r} and {str(number)!r} would be two ids. "
                    "Make them of one type, with astype(str) or pandas.to_numeric, and "
                    "read files with a dtype for this column."
                )


def _known_in_another_spelling(
    unknown: np.ndarray, vocabulary: Vocabulary
) -> tuple[np.ndarray, np.ndarray]:
    """Strings whose number is known, and numbers whose string is; and what is known."""
    pairs = [
        (value, str(value) if number is None else number)
        for value in pd.unique(unknown).tolist()
        if isinstance(value, str | int | float)
        and ((number := number_in(value)) is not None or not isinstance(value, str))
    ]
    values, others = (np.empty(len(pairs), dtype=object) for _ in range(2))
    values[:], others[:] = [v for v, _ in pairs], [o for _, o in pairs]
    are_known = vocabulary.codes(others) > 0
    return values[are_known], others[are_known]


def _what_to_do(given: dict[str, Any], known: dict[str, Any]) -> str:
    if set(known) == {"number"} and number_in(given.get("string")) is not None:
        return "convert them, with pandas.to_numeric or astype(int)"
    if set(known) == {"string"}:
        return "convert them, with astype(str)"
    if set(given) == {"string"} and "datetime" in next(iter(known)):
        return "convert them, with pandas.to_datetime"
    return "give ids of one type"


def _distinct(ids: Ids) -> np.ndarray:
    if isinstance(ids, pd.Categorical):
        return ids.categories.to_numpy()
    distinct: np.ndarray = pd.unique(ids)
    return distinct
