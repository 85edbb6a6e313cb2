"""Load a saved model; only code of trusted types runs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path

from sktwotower._persistence.manifest import (
    MANIFEST,
    ArtefactError,
    Manifest,
    checked_files,
    read_manifest,
    reading,
)
from sktwotower._persistence.objects import Trusted, read_objects, type_name
from sktwotower._persistence.parts import read_part
from sktwotower._persistence.records import parameters_of
from sktwotower._persistence.saving import OBJECTS, require_packages
from sktwotower._persistence.shard_parts import expect_parts, is_of_another, state_of_parts
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.utils._paths import path_of


def load(
    path: str | os.PathLike,
    *,
    trusted: Iterable[Trusted] = (),
    shard: int | None = None,
) -> TwoTowerRecommender:
    """Load a model that :meth:`TwoTowerRecommender.save` wrote.

    No code of the directory is run, and there is no pickle in it. Arrays, tables and JSON
    are data. Encoders consist of types of scikit-learn and of this package, and of types
    that the caller names; all others are refused. Checksums detect changed files; they do
    not tell who saved them.

    Needs ``pip install 'sktwotower[save]'``. See :doc:`/user_guide/saving`.

    Parameters
    ----------
    path : str or path-like
        The directory.
    trusted : iterable of str, type or function, default=()
        Further types of encoders, and functions that these call: the types themselves or
        their full names, such as ``"package.module.Encoder"``. Name only types that you
        know.
    shard : int, default=None
        Load the users of one process alone, of a model that several processes have saved
        together: 0 for the first one. The model answers for these users and for unknown
        ones, and an error names users of other shards. It can be continued in as many
        processes as have saved it, each of which has loaded its own. None: all users.

    Returns
    -------
    TwoTowerRecommender
        Fitted, on the CPU, and identical to the saved model: all answers are the same, and
        ``partial_fit`` continues as if the model had never been saved.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path, or a file is missing.
    ValueError
        If the directory is not an artefact, has another format, was changed after it was
        saved, or holds types that are not trusted; the message names them. No error is of
        another kind, whatever is in the directory.
    ImportError
        If a package of the extra is not installed.

    See Also
    --------
    TwoTowerRecommender.save : Writes the directory.

    Examples
    --------
    >>> import tempfile
    >>> import sktwotower
    >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"]]
    >>> model = sktwotower.TwoTowerRecommender(random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model.save(directory)
    ...     loaded = sktwotower.load(directory)
    >>> loaded.recommend(["ann"], n_recommendations=1)[0].tolist()
    [['milk']]
    """
    require_packages()
    if isinstance(trusted, str):
        raise TypeError(f"trusted must be a list of types or names; got {trusted!r}.")
    if shard is not None and (not isinstance(shard, Integral) or isinstance(shard, bool)):
        raise TypeError(f"shard must be the number of a process; got {shard!r}.")
    names = [type_name(named) for named in trusted]
    place = path_of(path)
    while True:
        manifest = read_manifest(place)
        try:
            return _read_model(place, manifest, names, shard)
        except (ArtefactError, FileNotFoundError):
            # Another save may have replaced the version that was being read.
            if read_manifest(place).folder == manifest.folder:
                raise


def _read_model(
    place: Path, manifest: Manifest, trusted: list[str], rank: int | None
) -> TwoTowerRecommender:
    size = expect_parts(manifest.parts)
    if rank is not None and (size is None or not 0 <= rank < size):
        raise ValueError(
            f"shard={rank} is none of the {size or 0} shards of the model at {place}"
            + (": one process has saved it." if size is None else ".")
        )
    files = checked_files(place, manifest, needed=lambda x: not is_of_another(x, rank))
    objects = read_objects(OBJECTS, files, trusted)
    parts = {
        name: read_part(name, described, files, objects)
        for name, described in manifest.parts.items()
        if not is_of_another(name, rank)
    }
    with reading(MANIFEST):  # an error in another file names that file
        model = TwoTowerRecommender(**parameters_of(parts["parameters"]))
        model._state = state_of_parts(parts, size, rank)
    return model
