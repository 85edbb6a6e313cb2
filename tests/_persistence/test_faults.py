"""Full disks, other people's folders, and artefacts that were tampered with."""

import builtins
import copy
import datetime as dt
import decimal
import hashlib
import json
import os
import pickle
import resource
import time
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sktwotower import load
from sktwotower.history import PooledHistory, TransformerHistory
from tests.helpers import BERLIN, make_model, needs_pandas_3

safetensors = pytest.importorskip("safetensors.numpy")
skops_io = pytest.importorskip("skops.io")
parquet = pytest.importorskip("pyarrow.parquet")

from sktwotower._persistence.manifest import ArtefactError  # noqa: E402

X = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": [10, 20, 20, 30, 30]})
TABLE = pd.DataFrame({"item": [10, 20, 30], "kind": ["a", "b", "a"], "price": [1.0, 2, 4]})


@pytest.fixture(scope="module")
def model():
    return make_model(item_table=TABLE, history=PooledHistory(2)).fit(X)


@pytest.fixture
def artefact(model, tmp_path):
    model.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def reader_artefact(tmp_path):
    """Of a model with a transformer."""
    history = TransformerHistory(size=3)
    make_model(item_table=TABLE, history=history).fit(X).save(tmp_path / "model")
    return tmp_path / "model"


def version_of(path):
    return path / json.loads((path / "manifest.json").read_text())["folder"]


def tree(path):
    return sorted(path.rglob("*"))


# A full disk, at each step.

FULL = OSError(28, "No space left on device")


def fail_at(monkeypatch, number):
    """The n-th step that writes fails; how many steps there are."""
    steps = []

    def counted(module, name, writes=lambda *args, **kwargs: True):
        original = getattr(module, name)

        def step(*args, **kwargs):
            if writes(*args, **kwargs):
                steps.append(name)
                if len(steps) == number:
                    raise FULL
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, step)

    for name in ("fsync", "replace", "mkdir"):
        counted(os, name)
    counted(builtins, "open", lambda file, mode="r", *_, **__: set(mode) & set("wxa+"))
    counted(parquet, "write_table")
    counted(safetensors, "save_file")
    counted(skops_io, "dump")
    return steps


@pytest.mark.slow
def test_a_full_disk_at_any_step_leaves_nothing_and_the_old_model(
    model, artefact, tmp_path, monkeypatch
):
    other = make_model(random_state=1).fit(X)
    before = tree(artefact)
    for path in (artefact, tmp_path / "new" / "model"):
        is_new = not path.exists()
        twin = tmp_path / f"twin {is_new}" / "model"
        if not is_new:
            other.save(twin)
        with monkeypatch.context() as patch:
            steps = fail_at(patch, 0)
            other.save(twin)
        for number in range(1, len(steps) + 1):
            with monkeypatch.context() as patch:
                fail_at(patch, number)
                with pytest.raises(OSError, match="No space left"):
                    other.save(path)
            assert tree(artefact) == before, steps[number - 1]
            assert not (tmp_path / "new").exists(), steps[number - 1]
        assert {"fsync", "replace", "mkdir", "open", "write_table"} <= set(steps)
    assert load(artefact).random_state == model.random_state


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_a_full_disk_at_the_manifest_leaves_nothing(model, artefact, monkeypatch, name):
    def full(*_):
        raise FULL

    before = tree(artefact)
    monkeypatch.setattr(os, name, full)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            model.save(artefact)
    assert tree(artefact) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_save_leaves_nothing(model, artefact, monkeypatch, error):
    def interrupt(*_):
        raise error

    before = tree(artefact)
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(error):
        model.save(artefact)
    assert tree(artefact) == before


def test_a_save_that_does_not_come_back_leaves_the_old_one(model, artefact, monkeypatch):
    before = tree(artefact)
    write = safetensors.save_file

    def scratch(arrays, file):
        write({name: np.zeros_like(array) for name, array in arrays.items()}, file)

    monkeypatch.setattr(safetensors, "save_file", scratch)
    with pytest.raises(TypeError, match="stored: .* is not what it was; an older one .*"):
        model.save(artefact)
    assert tree(artefact) == before
    monkeypatch.undo()
    load(artefact)


def test_a_save_of_what_load_refuses_says_so_in_words_of_its_own(model, artefact):
    before = tree(artefact)
    wrong = pickle.loads(pickle.dumps(model))
    wrong._state.user.embeddings[0] = np.nan
    message = (
        "The model cannot be stored: user.safetensors has numbers in 'embeddings' that are "
        "not finite; an older one at the path is kept."
    )
    with pytest.raises(TypeError, match=f"^{message}$"):
        wrong.save(artefact)
    assert tree(artefact) == before


# Other people's folders.


def test_a_model_in_a_folder_that_is_called_like_a_version_stays(model, tmp_path):
    mine = tmp_path / f"version-{'a' * 32}"
    model.save(mine)
    os.utime(mine, (0, 0))
    for _ in range(2):
        model.save(tmp_path)
        load(mine)
        load(tmp_path)


def test_only_marked_folders_are_removed(model, artefact, tmp_path):
    other = tmp_path / "other"
    model.save(other)
    strangers = [artefact / f"version-{letter * 32}" for letter in "abcd"]
    strangers[0].mkdir()  # empty
    strangers[1].mkdir()
    (strangers[1] / "mark.json").write_text("{}")
    os.rename(version_of(other), strangers[2])  # its mark has another name
    moved = artefact / version_of(other).name  # a version of another artefact
    os.rename(strangers[2], moved)
    strangers[2].symlink_to(moved)
    strangers[3].write_text("a file")
    left = [*strangers, moved]
    for folder in left:
        os.utime(folder, (0, 0))
    old = version_of(artefact)
    model.save(artefact)
    assert all(folder.exists() for folder in left)
    assert not old.exists()
    load(artefact)


@pytest.mark.parametrize(
    "content", ["{}", "[]", "3", "{", "", '{"name": "an app"}', '{"format": "other"}']
)
def test_a_manifest_of_something_else_is_not_replaced(model, tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    (tmp_path / f"version-{'a' * 32}").mkdir()
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="is not an artefact of sktwotower"):
        model.save(tmp_path)
    assert tree(tmp_path) == before
    assert (tmp_path / "manifest.json").read_text() == content


# Paths.


def test_the_home_directory_and_links(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model.save("~/model")
    assert (tmp_path / "model" / "manifest.json").exists()
    load("~/model")
    load(os.fsencode(tmp_path / "model"))
    link = tmp_path / "current"
    link.symlink_to("model")
    model.save(link)
    assert link.is_symlink()
    load(link)
    link.unlink()
    link.symlink_to("nowhere")
    with pytest.raises(ValueError, match="current is a link to nowhere, which does not"):
        model.save(link)
    with pytest.raises(FileNotFoundError, match="current: it is a link to nowhere"):
        load(link)
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(ValueError, match="is a link to"):
        model.save(link)


@pytest.mark.parametrize("path", ["a\0b", "a\ud800b"])
def test_a_path_that_no_file_can_have_is_refused(model, tmp_path, path):
    for call in (model.save, load):
        with pytest.raises(ValueError, match="No file can be called"):
            call(os.path.join(tmp_path, path))


# Ids.

IDS = {
    "datetime": pd.to_datetime(["2020", "2021", "2022"]),
    "zone": pd.date_range("2020", periods=3, tz=BERLIN),
    "uuid": [uuid.UUID(int=number) for number in range(3)],
    "bytes": [b"a", b"\xff", b""],
    "decimal": [decimal.Decimal("1.50"), decimal.Decimal("1E+3"), decimal.Decimal(2)],
    "tuple": [("a", 1), ("b", 2), ("c", None)],
    "bool": [True, False, True],
    "uint64": np.array([1, 2**63 + 1, 2**64 - 1], dtype="u8"),
    "date": [dt.date(2020, 1, day) for day in (1, 2, 3)],
    "timedelta": pd.to_timedelta([1, 2, 3], unit="D"),
    "period": pd.period_range("2020", periods=3, freq="M"),
    "long": pd.Series([10**400, 2**64, -(10**5000)], dtype=object),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=needs_pandas_3) if k == "long" else k for k in IDS]
)
def test_ids_come_back_equal_and_of_the_same_type(tmp_path, kind):
    ids = pd.Series(IDS[kind])
    rows = pd.DataFrame(
        {"user": ids.iloc[[0, 1, 2, 0]].array, "item": ids.iloc[[1, 2, 0, 2]].array}
    )
    model = make_model(max_iter=1).fit(rows)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    for one, other in ((model, loaded), (loaded, model)):
        for mine, theirs in ((one.user_ids_, other.user_ids_), (one.item_ids_,) * 2):
            assert mine.dtype == theirs.dtype
            assert [(type(x), x) for x in mine] == [(type(x), x) for x in theirs]
    found, scores = model.recommend(ids[:2], n_recommendations=2, exclude_seen=False)
    again, same = loaded.recommend(ids[:2], n_recommendations=2, exclude_seen=False)
    assert found.tolist() == again.tolist()
    np.testing.assert_array_equal(scores, same)
    answer = found[0]  # what the model answers, it takes
    assert loaded.similar_items(answer)[0].shape[0] == len(answer)


# An attacker who corrects the checksums.


def seal(path, manifest):
    manifest.pop("sha256", None)
    text = json.dumps(manifest, sort_keys=True)
    manifest["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


def leaves(content, at=()):
    """Where the values of a manifest are."""
    yield at
    entries = content.items() if isinstance(content, dict) else ()
    if isinstance(content, list):
        entries = enumerate(content)
    for key, value in entries:
        yield from leaves(value, (*at, key))


def deep(n):
    content = []
    for _ in range(n):
        content = [content]
    return content


HOSTILE = [
    *(None, True, 0, -1, 1, 2**31, 2**70, 10**300, -0.5, 1e308, "", "x", "../x", "\ud800"),
    *([], {}, [1], {"a": 1}, [[]], deep(500), {"float": "nan"}, {"float": "inf"}),
    *({"stored": "array"}, {"stored": "frame"}, {"stored": "object"}, {"stored": "tensor"}),
    {"array": ["<f8", [10**12], ""]},
    {"array": {"shape": [10**12], "entries": []}},
    {"slice": [0, 10**12, None]},
    {"tuple": [1, {"tuple": []}]},
    {"decimal": "1e999999999"},
    {"period": [10**30, "M"]},
]


def load_and_ask(path):
    """Whether a model was loaded; it answers, or says in its own words why not."""
    start = time.perf_counter()
    try:
        loaded = load(path)
    except ArtefactError as error:
        assert str(error)
        loaded = None
    assert time.perf_counter() - start < 5
    if loaded is not None:
        try:
            _, scores = loaded.recommend([1, 2])
            assert not np.isnan(scores).any()
        except (ValueError, TypeError):
            pass
    return loaded is not None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_changed_manifest_is_refused_or_makes_a_model(artefact, n):
    manifest = json.loads((artefact / "manifest.json").read_text())
    generator = np.random.RandomState(n)
    places = [at for at in leaves(manifest) if at and at[0] != "sha256"]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_refused = 0
    for _ in range(n):
        changed = copy.deepcopy(manifest)
        for _ in range(generator.randint(1, 3)):
            at, holder = places[generator.randint(len(places))], changed
            try:
                for key in at[:-1]:
                    holder = holder[key]
                if generator.rand() < 0.2:
                    del holder[at[-1]]
                else:
                    holder[at[-1]] = HOSTILE[generator.randint(len(HOSTILE))]
            except (LookupError, TypeError):  # the other change took the place away
                continue
        seal(artefact, changed)
        n_refused += not load_and_ask(artefact)
    assert n_refused > n / 2
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert grown < 500_000  # KiB


@pytest.mark.parametrize("name", ["data", "indices", "indptr"])
def test_an_endless_number_in_place_of_an_array_is_refused_at_once(artefact, name):
    manifest = json.loads((artefact / "manifest.json").read_text())
    assert name in manifest["parts"]["item"]
    manifest["parts"]["item"][name] = {"decimal": "1e999999999"}
    seal(artefact, manifest)
    with pytest.raises(
        ArtefactError, match="item.safetensors.* features that are no arrays"
    ):
        load(artefact)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_changed_arrays_are_refused_or_make_a_model(artefact, n):
    folder, generator = version_of(artefact), np.random.RandomState(n)
    manifest = json.loads((artefact / "manifest.json").read_text())
    files = sorted(folder.glob("*.safetensors"))
    for _ in range(n):
        file = files[generator.randint(len(files))]
        content = file.read_bytes()
        arrays = safetensors.load(content)
        name = sorted(arrays)[generator.randint(len(arrays))]
        array = arrays[name].copy()
        change = generator.randint(6)
        if change == 0 and array.dtype.kind == "f" and array.size:
            array.flat[generator.randint(array.size)] = generator.choice([np.nan, np.inf])
        elif change == 1 and array.size:
            array.flat[generator.randint(array.size)] = generator.choice([-9, 10**6, 0])
        elif change == 2 and array.ndim:
            array = array[:-1]
        elif change == 3:
            array = np.repeat(np.atleast_1d(array), 3, axis=0)
        elif change == 4:
            array = array.astype(generator.choice(["f8", "i1", "u8", "?"]))
        else:
            array = array[None]
        arrays[name] = np.ascontiguousarray(array)
        put(artefact, manifest, file.name, safetensors.save(arrays))
        load_and_ask(artefact)
        put(artefact, manifest, file.name, content)
    load(artefact)


def put(path, manifest, name, content):
    """Replace a file, with the size and checksum that belong to it."""
    (version_of(path) / name).write_bytes(content)
    changed = copy.deepcopy(manifest)
    changed["files"][name] = [len(content), hashlib.sha256(content).hexdigest()]
    seal(path, changed)


@pytest.mark.parametrize(
    "text, message",
    [
        (b"\xff\xfe{}", "no JSON"),
        (b'{"a": NaN}', "no JSON"),
        (b'{"a": 1, "a": 2}', "a key is repeated"),
        (b"[" * 100_000, "no JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "no JSON"),
        (b'"text"', "is the manifest of something else"),
        (b'{"format": "sktwotower", "format_version": true}', "has format True"),
        (b'{"format": "sktwotower", "format_version": 5}', "is not what was saved"),
    ],
)
def test_a_manifest_that_is_no_manifest_is_refused(artefact, text, message):
    (artefact / "manifest.json").write_bytes(text)
    with pytest.raises(ArtefactError, match=message):
        load(artefact)


def test_sizes_are_compared_before_anything_is_read(artefact, monkeypatch):
    manifest = json.loads((artefact / "manifest.json").read_text())
    name = "towers.safetensors"
    os.truncate(version_of(artefact) / name, 2**36)  # a file of holes
    monkeypatch.setattr(hashlib, "file_digest", None)
    with pytest.raises(ArtefactError, match=rf"{name} is .* 68719476736 bytes instead of"):
        load(artefact)
    assert manifest["files"][name][0] < 10_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="There are no pipes with names")
@pytest.mark.parametrize("what", ["pipe", "directory", "link outside", "device", "link"])
def test_only_plain_files_are_opened(artefact, tmp_path, what):
    for name in ("manifest.json", "towers.safetensors"):
        file = artefact / name if name == "manifest.json" else version_of(artefact) / name
        moved = tmp_path / name if what == "link outside" else artefact / f"moved {name}"
        os.rename(file, moved)
        if what == "pipe":
            os.mkfifo(file)
        elif what == "directory":
            file.mkdir()
        elif what == "device":
            file.symlink_to("/dev/zero")
        else:
            file.symlink_to(moved)
        if what == "link":  # within the artefact
            load(artefact)
        else:
            with pytest.raises(ArtefactError, match="no plain file|leads out of"):
                load(artefact)
        file.rmdir() if what == "directory" else file.unlink()
        os.rename(moved, file)
    load(artefact)


def test_a_small_file_that_is_large_in_memory_is_refused(artefact):
    """The same long text in many rows takes some bytes of a file."""
    pa = pytest.importorskip("pyarrow")
    manifest = json.loads((artefact / "manifest.json").read_text())
    file = version_of(artefact) / "parameters.item_table.parquet"
    table = parquet.read_table(file)
    n_rows = 100_000
    metadata = json.loads(table.schema.metadata[b"sktwotower"]) | {"n_rows": n_rows}
    columns = {"item": np.zeros(n_rows, int), "kind": ["a" * 2000] * n_rows}
    bomb = pa.table(columns | {"price": np.ones(n_rows)})
    bomb = bomb.replace_schema_metadata({b"sktwotower": json.dumps(metadata)})
    parquet.write_table(bomb, file, compression="zstd")
    assert file.stat().st_size < 50_000
    put(artefact, manifest, file.name, file.read_bytes())
    with pytest.raises(ArtefactError, match="too much for its size"):
        load(artefact)


def test_towers_of_more_weights_than_there_are_are_not_made(artefact):
    manifest = json.loads((artefact / "manifest.json").read_text())
    for change in (
        {"hidden_layer_sizes": [10**6, 10**6]},
        {"embedding_dim": 10**9},
        {"n_history_items": 10**12},
    ):
        changed = copy.deepcopy(manifest)
        arguments = dict(manifest["parts"]["towers"]["user"]["dict"]) | change
        changed["parts"]["towers"]["user"] = {"dict": [list(x) for x in arguments.items()]}
        seal(artefact, changed)
        with pytest.raises(ArtefactError, match="describes towers of .* weights, where"):
            load(artefact)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("history", None),
        ("user_id_embedding", False),
        ("embedding_dim", 5),
        ("hidden_layer_sizes", None),
        ("temperature", "learned"),
        ("temperature", 0.5),
    ],
)
def test_settings_are_those_of_the_towers(artefact, name, value):
    manifest = json.loads((artefact / "manifest.json").read_text())
    manifest["parts"]["settings"][name] = value
    seal(artefact, manifest)
    with pytest.raises(ArtefactError, match=f"has the {name} {value!r}, w"):
        load(artefact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_heads": 3}, "not that of the user tower"),
        ({"n_heads": 0}, "not that of the user tower"),
        ({"n_layers": -1}, "towers.safetensors .* cannot be read"),
        ({"n_layers": 10**9}, "describes towers of .* weights, where"),
        ({"n_layers": 1}, "towers.safetensors .* cannot be read"),
        ({"size": 10**9}, "describes towers of .* weights, where"),
        ({"size": 4}, "towers.safetensors .* cannot be read"),
        ({"size": "x"}, "manifest.json .* cannot be read"),
        ({"dropout": 2.0}, "not that of the user tower"),
        ({"width": 4}, "towers.safetensors .* cannot be read"),
    ],
    ids=str,
)
def test_a_changed_transformer_is_refused(reader_artefact, change, message):
    manifest = json.loads((reader_artefact / "manifest.json").read_text())
    arguments = dict(manifest["parts"]["towers"]["user"]["dict"])
    reader = dict(arguments["reader"]["dict"]) | change
    arguments["reader"] = {"dict": [list(x) for x in reader.items()]}
    manifest["parts"]["towers"]["user"] = {"dict": [list(x) for x in arguments.items()]}
    seal(reader_artefact, manifest)
    with pytest.raises(ArtefactError, match=message):
        load(reader_artefact)


def test_a_part_cannot_name_a_file_elsewhere(artefact, tmp_path):
    manifest = json.loads((artefact / "manifest.json").read_text())
    manifest["parts"]["../../elsewhere"] = manifest["parts"].pop("log")
    seal(artefact, manifest)
    with pytest.raises(ArtefactError, match="has the parts"):
        load(artefact)
    assert Path(tmp_path).exists()
