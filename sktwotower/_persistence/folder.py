"""A directory of checked files that is replaced at once or not at all."""

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
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
EXTRA = ("safetensors", "skops", "pyarrow")  # the extra ``save``, as it is imported

_FOLDER = re.compile(r"version-[0-9a-f]{32}")
# A save that was killed leaves a folder that no manifest names. One that is younger may
# belong to a save under way.
_ORPHAN_SECONDS = 3600.0


class ArtefactError(ValueError):
    """An artefact that cannot be read, in a sentence."""


@contextmanager
def reading(file: str) -> Iterator[None]:
    """Make a sentence of whatever goes wrong with the content of a file."""
    try:
        yield
    except (ArtefactError, FileNotFoundError):
        raise
    except Exception as error:
        raise ArtefactError(
            f"{file} of the artefact cannot be read: {type(error).__name__}: {error}"
        ) from error


class Writer:
    """Files in a new folder beside the current one, until the manifest names it.

    Parameters
    ----------
    path : Path
        Of the artefact; it may have a version already.

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
        self._files: dict[str, dict[str, Any]] = {}

    def write(self, name: str, content: bytes) -> None:
        """Add a file."""
        _write_through(self._folder / name, content)
        self._files[name] = {"bytes": len(content), "sha256": _sha256(content)}

    def commit(self, description: dict[str, Any]) -> None:
        """Write the manifest; from then on this is the artefact, and the old one goes."""
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "folder": self._folder.name,
            **description,
            "files": self._files,
        }
        manifest["sha256"] = _sha256_of(manifest)
        text = json.dumps(manifest, indent=1, ensure_ascii=True)
        _write_through(self._folder / MANIFEST, text.encode())
        _sync_directory(self._folder)
        _sync_directory(self._path)
        before = _named_folder(self._path)
        os.replace(self._folder / MANIFEST, self._path / MANIFEST)
        _sync_directory(self._path)
        for folder in _versions(self._path):
            is_over = folder.name == before or _age(folder) > _ORPHAN_SECONDS
            if is_over and folder != self._folder:
                shutil.rmtree(folder, ignore_errors=True)  # another save may do it, too

    def abandon(self) -> None:
        """Remove what has been written."""
        shutil.rmtree(self._folder)
        if self._is_new:
            self._path.rmdir()


class Reader:
    """Files of an artefact, each checked when it is read.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no artefact, or one that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.manifest = read_manifest(path)
        self._folder = path / self.manifest["folder"]
        self._files = self.manifest["files"]
        if self._folder.is_dir():
            extra = {entry.name for entry in self._folder.iterdir()} - set(self._files)
            if extra:
                raise ArtefactError(
                    f"{self._folder} has files that are not in the manifest: "
                    f"{sorted(extra)}. The artefact was changed after it was saved."
                )

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str) -> bytes:
        """The content of a file, after a look at its checksum."""
        if name not in self._files:
            raise ArtefactError(f"The manifest does not list the file {name}.")
        try:
            content = (self._folder / name).read_bytes()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self._folder / name} is missing; the artefact is not whole."
            ) from error
        if _sha256(content) != self._files[name]["sha256"]:
            raise ArtefactError(
                f"{self._folder / name} is not what was saved: its checksum differs from "
                "that in the manifest. Save the model again, or take another copy."
            )
        return content


def read_manifest(path: Path) -> dict[str, Any]:
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
    checksum = manifest.pop("sha256", None)
    if checksum != _sha256_of(manifest):
        raise ArtefactError(
            f"{file} is not what was saved: its checksum differs from the one that it "
            "states. Save the model again, or take another copy."
        )
    if not _FOLDER.fullmatch(str(manifest["folder"])):
        raise ArtefactError(f"{file} names the folder {manifest['folder']!r}.")
    return manifest


def _versions(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if _FOLDER.fullmatch(entry.name)]


def _named_folder(path: Path) -> str | None:
    """The folder that is current, if a manifest says so that can be read."""
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


def _sha256_of(manifest: dict[str, Any]) -> str:
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
