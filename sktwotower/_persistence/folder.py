"""A directory of files with checksums, which a save replaces at once or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORMAT = "sktwotower"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
# What JSON can hold: what the manifest says of a part of the model.
Json = Any

_FOLDER = re.compile(r"version-[0-9a-f]{32}")
# A save that was killed leaves a folder that no manifest names. A younger folder may
# belong to a save in progress.
_ORPHAN_SECONDS = 3600.0


class ArtefactError(ValueError):
    """An artefact cannot be read; the message says why."""


@contextmanager
def reading(file: str) -> Iterator[None]:
    """Turn any error about the content of a file into an ArtefactError with its name."""
    try:
        yield
    except (ArtefactError, FileNotFoundError):
        raise
    except Exception as error:
        raise ArtefactError(
            f"{file} of the artefact cannot be read: {type(error).__name__}: {error}"
        ) from error


def expect(holds: bool, file: str, otherwise: str) -> None:
    """Raise ArtefactError unless a condition on the content of a file holds."""
    if not holds:
        raise ArtefactError(f"{file} {otherwise}; the artefact was not written by save.")


@contextmanager
def new_version(path: Path) -> Iterator[tuple[Path, dict[str, Json]]]:
    """A folder to write files into, and the manifest to fill.

    They become the artefact when the block ends. If it raises, the folder is removed.

    Raises
    ------
    ValueError
        If there is something else at the path.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; save writes a directory. Give another path.")
    is_new = not path.exists()
    if not is_new and any(path.iterdir()) and not _versions(path):
        raise ValueError(
            f"{path} is a directory with other things in it and without an artefact; "
            "give a path that is new, empty or an artefact."
        )
    folder = path / f"version-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    content: dict[str, Json] = {}
    try:
        yield folder, content
        checksums = {file.name: _seal(file) for file in sorted(folder.iterdir())}
    except BaseException:
        shutil.rmtree(folder)
        if is_new:
            path.rmdir()
        raise
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "folder": folder.name}
    _commit(path, manifest | content | {"files": checksums})


def _commit(path: Path, manifest: dict[str, Json]) -> None:
    """Rename a manifest into place, then remove the version before."""
    folder = path / manifest["folder"]
    manifest["sha256"] = _checksum_of(manifest)
    text = json.dumps(manifest, indent=1, ensure_ascii=True)
    (folder / MANIFEST).write_text(text)
    _seal(folder / MANIFEST)
    _sync_directory(folder)
    _sync_directory(path)
    try:
        before = read_manifest(path)["folder"]
    except ArtefactError:  # none yet, or a damaged one, which is about to be replaced
        before = None
    os.replace(folder / MANIFEST, path / MANIFEST)
    _sync_directory(path)
    for other in _versions(path):
        is_over = other.name == before or _age(other) > _ORPHAN_SECONDS
        if is_over and other != folder:
            shutil.rmtree(other, ignore_errors=True)  # another save may remove it, too


def read_manifest(path: Path) -> dict[str, Json]:
    """The manifest of an artefact, checked.

    Raises
    ------
    FileNotFoundError, ArtefactError
        If there is none, or one that cannot be read.
    """
    file = path / MANIFEST
    if not path.exists():
        raise FileNotFoundError(f"There is no artefact at {path}: it does not exist.")
    if not file.is_file():
        what = f"has no {MANIFEST}" if path.is_dir() else "is no directory"
        raise ArtefactError(f"{path} is no artefact of sktwotower: it {what}.")
    try:
        manifest = json.loads(file.read_bytes())
    except ValueError as error:  # neither UTF-8 nor JSON
        raise ArtefactError(f"{file} is damaged: it is no JSON ({error}).") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtefactError(f"{file} is no manifest of sktwotower.")
    version = manifest.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ArtefactError(
            f"{path} has format {version}, which is newer than {FORMAT_VERSION}, the one "
            "that this version of sktwotower reads; install a newer one."
        )
    if version != FORMAT_VERSION:
        raise ArtefactError(
            f"{path} has format {version}, which a development version of sktwotower "
            f"wrote; this version reads format {FORMAT_VERSION}. Fit the model again and "
            "save it."
        )
    checksum = manifest.pop("sha256", None)
    if checksum != _checksum_of(manifest):
        raise ArtefactError(
            f"{file} is not what was saved: its checksum differs from the one that it "
            "states. Save the model again, or take another copy."
        )
    if not _FOLDER.fullmatch(str(manifest["folder"])):
        raise ArtefactError(f"{file} names the folder {manifest['folder']!r}.")
    return manifest


def checked_folder(path: Path, manifest: dict[str, Json]) -> Path:
    """The folder with the files, all of which are what the manifest says.

    Raises
    ------
    FileNotFoundError, ArtefactError
        If one is missing, was changed, or is not in the manifest.
    """
    folder = path / manifest["folder"]
    there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    extra = there - set(manifest["files"])
    if extra:
        raise ArtefactError(
            f"{folder} has files that are not in the manifest: {sorted(extra)}. The "
            "artefact was changed after it was saved."
        )
    for name, checksum in manifest["files"].items():
        if name not in there:
            raise FileNotFoundError(
                f"{folder / name} is missing; the artefact is not whole."
            )
        with open(folder / name, "rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != checksum:
                raise ArtefactError(
                    f"{folder / name} is not what was saved: its checksum differs from "
                    "that in the manifest. Save the model again, or take another copy."
                )
    return folder


def _versions(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if _FOLDER.fullmatch(entry.name)]


def _age(entry: Path) -> float:
    try:
        return time.time() - entry.stat().st_mtime
    except FileNotFoundError:  # another save removed it
        return 0.0


def _checksum_of(manifest: dict[str, Json]) -> str:
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _seal(file: Path) -> str:
    """Make sure that a file is on the disk, and return its checksum."""
    with open(file, "r+b") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync_directory(path: Path) -> None:
    if os.name != "posix":  # elsewhere a directory cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
