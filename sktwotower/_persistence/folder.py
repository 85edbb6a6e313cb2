"""A directory of files with checksums, which a save replaces at once or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORMAT = "sktwotower"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
# What the manifest says of a part of the model: the keys are plain, the values are JSON.
Description = dict[str, Any]

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


class Writer:
    """Writes files into a new folder, which becomes the artefact with ``commit``.

    Parameters
    ----------
    path : Path
        Directory of the artefact; it may contain a version already.

    Raises
    ------
    ValueError
        If there is something else at the path.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise ValueError(
                f"{path} is a file; save writes a directory. Give another path."
            )
        self._is_new = not path.exists()
        if not self._is_new and any(path.iterdir()) and not _versions(path):
            raise ValueError(
                f"{path} is a directory with other things in it and without an artefact; "
                "give a path that is new, empty or an artefact."
            )
        self._path = path
        self._folder = path / f"version-{uuid.uuid4().hex}"
        self._folder.mkdir(parents=True)
        self._checksums: dict[str, str] = {}

    def write(self, name: str, content: bytes) -> None:
        """Add a file."""
        _write_through(self._folder / name, content)
        self._checksums[name] = _sha256(content)

    def commit(self, description: Description) -> None:
        """Rename the manifest into place, then remove the version before."""
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "folder": self._folder.name,
            **description,
            "files": self._checksums,
        }
        manifest["sha256"] = _checksum_of(manifest)
        text = json.dumps(manifest, indent=1, ensure_ascii=True)
        _write_through(self._folder / MANIFEST, text.encode())
        _sync_directory(self._folder)
        _sync_directory(self._path)
        before = _current_folder(self._path)
        os.replace(self._folder / MANIFEST, self._path / MANIFEST)
        _sync_directory(self._path)
        for folder in _versions(self._path):
            is_over = folder.name == before or _age(folder) > _ORPHAN_SECONDS
            if is_over and folder != self._folder:
                shutil.rmtree(folder, ignore_errors=True)  # another save may remove it, too

    def abandon(self) -> None:
        """Remove the new folder."""
        shutil.rmtree(self._folder)
        if self._is_new:
            self._path.rmdir()


class Reader:
    """Reads the files of an artefact; each is checked against its checksum.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no artefact, or one that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.manifest = read_manifest(path)
        self._folder = path / self.manifest["folder"]
        self._checksums: Mapping[str, str] = self.manifest["files"]
        if self._folder.is_dir():
            extra = {entry.name for entry in self._folder.iterdir()} - set(self._checksums)
            if extra:
                raise ArtefactError(
                    f"{self._folder} has files that are not in the manifest: "
                    f"{sorted(extra)}. The artefact was changed after it was saved."
                )

    def __contains__(self, name: str) -> bool:
        return name in self._checksums

    def read(self, name: str) -> bytes:
        """The content of a file."""
        if name not in self._checksums:
            raise ArtefactError(f"The manifest does not list the file {name}.")
        try:
            content = (self._folder / name).read_bytes()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self._folder / name} is missing; the artefact is not whole."
            ) from error
        if _sha256(content) != self._checksums[name]:
            raise ArtefactError(
                f"{self._folder / name} is not what was saved: its checksum differs from "
                "the one in the manifest. Save the model again, or take another copy."
            )
        return content


def read_manifest(path: Path) -> Description:
    """The manifest of an artefact, checked.

    Raises
    ------
    FileNotFoundError, ValueError
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
    if version == 1:
        raise ArtefactError(
            f"{path} has format 1, which a development version of sktwotower wrote; this "
            f"version reads format {FORMAT_VERSION}. Fit the model again and save it."
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


def _versions(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if _FOLDER.fullmatch(entry.name)]


def _current_folder(path: Path) -> str | None:
    """The folder that the manifest names; None without a manifest that can be read."""
    try:
        return str(read_manifest(path)["folder"])
    except ArtefactError:  # none yet, or a damaged one, which is about to be replaced
        return None


def _age(entry: Path) -> float:
    try:
        return time.time() - entry.stat().st_mtime
    except FileNotFoundError:  # another save removed it
        return 0.0


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _checksum_of(manifest: Description) -> str:
    return _sha256(json.dumps(manifest, sort_keys=True, ensure_ascii=True).encode())


def _write_through(file: Path, content: bytes) -> None:
    with open(file, "xb") as stream:
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
