"""Names that are misspelt, and what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any


def close_name(name: Any, options: Collection) -> str | None:
    """The option that has the same meaning but for its spelling; None: there is none.

    Names that differ in capitals, spaces and the like are the same. Names that differ in
    digits are not, since they count columns.
    """
    if not isinstance(name, str):
        return None
    plain = {option: _plain(option) for option in options if isinstance(option, str)}
    wanted = _plain(name)
    same = [option for option, text in plain.items() if text == wanted]
    if same or not wanted:
        return same[0] if same else None
    similar = {
        text: option
        for option, text in plain.items()
        if text[:1] == wanted[0]
        and abs(len(text) - len(wanted)) <= 2
        and _letters(text) != _letters(wanted)
    }
    found = difflib.get_close_matches(wanted, similar, n=1, cutoff=0.75)
    return similar[found[0]] if found else None


def did_you_mean(name: Any, options: Collection) -> str:
    """``" Did you mean 'user_id'?"``, or nothing; ``name`` is not among the options."""
    option = close_name(name, options)
    return "" if option is None else f" Did you mean {option!r}?"


def any_meant(names: Iterable, options: Collection) -> str:
    """`did_you_mean` of the first of some names that is not an option, but close to one."""
    lacking = (n for n in names if isinstance(n, str) and n not in options)
    return next(filter(None, (did_you_mean(name, options) for name in lacking)), "")


def meant_by(wanted: Any, names: Collection) -> str:
    """``" Did you mean 'user_id' by 'userId'?"``, or nothing; ``wanted`` is lacking."""
    name = close_name(wanted, names)
    return "" if name is None else f" Did you mean {wanted!r} by {name!r}?"


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _letters(plain: str) -> str:
    return "".join(letter for letter in plain if not letter.isdigit())
