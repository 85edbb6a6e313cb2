"""Small classes that hold tensors or arrays together."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, dataclass_transform


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
class Record:
    """Subclasses are dataclasses whose fields are set once, equal only to themselves.

    ``==`` of tensors and arrays has no one answer. And of each class that is imported,
    ``dataclass(frozen=True)`` compiles six functions, this one.
    """

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        super().__init_subclass__()
        dataclass(eq=False, repr=False, kw_only=kw_only)(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)
