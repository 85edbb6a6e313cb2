"""Ids that are compared with the known ones: warnings and errors if their types differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.vocabulary import Ids, Vocabulary
from sktwotower.utils._ids import described, kinds_of, number_in
from sktwotower.utils._warnings import warn


def other_kinds(unknown: np.ndarray, vocabulary: Vocabulary) -> str:
    """What to say of unknown ids that cannot be known because of their type; else "".

    An id has another kind if no known id has it (a string among numbers), or if the id
    is known in another spelling ("100" where both numbers and strings are known).
    """
    if not len(unknown) or not len(vocabulary):
        return ""
    known = vocabulary.kinds
    other = {kind: first for kind, first in kinds_of(unknown).items() if kind not in known}
    if not other and len(known) > 1:
        other = kinds_of(_known_in_another_spelling(unknown, vocabulary))
    if not other:
        return ""
    return (
        f"they are of type {described(other)}, where the known ones are of type "
        f"{described(known)}; {_what_to_do(other, known)}"
    )


def warn_of_unknown(
    ids: np.ndarray,
    codes: np.ndarray,
    vocabulary: Vocabulary,
    *,
    where: str,
    what: str,
    then: str | None = None,
) -> None:
    """Warn of unknown ids: of all, or of those whose type differs from the known ones'.

    Parameters
    ----------
    ids, codes : ndarray of shape (n,)
        Ids and their codes; 0 for unknown ones.
    vocabulary : Vocabulary
        The known ids.
    where : str
        The argument or the column, for the message.
    what : str
        What an id is: ``"user id"``.
    then : str, optional
        What becomes of unknown ids: ``"are left out"``. None: unknown ids are normal, and
        the warning is of another type only.
    """
    n_unknown = int((codes == 0).sum())
    if not n_unknown:
        return
    reason = other_kinds(ids[codes == 0], vocabulary)
    if not reason and then is None:
        return
    result = f" and {then}" if then else ""
    reason = f": {reason}" if reason else ""
    warn(
        f"{n_unknown} of the {len(codes)} {what}s of {where} are not known{result}{reason}."
    )


def refuse_other_kinds(ids: Ids, vocabulary: Vocabulary, *, where: str, what: str) -> None:
    """Raise ValueError for ids to learn from whose type differs from the known ones'.

    None of them is known and none has the type of a known one; or some are numbers where
    strings that look like numbers are known, or the other way round.
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
            f"{_what_to_do(kinds, known)}."
        )
    _refuse_numbers_and_spelled_ones(
        new, vocabulary.ids, f"{where} and the known {what}s together have"
    )


def refuse_mixed(ids: Ids, *, where: str, what: str) -> None:
    """Raise ValueError for a column of numbers and of strings that look like numbers."""
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


def _known_in_another_spelling(unknown: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Strings whose number is known, and numbers whose string is."""
    pairs = [
        (value, str(value) if number is None else number)
        for value in unknown.tolist()
        if isinstance(value, str | int | float)
        and ((number := number_in(value)) is not None or not isinstance(value, str))
    ]
    values, others = (np.empty(len(pairs), dtype=object) for _ in range(2))
    values[:], others[:] = [v for v, _ in pairs], [o for _, o in pairs]
    return values[vocabulary.codes(others) > 0]


def _what_to_do(given: dict[str, Any], known: dict[str, Any]) -> str:
    if set(given) == {"string"} and set(known) == {"number"}:
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
