"""A fitted model from a directory; nothing is run that the caller does not trust."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from sktwotower._data.entities import Entities
from sktwotower._data.entity_table import EntityTable
from sktwotower._data.histories import Histories, InteractionCodes, PastItems
from sktwotower._data.interactions import FeatureColumns
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._nn.negatives import StreamingFrequencies
from sktwotower._nn.towers import Tower
from sktwotower._nn.two_towers import TwoTowers
from sktwotower._persistence.folder import (
    EXTRA,
    ArtefactError,
    Reader,
    read_manifest,
    reading,
)
from sktwotower._persistence.frames import from_parquet
from sktwotower._persistence.objects import from_skops, type_name
from sktwotower._persistence.saving import ATTRIBUTES, SIDES, TABLES
from sktwotower._persistence.tensors import Arrays, from_safetensors
from sktwotower._persistence.values import decode
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.utils._extra import extra


def load(path: Any, *, trusted: Iterable[Any] = ()) -> TwoTowerRecommender:
    """Load a model that :meth:`TwoTowerRecommender.save` wrote.

    No code of the artefact is run, and there is no pickle in it: arrays, tables and JSON
    are read as data, and encoders are made of types that are known, those of scikit-learn
    and of this package, or that the caller names. Checksums tell whether files are those
    that were saved; they do not tell who saved them.

    Needs ``pip install 'sktwotower[save]'``.

    Parameters
    ----------
    path : str or path-like
        The directory.
    trusted : iterable of str, type or function, default=()
        What else may be made: types of encoders, and functions that these call, as they
        are or by their full names, ``"package.module.Encoder"``. Name only what you know.

    Returns
    -------
    TwoTowerRecommender
        Fitted, on the CPU, and equal to the one that was saved: it recommends the same,
        and ``partial_fit`` goes on as if nothing had been.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path, or a file is missing.
    ValueError
        If it is no artefact, of a newer format, not what was saved, or holds types that
        are neither known nor trusted; the message names them.
    ImportError
        If the packages of the extra are not there.

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
    for package in EXTRA:
        extra(package)
    if isinstance(trusted, str):
        raise TypeError(f"trusted must be a list of types or names; got {trusted!r}.")
    names = [type_name(named) for named in trusted]
    while True:
        reader = Reader(Path(path))
        try:
            return _model(reader, names)
        except FileNotFoundError:
            # Another save may have replaced, and removed, what was being read.
            if read_manifest(Path(path))["folder"] == reader.manifest["folder"]:
                raise


def _model(reader: Reader, trusted: list[str]) -> TwoTowerRecommender:
    manifest = reader.manifest
    with reading("encoders.skops"):
        objects = from_skops(reader.read("encoders.skops"), trusted)
    parameters: dict[str, Any] = {
        name: _table(reader, name, manifest["tables"][name]) for name in TABLES
    }
    with reading("manifest.json"):
        for name, value in manifest["parameters"].items():
            parameters[name] = decode(value)
        fitted = {
            f"{side}_encoder_": objects.pop(f"{side}_encoder_", None) for side in SIDES
        }
        model = TwoTowerRecommender(**parameters, **objects)
        for name in ATTRIBUTES:
            if name in manifest["attributes"]:
                setattr(model, name, decode(manifest["attributes"][name]))
        for side in SIDES:
            columns = manifest["feature_columns"][side]
            columns = None if columns is None else FeatureColumns(**decode(columns))
            setattr(model, f"_{side}_features", columns)
    for side in SIDES:
        entities = _entities(reader, side, fitted[f"{side}_encoder_"])
        setattr(model, f"_{side}s", entities)
        setattr(model, f"{side}_encoder_", entities.encoder)
    users, items = model._users, model._items
    model._events, catalogue, model._frequencies = _interactions(reader, users, items)
    model._set_vocabularies(users.vocabulary, items.vocabulary, catalogue)
    model._seen = model._pairs_of_codes(model._events.users, model._events.items)
    model._towers = _towers(reader, users, items)
    model._past = _past(manifest["history_size"], model._events, users, items)
    model._optimizer_memory = _optimizer(reader, model.optimizer)
    _set_embeddings(model, reader)
    return model


def _table(reader: Reader, name: str, description: Any) -> Any:
    if description is None:
        return None
    with reading(f"{name}.parquet"):
        frame = from_parquet(reader.read(f"{name}.parquet"), description["frame"])
        holder = description["holder"]
        if holder is None:
            return frame
        return EntityTable(frame, decode(holder["id_column"]), decode(holder["features"]))


def _entities(reader: Reader, side: str, encoder: Any) -> Entities:
    description = reader.manifest["sides"][side]
    with reading(f"{side}_ids.parquet"):
        ids = from_parquet(reader.read(f"{side}_ids.parquet"), description["ids"])
        vocabulary = Vocabulary(ids["id"].to_numpy())
    n = len(vocabulary)
    _expect(n == len(ids) > 0, f"{side}_ids.parquet", "has repeated ids, or none")
    file = f"{side}_features.safetensors"
    arrays = _arrays(reader, file)
    _expect_array(arrays, file, "id_codes", (n + 1,), "i", largest=n)
    n_columns = description["n_columns"]
    with reading(file):
        features = sp.csr_matrix(
            (arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n + 1, n_columns)
        )
        features.check_format()
    given, places = None, None
    if description["given"] is not None:
        name = f"{side}_features.parquet"
        with reading(name):
            given = from_parquet(reader.read(name), description["given"])
        _expect_array(
            arrays, file, "places", (n + 1,), "i", smallest=-1, largest=len(given) - 1
        )
        places = arrays["places"]
    if "popularity" in arrays:
        _expect_array(arrays, file, "popularity", (n + 1,), "f")
    with reading("manifest.json"):
        fields = {
            decode(name): slice(start, stop) for name, start, stop in description["fields"]
        }
        dense = frozenset(decode(name) for name in description["dense"])
    return Entities(
        vocabulary=vocabulary,
        id_codes=arrays["id_codes"],
        features=features,
        fields=fields,
        dense=dense,
        encoder=encoder,
        given=given,
        places=places,
        popularity=arrays.get("popularity"),
    )


def _interactions(
    reader: Reader, users: Entities, items: Entities
) -> tuple[InteractionCodes, np.ndarray, StreamingFrequencies | None]:
    file = "interactions.safetensors"
    arrays = _arrays(reader, file)
    n = reader.manifest["sizes"]["n_interactions"]
    _expect_array(arrays, file, "users", (n,), "i", smallest=1, largest=len(users))
    _expect_array(arrays, file, "items", (n,), "i", smallest=1, largest=len(items))
    _expect_array(arrays, file, "positive", (n,), "b")
    n_catalogue = reader.manifest["sizes"]["n_catalogue"]
    _expect_array(
        arrays, file, "catalogue", (n_catalogue,), "i", smallest=1, largest=len(items)
    )
    if "times" in arrays:
        _expect_array(arrays, file, "times", (n,), "if")
    events = InteractionCodes(
        arrays["users"], arrays["items"], arrays["positive"], arrays.get("times")
    )
    described = reader.manifest["frequencies"]
    if described is None:
        return events, arrays["catalogue"], None
    n_gaps = len(arrays["gaps"]) if "gaps" in arrays else 0
    for name in ("gaps", "last"):
        _expect_array(arrays, file, name, (n_gaps,), "f")
    frequencies = StreamingFrequencies(torch.empty(0), rate=described["rate"])
    frequencies.gaps = torch.from_numpy(arrays["gaps"])
    frequencies._last = torch.from_numpy(arrays["last"])
    frequencies.step = described["step"]
    return events, arrays["catalogue"], frequencies


def _past(
    size: int | None, events: InteractionCodes, users: Entities, items: Entities
) -> PastItems | None:
    if size is None:
        return None
    histories = Histories(events, len(users))
    times = None if events.times is None else histories.ordered(events.times)
    return PastItems(histories, size, items.id_codes, times)


def _towers(reader: Reader, users: Entities, items: Entities) -> TwoTowers:
    described = reader.manifest["towers"]
    arrays = _arrays(reader, "weights.safetensors")
    with reading("weights.safetensors"):
        towers = TwoTowers(
            _tower(users, described["user"]),
            _tower(items, described["item"]),
            described["temperature"],
            learned=described["learned"],
        )
        # Says which of them is missing, or of another shape.
        towers.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
    return towers.eval()


def _tower(entities: Entities, described: dict[str, Any]) -> Tower:
    options = dict(described)
    rows = entities.rows(with_id=options.pop("has_id"))
    return Tower(rows, **options, generator=torch.Generator())


def _optimizer(reader: Reader, now: str) -> tuple[str, dict[str, Any]]:
    """What the optimiser knew; nothing if it was not saved."""
    name = reader.manifest["optimizer"]
    if name is None:
        return now, {}
    memory: dict[str, Any] = {}
    for key, value in _arrays(reader, "optimizer.safetensors").items():
        parameter, _, entry = key.rpartition("/")
        memory.setdefault(parameter, {})[entry] = torch.from_numpy(value)
    return name, memory


def _set_embeddings(model: TwoTowerRecommender, reader: Reader) -> None:
    file = "embeddings.safetensors"
    arrays = _arrays(reader, file)
    dim = reader.manifest["sizes"]["embedding_dim"]
    for side, entities in (("user", model._users), ("item", model._items)):
        _expect_array(arrays, file, f"{side}_embeddings", (len(entities), dim), "f")
        _expect_array(arrays, file, f"unknown_{side}", (dim,), "f")
        setattr(model, f"_unknown_{side}", arrays[f"unknown_{side}"])
        setattr(model, f"{side}_embeddings_", arrays[f"{side}_embeddings"])


def _arrays(reader: Reader, file: str) -> Arrays:
    with reading(file):
        return from_safetensors(reader.read(file))


def _expect_array(
    arrays: Arrays,
    file: str,
    name: str,
    shape: tuple[int, ...],
    kinds: str,
    *,
    smallest: int = 0,
    largest: int | None = None,
) -> None:
    """Raise unless an array is there and what it has to be."""
    _expect(name in arrays, file, f"has no array {name!r}")
    array = arrays[name]
    _expect(
        array.shape == shape and array.dtype.kind in kinds,
        file,
        f"has an array {name!r} of shape {array.shape} and dtype {array.dtype}, where the "
        f"model has the shape {shape}",
    )
    if largest is not None and len(array):
        _expect(
            smallest <= array.min() and array.max() <= largest,
            file,
            f"has values in {name!r} that are not between {smallest} and {largest}",
        )


def _expect(holds: bool, file: str, otherwise: str) -> None:
    if not holds:
        raise ArtefactError(f"{file} {otherwise}; the artefact was not written by save.")
