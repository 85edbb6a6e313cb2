"""The manifest of an artefact and the files that it names, checked before use."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from io import BufferedReader
from pathlib import Path
from typing import Any

FORMAT = "sktwotower"
FORMAT_VERSION = 5
MANIFEST = "manifest.json"
CARD = "MODEL_CARD.md"
# What JSON can hold: what the manifest says of a part of the model.
Json = Any

VERSION_FOLDER = re.compile(r"version-[0-9a-f]{32}")
_FILE_NAME = re.compile(r"\w[\w.-]*")
_ARTEFACT_ID, _SHA256 = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{64}")
# How errors of ``load`` end, for content that no save writes.
OF_ANOTHER = "; the artefact was not written by save."
# What was compressed may be so many times larger in memory.
_MOST_TIMES_LARGER = 2**10


class ArtefactError(ValueError):
    """An artefact cannot be read; the message says why."""


class MissingFileError(ArtefactError, FileNotFoundError):
    """There is no artefact, or a file of it is missing."""


@contextmanager
def reading(file: str) -> Iterator[None]:
    """Turn any error about the content of a file into an ArtefactError with its name."""
    try:
        yield
    except ArtefactError:
        raise
    except Exception as error:
        raise ArtefactError(
            f"{file} of the artefact cannot be read: {type(error).__name__}: {error}"
        ) from error


def expect(holds: bool, file: str, otherwise: str) -> None:
    """Raise ArtefactError unless a condition on the content of a file holds."""
    if not holds:
        raise ArtefactError(f"{file} {otherwise}{OF_ANOTHER}")


@dataclass(frozen=True)
class Manifest:
    """What a manifest says, of the right types.

    Attributes
    ----------
    artefact : str
        The mark of the artefact, which its version folders carry.
    folder : str
        Name of the folder of the files.
    files : dict of str to [int, str]
        Size in bytes and SHA-256 of each file.
    parts : dict of str to dict
        Descriptions of the parts of the model.
    """

    artefact: str
    folder: str
    files: dict[str, list]
    parts: dict[str, dict[str, Json]]


@dataclass(frozen=True)
class StoredFiles:
    """The files of one version, all of which are what the manifest says."""

    folder: Path
    names: frozenset[str]
    n_bytes: int

    def path(self, name: str) -> Path:
        """Where a file is; no other file of the system is opened."""
        expect(name in self.names, MANIFEST, f"does not list the file {name!r}")
        return self.folder / name

    @property
    def most_bytes(self) -> int:
        """What one file may be in memory."""
        return _MOST_TIMES_LARGER * self.n_bytes


def read_manifest(path: Path) -> Manifest:
    """The manifest of an artefact, checked.

    Raises
    ------
    ArtefactError
        If there is none, or one that cannot be read.
    """
    file = path / MANIFEST
    if not os.path.lexists(path):
        raise MissingFileError(f"There is no artefact at {path}: it does not exist.")
    if path.is_symlink() and not path.exists():
        raise MissingFileError(
            f"There is no artefact at {path}: it is a link to {os.readlink(path)}, which "
            "does not exist."
        )
    if not path.is_dir() or not os.path.lexists(file):
        what = f"has no {MANIFEST}" if path.is_dir() else "is no directory"
        raise ArtefactError(f"{path} is not an artefact of sktwotower: it {what}.")
    with open_regular(file, within=path) as stream:
        content = parse(stream.read(), file)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtefactError(
            f"{path} is not an artefact of sktwotower: {file} is the manifest of something "
            "else."
        )
    _check_version(content.get("format_version"), path)
    if content.pop("sha256", None) != checksum_of(content):
        raise ArtefactError(
            f"{file} is not what was saved: its checksum differs from the one that it "
            "states. Save the model again, or take another copy."
        )
    values: Any = {field.name: content.get(field.name) for field in fields(Manifest)}
    manifest = Manifest(**values)
    _check_types(manifest, str(file))
    return manifest


def _check_version(version: Json, path: Path) -> None:
    if type(version) is int and version > FORMAT_VERSION:
        raise ArtefactError(
            f"{path} has format {version}, which is newer than {FORMAT_VERSION}, the one "
            "that this version of sktwotower reads; install a newer one."
        )
    if type(version) is not int or version != FORMAT_VERSION:
        raise ArtefactError(
            f"{path} has format {version!r}, which a development version of sktwotower "
            f"wrote; this version reads format {FORMAT_VERSION}. Fit the model again and "
            "save it."
        )


def _check_types(manifest: Manifest, file: str) -> None:
    def is_text(value: Json, pattern: re.Pattern) -> bool:
        return type(value) is str and bool(pattern.fullmatch(value))

    def is_file(name: str, entry: Json) -> bool:
        if type(entry) is not list or len(entry) != 2 or not is_text(name, _FILE_NAME):
            return False
        return type(entry[0]) is int and entry[0] >= 0 and is_text(entry[1], _SHA256)

    folder, files, parts = manifest.folder, manifest.files, manifest.parts
    expect(is_text(folder, VERSION_FOLDER), file, f"names the folder {folder!r}")
    expect(is_text(manifest.artefact, _ARTEFACT_ID), file, "has no 'artefact'")
    expect(type(files) is dict, file, "has no 'files'")
    for name, entry in files.items():
        expect(is_file(name, entry), file, f"describes the file {name!r} as {entry!r}")
    expect(type(parts) is dict, file, "has no 'parts'")
    for name, part in parts.items():
        expect(type(part) is dict, file, f"describes the part {name!r} as {part!r}")


def checked_files(
    path: Path, manifest: Manifest, *, needed: Callable[[str], bool]
) -> StoredFiles:
    """The files of the version that a manifest names.

    Their sizes are compared before anything is read. The model card, and copies of it that
    an editor leaves, are not looked at: users may change them. Nor are the contents of
    files that are not ``needed``, which are asked for by their names.

    Raises
    ------
    ArtefactError
        If a file is missing, is not a plain file, was changed, or is not in the manifest.
    """
    folder = path / manifest.folder
    if folder.is_symlink() or not folder.is_dir():
        raise MissingFileError(
            f"{folder} is missing or is no directory; the artefact is not whole."
        )
    there = {entry.name for entry in folder.iterdir()}
    extra = {name for name in there - set(manifest.files) if CARD not in name}
    if extra:
        raise ArtefactError(
            f"{folder} has files that are not in the manifest: {sorted(extra)}. The "
            "artefact was changed after it was saved."
        )
    for name, (size, _) in manifest.files.items():
        if name not in there:
            raise MissingFileError(
                f"{folder / name} is missing; the artefact is not whole."
            )
        with open_regular(folder / name, within=path) as stream:
            found = os.fstat(stream.fileno()).st_size
        if found != size:
            raise ArtefactError(
                f"{folder / name} is not what was saved: it has {found} bytes instead of "
                f"{size}. Save the model again, or take another copy."
            )
    for name, (_, checksum) in manifest.files.items():
        if not needed(name):
            continue
        with open_regular(folder / name, within=path) as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != checksum:
                raise ArtefactError(
                    f"{folder / name} is not what was saved: its checksum differs from "
                    "that in the manifest. Save the model again, or take another copy."
                )
    return files_of(folder, manifest.files)


def files_of(folder: Path, files: dict[str, list]) -> StoredFiles:
    """The files of a folder with the entries of the manifest."""
    return StoredFiles(folder, frozenset(files), sum(size for size, _ in files.values()))


def open_regular(file: Path, *, within: Path) -> BufferedReader:
    """Open a plain file of an artefact.

    Raises
    ------
    ArtefactError
        If it is something else, such as a pipe or a directory, or a link that leads out of
        the artefact.
    """
    if file.is_symlink() and not file.resolve().is_relative_to(within.resolve()):
        raise ArtefactError(
            f"{file} is a link that leads out of the artefact; copy the file instead."
        )
    try:  # without waiting for what is written into a pipe
        descriptor = os.open(
            file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except FileNotFoundError as error:
        raise MissingFileError(f"{file} is missing; the artefact is not whole.") from error
    except OSError as error:
        raise ArtefactError(f"{file} cannot be opened: {error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtefactError(f"{file} is no plain file{OF_ANOTHER}")
    return os.fdopen(descriptor, "rb")


def parse(text: bytes, file: Path) -> Json:
    """JSON of a file, as strictly as ``save`` writes it.

    Raises
    ------
    ArtefactError
        For anything else: other encodings, repeated keys, NaN, or too many brackets.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    def without_repetition(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        content = dict(pairs)
        if len(content) < len(pairs):
            raise ValueError("a key is repeated")
        return content

    try:
        return json.loads(
            text.decode(),
            parse_constant=refuse,
            object_pairs_hook=without_repetition,
        )
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{file} is damaged: it is no JSON ({error}).") from error


def checksum_of(content: dict[str, Json]) -> str:
    """SHA-256 of the content of a manifest."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
