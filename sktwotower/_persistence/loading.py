"""Load a saved model; only code of trusted types runs."""

from __future__ import annotations

import os
from collections.abc import Iterable

from sktwotower._persistence.manifest import (
    MANIFEST,
    ArtefactError,
    Manifest,
    StoredFiles,
    checked_files,
    expect,
    read_manifest,
    reading,
)
from sktwotower._persistence.objects import Trusted, read_objects, type_name
from sktwotower._persistence.parts import read_part
from sktwotower._persistence.records import PARTS, parameters_of, state_of
from sktwotower._persistence.saving import OBJECTS, require_packages
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.utils._paths import path_of


def load(
    path: str | os.PathLike, *, trusted: Iterable[Trusted] = ()
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
    names = [type_name(named) for named in trusted]
    place = path_of(path)
    while True:
        manifest = read_manifest(place)
        try:
            return _read_model(manifest, checked_files(place, manifest), names)
        except (ArtefactError, FileNotFoundError):
            # Another save may have replaced the version that was being read.
            if read_manifest(place).folder == manifest.folder:
                raise


def _read_model(
    manifest: Manifest, files: StoredFiles, trusted: list[str]
) -> TwoTowerRecommender:
    objects = read_objects(OBJECTS, files, trusted)
    expect(set(manifest.parts) == PARTS, MANIFEST, f"has the parts {set(manifest.parts)}")
    parts = {
        name: read_part(name, described, files, objects)
        for name, described in manifest.parts.items()
    }
    with reading(MANIFEST):  # an error in another file names that file
        model = TwoTowerRecommender(**parameters_of(parts["parameters"]))
        model._state = state_of(parts)
    return model
