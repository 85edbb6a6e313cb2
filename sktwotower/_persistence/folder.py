"""A directory of files with checksums, which a save replaces at once or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sktwotower._persistence.manifest import (
    CARD,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    VERSION_FOLDER,
    ArtefactError,
    Json,
    checksum_of,
    open_regular,
    parse,
)
from sktwotower.utils._paths import new_directory, refuse_dangling_link

# The file by which a version folder is known as one of an artefact.
MARK = "mark.json"
# A save that was killed leaves a folder that no manifest names. A younger folder may
# belong to a save in progress.
_ORPHAN_SECONDS = 3600.0


@contextmanager
def new_version(path: Path) -> Iterator[tuple[Path, dict[str, Json]]]:
    """A folder to write files into, and the manifest to fill.

    They become the artefact when the block ends. If it raises, or if the disk is full,
    everything is as it was before.

    Raises
    ------
    ValueError
        If there is something else at the path.
    """
    artefact = artefact_at(path)
    folder = path / f"version-{uuid.uuid4().hex}"
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "artefact": artefact,
        "folder": folder.name,
    }
    with new_directory(folder):
        _write(folder / MARK, _mark(artefact, folder).encode())
        yield folder, manifest
        manifest["files"] = seal(folder)
        before = _commit(path, manifest)
    _remove_old_versions(path, manifest, before)


def artefact_at(path: Path) -> str:
    """The mark of the artefact that a save at a path makes or replaces.

    Raises
    ------
    ValueError
        If there is something else at the path.
    """
    refuse_dangling_link(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; save writes a directory. Give another path.")
    return _artefact_id(path, _manifest_before(path))


def seal(folder: Path) -> dict[str, list]:
    """Make sure that the files are on the disk; sizes and checksums of all but the card."""
    files = {}
    for file in sorted(folder.iterdir()):
        with open(file, "r+b") as stream:
            os.fsync(stream.fileno())
            size = os.fstat(stream.fileno()).st_size
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        if file.name != CARD:
            files[file.name] = [size, checksum]
    return files


def _manifest_before(path: Path) -> bytes | None:
    """The manifest that a save would replace; None without one.

    Raises
    ------
    ValueError
        If it belongs to another user, or there are only other things.
    """
    if not path.exists():
        return None
    file = path / MANIFEST
    if not os.path.lexists(file):
        others = [e for e in path.iterdir() if not VERSION_FOLDER.fullmatch(e.name)]
        if others and not any(_mark_of(entry) for entry in path.iterdir()):
            raise ValueError(
                f"{path} is a directory with other things in it and without an artefact; "
                "give a path that is new, empty or an artefact."
            )
        return None
    try:
        with open_regular(file, within=path) as stream:
            content = stream.read()
        try:
            is_ours = parse(content, file).get("format") == FORMAT
        except ArtefactError:  # damaged
            is_ours = any(_mark_of(entry) for entry in path.iterdir())
    except (ArtefactError, AttributeError):
        is_ours = False
    if not is_ours:
        raise ValueError(
            f"{path} is not an artefact of sktwotower: {file} is the manifest of something "
            "else. Give another path."
        )
    return content


def _artefact_id(path: Path, before: bytes | None) -> str:
    """The mark of the artefact at a path, or a new one."""
    if before is not None:
        try:
            return str(uuid.UUID(parse(before, path / MANIFEST)["artefact"]).hex)
        except (KeyError, ValueError, AttributeError, TypeError):
            pass
    # A first save that was killed has left a folder, or the manifest is damaged.
    marks = [_mark_of(entry) for entry in path.iterdir()] if path.exists() else []
    return next((mark for mark in marks if mark), uuid.uuid4().hex)


def _mark(artefact: str, folder: Path) -> str:
    mark = {"format": FORMAT, "artefact": artefact, "folder": folder.name}
    return json.dumps(mark)


def _mark_of(folder: Path) -> str | None:
    """The artefact that a folder is a version of; None for any other folder or file."""
    if not VERSION_FOLDER.fullmatch(folder.name) or folder.is_symlink():
        return None
    try:
        with open_regular(folder / MARK, within=folder) as stream:
            mark = parse(stream.read(), folder / MARK)
        is_ours = mark["format"] == FORMAT and mark["folder"] == folder.name
        return uuid.UUID(mark["artefact"]).hex if is_ours else None
    except (ValueError, LookupError, AttributeError, TypeError):
        return None


def _commit(path: Path, manifest: dict[str, Json]) -> bytes | None:
    """Rename a manifest into place; the one before.

    If the new one would not last, the one before is put back.
    """
    folder = path / manifest["folder"]
    manifest["sha256"] = checksum_of(manifest)
    text = json.dumps(manifest, indent=1, ensure_ascii=True)
    _write(folder / MANIFEST, text.encode())
    _sync_directory(folder)
    _sync_directory(path)
    before = _manifest_before(path)  # another save may have replaced it meanwhile
    os.replace(folder / MANIFEST, path / MANIFEST)
    try:
        _sync_directory(path)
    except BaseException:
        if before is None:
            (path / MANIFEST).unlink()
        else:
            _write(folder / MANIFEST, before)
            os.replace(folder / MANIFEST, path / MANIFEST)
        raise
    return before


def _remove_old_versions(
    path: Path, manifest: dict[str, Json], before: bytes | None
) -> None:
    """Remove the version before, and what killed saves left."""
    replaced = None
    if before is not None:
        try:
            replaced = parse(before, path / MANIFEST).get("folder")
        except ArtefactError:  # a damaged one
            pass
    for other in path.iterdir():
        is_over = other.name == replaced or _age(other) > _ORPHAN_SECONDS
        is_ours = is_over and _mark_of(other) == manifest["artefact"]
        if is_ours and other.name != manifest["folder"]:
            shutil.rmtree(other, ignore_errors=True)  # another save may remove it, too


def _age(entry: Path) -> float:
    try:
        return time.time() - entry.stat().st_mtime
    except OSError:  # another save removed it
        return 0.0


def _write(file: Path, content: bytes) -> None:
    """Write a file that is on the disk afterwards."""
    with open(file, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_directory(path: Path) -> None:
    if os.name != "posix":  # elsewhere a directory cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
