"""The processes that save a model together, of which each has a shard of the users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sktwotower._nn.distributed import Ranks, expect_shard
from sktwotower._training.state import ModelState

Result = TypeVar("Result")


@dataclass(frozen=True)
class SavingGroup:
    """Some processes, or one that saves alone.

    Each method is called by all processes. An error of one of them is an error of all.

    Attributes
    ----------
    ranks : Ranks or None
        The processes; None: there is one.
    """

    ranks: Ranks | None

    @classmethod
    def of(cls, state: ModelState) -> SavingGroup:
        """The processes that have the shards of a model.

        Raises
        ------
        ValueError
            If these are not the processes of the process group.
        """
        if state.shard is None:
            return cls(None)
        ranks, shard = Ranks.current(), state.shard.shard
        expect_shard(
            shard,
            ranks,
            f", so that {shard.size} processes save it together: call save in all of them, "
            "before destroy_process_group.",
        )
        return cls(ranks)

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all of them know."""
        return self.ranks is None or self.ranks.rank == 0

    def on_all(self, call: Callable[[], Result]) -> Result:
        """What a call returns in this process."""
        return call() if self.ranks is None else self.ranks.on_all(call)

    def on_first(self, call: Callable[[], Result]) -> Result | None:
        """What a call returns in the first process; None in the others."""
        return self.on_all(lambda: call() if self.is_first else None)

    def gathered(self, own: Any) -> list[Any]:
        """An object of each process."""
        return [own] if self.ranks is None else list(self.ranks.objects(own))

    def refuse_no_folder(self, folder: Path) -> None:
        """Raise an error if a process does not see what the first one has made."""
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}, which the first process has made, is not there: give a path "
                "that all processes see."
            )
