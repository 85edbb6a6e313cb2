"""Files that do not go together, cannot be read, or change while they are read."""

import datetime
import decimal
import errno
import os
import re
from itertools import cycle

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.fixes import parse_version

from sktwotower import TwoTowerRecommender
from sktwotower._data import stored_interactions as module
from sktwotower._data.column_readers import IdReader
from sktwotower.utils import _column_store as column_store
from tests.helpers import is_mapped, same_embeddings

pa = pytest.importorskip("pyarrow")
ds = pytest.importorskip("pyarrow.dataset")
pq = pytest.importorskip("pyarrow.parquet")
feather = pytest.importorskip("pyarrow.feather")

IDS = {"user": [1, 1, 2, 2, 3, 3], "item": ["a", "b", "b", "c", "a", "c"]}
N = len(IDS["user"])
ROWS = pd.DataFrame(IDS)
SMALL = {
    "user_column": "user",
    "item_column": "item",
    "embedding_dim": 2,
    "max_iter": 1,
    "random_state": 0,
}


def fit(X, y=None, sample_weight=None, X_val=None, **options):
    model = TwoTowerRecommender(**SMALL | options)
    return model.fit(X, y, sample_weight=sample_weight, X_val=X_val)


def folder_of(tmp_path, *tables):
    """A folder of one file for each table."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for number, columns in enumerate(tables):
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")
    return folder


# --- rows that come and go ----------------------------------------------------------------


@pytest.fixture(params=["in memory", "mapped"])
def place(request, monkeypatch):
    if request.param == "mapped":
        monkeypatch.setattr(column_store, "ROWS_IN_MEMORY", 50)
        monkeypatch.setattr(column_store, "ROWS_AT_ONCE", 40)
    monkeypatch.setattr(module, "_BLOCK_SIZE", 30)
    return request.param


def rewritten(monkeypatch, write):
    """Call a function between the count of the rows and their reading."""
    blocks = module._blocks

    def late(dataset, names):
        write()
        yield from blocks(dataset, names)

    monkeypatch.setattr(module, "_blocks", late)


@pytest.mark.parametrize("n_now", [0, 6, 60, 119, 121, 300])
@pytest.mark.parametrize("way", ["fit", "partial_fit", "X_val"])
def test_rows_that_come_and_go_are_refused(tmp_path, monkeypatch, place, n_now, way):
    file = tmp_path / "rows.csv"
    many = pd.concat([ROWS] * 20)
    many.to_csv(file, index=False)
    stored = ds.dataset(file, format="csv")
    model = fit(stored)
    state = model._state
    assert is_mapped(state.interactions.users) == (place == "mapped")
    now = pd.concat([ROWS] * 50)[:n_now]
    rewritten(monkeypatch, lambda: now.to_csv(file, index=False))
    message = rf"rows.csv'?\)?, which had 120 rows when it was opened and {n_now} when"
    with pytest.raises(ValueError, match=message):
        if way == "X_val":
            model.fit(many, X_val=stored)
        else:
            getattr(model, way)(stored)
    assert model._state is state


def test_a_path_names_itself(tmp_path, monkeypatch):
    file = tmp_path / "rows.parquet"
    ROWS.to_parquet(file)
    blocks = module._blocks

    def half(dataset, names):
        for block in blocks(dataset, names):
            yield block.slice(0, 3)

    monkeypatch.setattr(module, "_blocks", half)
    message = rf"^X is the path '{re.escape(str(file))}', which had 6 rows .* and 3 when"
    with pytest.raises(ValueError, match=message):
        fit(file)


def test_files_that_are_removed_meanwhile(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, IDS, IDS)
    rewritten(monkeypatch, lambda: os.remove(folder / "1.parquet"))
    with pytest.raises(FileNotFoundError, match=r"cannot be read any more: .*1\.parquet"):
        fit(folder)


def test_files_that_are_cut_meanwhile(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, IDS, IDS)
    rewritten(monkeypatch, lambda: os.truncate(folder / "1.parquet", 60))
    with pytest.raises(ValueError, match=r"X is the path .*1\.parquet.* cannot be read"):
        fit(folder)


def test_ids_of_a_mapped_array_that_change(tmp_path, monkeypatch):
    """They are read twice: for the distinct ones, and for the codes."""
    rows = np.lib.format.open_memmap(
        tmp_path / "rows.npy", mode="w+", dtype=np.int64, shape=(200, 2)
    )
    rows[:] = np.arange(400).reshape(200, 2) % 7
    unique = pd.unique

    def late(values):
        found = unique(values)
        rows[150:, 0] = 99
        return found

    monkeypatch.setattr(column_store, "ROWS_AT_ONCE", 100)
    monkeypatch.setattr(pd, "unique", late)
    monkeypatch.setattr(
        column_store,
        "blocks",
        lambda n, blocks=column_store.blocks: reversed(list(blocks(n))),
    )
    with pytest.raises(ValueError, match="user_column has changed while it was read"):
        TwoTowerRecommender(max_iter=1).fit(rows)


# --- files that do not go together -------------------------------------------------------


def column(kind, value):
    return pa.array([value] * N, kind)


DAY = datetime.datetime(2024, 1, 1)
TYPES = {
    "int32": column(pa.int32(), 3),
    "int64": column(pa.int64(), 2**40),
    "float": column(pa.float64(), 1.5),
    "decimal": column(pa.decimal128(5, 2), decimal.Decimal("1.50")),
    "bool": column(pa.bool_(), True),
    "string": column(pa.string(), "x"),
    "large string": column(pa.large_string(), "y"),
    "dictionary": column(pa.string(), "z").dictionary_encode(),
    "seconds": column(pa.timestamp("s"), DAY),
    "milliseconds": column(pa.timestamp("ms"), DAY),
    "date": column(pa.date32(), DAY.date()),
    "zone": column(pa.timestamp("us", "UTC"), DAY),
    "list": column(pa.list_(pa.string()), ["x"]),
    "struct": pa.array([{"a": 1}] * N),
    "null": pa.nulls(N),
}
GOES_TOGETHER = [
    {"int32", "int64", "float"},
    {"string", "large string", "dictionary"},
    {"seconds", "milliseconds", "date"},
    {"float", "decimal"},
]


def go_together(one, other):
    return any({one, other} <= kinds for kinds in GOES_TOGETHER) or "null" in (one, other)


@pytest.mark.slow
@pytest.mark.parametrize("one", TYPES)
def test_a_feature_of_two_types(tmp_path, one):
    for other in TYPES:
        if other == one or {one, other} & {"struct"}:
            continue
        place = tmp_path / other
        place.mkdir()
        tables = [IDS | {"thing": TYPES[name]} for name in (one, other)]
        folder = folder_of(place, *tables)
        try:
            model = fit(folder, user_features=["thing"])
        except ValueError as error:
            assert not go_together(one, other), (other, error)
            assert re.search(r"[Cc]olumn 'thing' of .*rows/[01]\.parquet'", str(error))
        else:
            # Decimals of a few digits may hold integers.
            assert go_together(one, other) or "decimal" in (one, other)
            assert model.user_ids_.tolist() == [1, 2, 3]


def test_numbers_of_all_files_are_kept(tmp_path):
    """The type of the first file does not round those of the others."""
    folder = folder_of(tmp_path, IDS | {"when": [1] * N}, IDS | {"when": [2**40 + 0.5] * N})
    model = fit(folder, timestamp_column="when")
    assert set(model._state.interactions.times) == {1.0, 2**40 + 0.5}


@pytest.mark.parametrize("role", ["user", "item"])
@pytest.mark.parametrize("others", [["1", "2"] * 3, [1.0, 2.0] * 3, [True, False] * 3])
def test_ids_of_two_types(tmp_path, role, others):
    first = IDS | {role: [1, 2] * 3}
    for tables in ((first, IDS | {role: others}), (IDS | {role: others}, first)):
        place = tmp_path / str(len(os.listdir(tmp_path)))
        place.mkdir()
        folder = folder_of(place, *tables)
        message = rf"Column '{role}' of X is \w+ in '.*0.parquet' and \w+ in '.*1.parquet'"
        with pytest.raises(ValueError, match=message):
            fit(folder)
        model = fit(ROWS)
        with pytest.raises(ValueError, match=message):
            model.partial_fit(folder)
        with pytest.raises(ValueError, match=message):
            fit(ROWS, X_val=folder)


def test_a_dataset_has_the_types_of_its_schema(tmp_path):
    folder = folder_of(tmp_path, IDS, IDS | {"user": ["1", "2"] * 3})
    schema = pa.schema([("user", pa.string()), ("item", pa.string())])
    stored = ds.dataset(folder, schema=schema)
    assert fit(stored).user_ids_.tolist() == ["1", "2", "3"]


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_column_that_a_file_lacks(tmp_path, lacking):
    tables = [IDS | {"when": [1] * N, "age": [2, 3] * 3}] * 2
    tables[lacking] = IDS
    folder = folder_of(tmp_path, *tables)
    said = rf"missing in 1 of 2 files: '.*{lacking}\.parquet'"
    for role in ("timestamp_column", "y", "sample_weight"):
        with pytest.raises(ValueError, match=f"Column 'when' of X is {said}; add it, or"):
            fit(folder, **{role: "when"})
    with pytest.warns(UserWarning, match=f"Column 'age' of X is {said}. Their rows have"):
        model = fit(folder, user_features=["age"])
    expected = pd.read_parquet(folder / f"{1 - lacking}.parquet")
    both = [expected, expected.assign(age=np.nan, when=np.nan)]
    frame = pd.concat(both if lacking else both[::-1], ignore_index=True)
    assert same_embeddings(model, fit(frame, user_features=["age"]))


def test_an_id_that_a_file_lacks(tmp_path):
    folder = folder_of(tmp_path, IDS, {"user": IDS["user"]})
    for X in (folder, ds.dataset(folder)):
        with pytest.raises(ValueError, match="Column 'item' of X is missing in 1 of 2"):
            fit(X)


def test_columns_of_folders_are_in_all_files(tmp_path):
    for year in (2024, 2025):
        (tmp_path / f"year={year}").mkdir()
        thing = "thing" if year == 2024 else "other"
        table = pa.table(IDS | {thing: [1] * N})
        pq.write_table(table, tmp_path / f"year={year}" / "rows.parquet")
    model = fit(tmp_path, user_features=["year"])
    assert model._state.user.entities.columns == ["year"]
    with pytest.raises(ValueError, match="cannot be read as Parquet .*user"):
        (tmp_path / "user=1").mkdir()
        pq.write_table(pa.table(IDS), tmp_path / "user=1" / "rows.parquet")
        fit(tmp_path)


# --- files that cannot be read ------------------------------------------------------------


def corrupt(file):
    """Overwrite the first column of a file, whose footer stays."""
    raw = bytearray(file.read_bytes())
    raw[10:60] = bytes(50)
    file.write_bytes(raw)


@pytest.mark.parametrize("way", ["fit", "partial_fit", "X_val"])
def test_a_page_that_cannot_be_decoded(tmp_path, way):
    folder = folder_of(tmp_path, IDS, IDS)
    corrupt(folder / "1.parquet")
    model = fit(ROWS)
    state = model._state
    with pytest.raises(ValueError, match=r"of which column 'user' of '.*1.parquet' cannot"):
        if way == "X_val":
            model.fit(ROWS, X_val=folder)
        else:
            getattr(model, way)(folder)
    assert model._state is state


def test_a_full_disk_is_no_fault_of_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(IdReader, "add", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        fit(folder_of(tmp_path, IDS))
    assert caught.value.errno == errno.ENOSPC


CSV = {
    "a row too long": ("user,item\n1,a\n2,b,7\n", r"of which '.*rows.csv' cannot be read"),
    "a late string": (
        "user,item\n" + "1,a\n" * 500_000 + "x,b\n",
        r"of which column 'user' of '.*rows.csv' cannot be read: .*'x'",
    ),
}


@pytest.mark.parametrize("case", CSV)
def test_csv_that_cannot_be_parsed(tmp_path, case):
    text, message = CSV[case]
    file = tmp_path / "rows.csv"
    file.write_text(text)
    schema = pa.schema([("user", pa.int64()), ("item", pa.string())])
    with pytest.raises(ValueError, match=message):
        fit(ds.dataset(file, format="csv", schema=schema))


def test_other_formats(tmp_path):
    table = pa.table(IDS | {"tags": [["x"], ["y"]] * 3})
    feather.write_feather(table, tmp_path / "rows.feather")
    pq.write_table(table, tmp_path / "rows.parquet")
    expected = fit(tmp_path / "rows.parquet", user_features=["tags"])
    stored = ds.dataset(tmp_path / "rows.feather", format="feather")
    assert same_embeddings(fit(stored, user_features=["tags"]), expected)
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        fit(tmp_path / "rows.feather")


def test_folders_with_something_else(tmp_path):
    folder = folder_of(tmp_path, IDS, IDS)
    os.truncate(folder / "1.parquet", 100)
    with pytest.raises(ValueError, match=r"cannot be read as Parquet .*1\.parquet"):
        fit(folder)
    os.remove(folder / "1.parquet")
    os.symlink(tmp_path / "nowhere", folder / "2.parquet")
    with pytest.raises(FileNotFoundError, match=r"2\.parquet' in it is a link to a file"):
        fit(folder)


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    ROWS.to_parquet(tmp_path / "rows.parquet")
    model = fit("~/rows.parquet")
    assert same_embeddings(model, fit(ROWS))
    assert model.partial_fit("~/rows.parquet").n_iter_ == 2


# --- types of Arrow -----------------------------------------------------------------------

TAGS = [["x"], ["y"], ["x", "y"], [], None, ["x"]]
WORDS = ["x", "y", None] * 2
HAS_VIEWS = parse_version(pa.__version__) >= parse_version("18")  # casts and look-ups
ARROW = {
    "lists of strings": pa.array(TAGS),
    "large lists": pa.array(TAGS, pa.large_list(pa.string())),
    "views of lists": pa.array(TAGS, pa.list_view(pa.string())),
    "lists of numbers": pa.array([[1], [2], [1], [], [2], [1]]),
    "vectors": pa.array([[1.0, 2.0], [0.0, 1.0]] * 3, pa.list_(pa.float32(), 2)),
    "decimals": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("2.20")] * 2),
    "integers with nulls": pa.array([1, None, 3] * 2),
    "dates": pa.array([DAY.date(), None] * 3),
    "times": pa.array([DAY, None] * 3),
    "views of strings": pa.array(WORDS, pa.string_view()),
    "large strings": pa.array(WORDS, pa.large_string()),
    "dictionaries": pa.array(WORDS).dictionary_encode(),
    "run lengths": pa.RunEndEncodedArray.from_arrays([2, 6], pa.array(["x", "y"])),
}
if not HAS_VIEWS:
    del ARROW["views of lists"], ARROW["views of strings"]


def containers(table):
    """The table in all forms that X has."""
    yield "pyarrow", table
    yield "a Dataset", ds.dataset(table)
    if not pa.types.is_list_view(table.schema.field("thing").type):
        yield "NumPy types", table.to_pandas()
    yield "Arrow types", table.to_pandas(types_mapper=pd.ArrowDtype)
    try:
        yield "polars", pytest.importorskip("polars").from_arrow(table)
    except BaseException as error:  # some types polars refuses, and panics of others
        if isinstance(error, KeyboardInterrupt | pytest.skip.Exception):
            raise


@pytest.mark.parametrize(
    ("name", "side"), list(zip(ARROW, cycle(["user", "item"]), strict=False))
)
def test_features_are_the_same_in_all_containers(name, side):
    table = pa.table(IDS | {"thing": ARROW[name]})
    widths = {}
    for container, X in containers(table):
        model = fit(X, **{f"{side}_features": ["thing"]})
        entities = model._state.side(side).entities
        widths[container] = entities.features.shape[1], entities.features.nnz
        model.partial_fit(X)
    # A dense column has another width than a sparse one, but a container has no say in it.
    assert len(set(widths.values())) == 1, widths
    assert widths["pyarrow"][1] > 0


@pytest.mark.parametrize(
    "values",
    [[{"a": 1}] * N, [[{"a": 1}]] * N, [[["x"]]] * N],
    ids=["struct", "in a list", "nested"],
)
def test_structs_are_refused_by_name(values):
    for _, X in containers(pa.table(IDS | {"thing": values})):
        with pytest.raises(TypeError, match="'thing'.*which cannot be encoded"):
            fit(X, user_features=["thing"])


def test_labels_and_weights_are_numbers():
    for role in ("y", "sample_weight"):
        for name in ("dates", "times", "large strings", "lists of strings"):
            table = pa.table(IDS | {"thing": ARROW[name]})
            values = table.to_pandas(types_mapper=pd.ArrowDtype)["thing"]
            for X, given in ((ds.dataset(table), "thing"), (ROWS, values)):
                with pytest.raises(ValueError, match="number|NaN|weight"):
                    fit(X, **{role: given})
