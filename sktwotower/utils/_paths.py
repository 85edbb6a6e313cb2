"""Paths that users name, and directories that are made whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def path_of(path: str | os.PathLike) -> Path:
    """The path that a user means; ``~`` is the home directory.

    Raises
    ------
    ValueError
        If no file can have this name.
    """
    text = os.path.expanduser(os.fsdecode(path))
    try:
        if b"\0" not in os.fsencode(text):
            return Path(text)
    except UnicodeEncodeError:  # a lone surrogate
        pass
    raise ValueError(f"No file can be called {text!r}; give another path.")


def refuse_dangling_link(path: Path) -> None:
    """Raise ValueError for a link to nothing."""
    if path.is_symlink() and not path.exists():
        raise ValueError(
            f"{path} is a link to {os.readlink(path)}, which does not exist; make that "
            "directory, remove the link or give another path."
        )


@contextmanager
def new_directory(path: Path) -> Iterator[None]:
    """Make a directory, or take an empty one, to write files into.

    If the block raises, its content is removed, and every directory that was made.
    """
    new = [parent for parent in (path, *path.parents) if not parent.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        if path.is_dir():
            for entry in path.iterdir():
                _remove(entry)
        for parent in new:
            try:
                parent.rmdir()
            except OSError:  # it was not made, or belongs to another process by now
                continue
        raise


def _remove(entry: Path) -> None:
    """Remove a file or directory; an error would hide the one that is being raised."""
    try:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    except OSError:
        pass
