"""Files of which each of several ranks, which are threads here, reads a part."""

import datetime
import decimal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sktwotower import TwoTowerRecommender
from sktwotower._data import stored_interactions as module
from sktwotower._data.interactions import DedupedFeatures
from sktwotower._data.roles import ColumnRoles, FeatureColumns
from sktwotower._data.row_groups import RowGroups
from sktwotower._data.stored_interactions import StoredInteractions
from sktwotower._nn.distributed import RankError, Ranks
from sktwotower._training.configuration import Configuration
from sktwotower._training.data import read_training_rows
from tests._nn.thread_ranks import on_ranks

pa = pytest.importorskip("pyarrow")
ds = pytest.importorskip("pyarrow.dataset")
pq = pytest.importorskip("pyarrow.parquet")

SIZES = [2, 3]
N = 300


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_SIZE", 40)


def table(**columns):
    rng = np.random.default_rng(0)
    users = rng.integers(40, size=N)
    known = {
        "user": [f"user {i}" for i in users],
        "item": rng.integers(30, size=N),
        "when": pd.to_datetime(rng.integers(0, 10**6, N), unit="h"),
        "city": pd.Categorical(rng.choice(["rome", "oslo", "bern"], N)),
        "tags": [["x", "y", "z"][: i % 4] for i in users],
        "price": rng.normal(size=N).round(1),
        "rating": rng.integers(0, 6, N),
        "weight": rng.integers(0, 3, N) / 2,
    }
    frame = pd.DataFrame(known)
    frame.loc[[3, 250], "price"] = np.nan
    frame.loc[5, "city"] = None
    return pa.Table.from_pandas(frame.assign(**columns))


def row_groups_of(path, sizes):
    """A file with row groups of these sizes."""
    rows, start = table(), 0
    with pq.ParquetWriter(path, rows.schema) as writer:
        for size in sizes:
            writer.write_table(rows[start : start + size], row_group_size=max(size, 1))
            start += size
    return path


def folder(path):
    """Files of unequal sizes, in directories that are a column."""
    rows = table()
    for year, part in enumerate([rows[:10], rows[10:250], rows[250:]]):
        (path / f"year={year}").mkdir(parents=True)
        pq.write_table(part, path / f"year={year}" / "rows.parquet", row_group_size=64)
    return path


LAYOUTS = {
    "row groups": lambda path: row_groups_of(path, [50] * 6),
    "unequal": lambda path: row_groups_of(path, [1, 200, 0, 9, 90]),
    "one row group": lambda path: row_groups_of(path, [300]),
    "folder": folder,
    "in memory": lambda path: ds.dataset([table()[:120], table()[120:]]),
    "filtered": lambda path: ds.dataset(table()).filter(ds.field("item") < 20),
}


# How many of three ranks, or of two, have rows; the others have none.
HAVE_ROWS = {"one row group": 1, "in memory": 2, "filtered": 1}


def read(X, ranks=None, y=None, sample_weight=None, **roles):
    roles = {
        role: FeatureColumns(named, [], by_name=True) if isinstance(named, list) else named
        for role, named in roles.items()
    }
    stored, roles = StoredInteractions(X, owner="it"), ColumnRoles("user", "item", **roles)
    if ranks is None:
        return stored.read(y, sample_weight, roles=roles)
    return stored.read_share(y, sample_weight, roles=roles, ranks=ranks)


def all_rows_of(own):
    """The rows of all ranks, in the first one."""
    share, rows = own.share.moved(own, np.zeros(len(own), dtype=np.int64))
    return replace(rows, share=share).take(np.argsort(share.numbers))


ALL = {
    "timestamp_column": "when",
    "y": "rating",
    "sample_weight": "weight",
    "user_features": ["city", "tags"],
    "item_features": ["price"],
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("roles", [{}, ALL], ids=["ids", "all"])
def test_ranks_read_together_what_one_process_reads(tmp_path, size, layout, roles):
    X = LAYOUTS[layout](tmp_path / "rows")
    expected = read(X, **roles)

    def call(ranks):
        own = read(X, ranks, **roles)
        return len(own), all_rows_of(own)

    lengths, found = zip(*on_ranks(size, call), strict=True)
    assert sum(lengths) == len(expected)
    assert sum(map(bool, lengths)) == HAVE_ROWS.get(layout, size)
    one = found[0]
    assert one.time_range == expected.time_range
    assert one.columns().keys() == expected.columns().keys()
    for name in ("users", "items"):
        ids = getattr(one, name)
        appeared = pd.unique(np.asarray(getattr(expected, name)))
        assert ids.categories.dtype == getattr(expected, name).categories.dtype
        assert ids.categories.tolist() == appeared.tolist()
        assert np.array_equal(np.asarray(ids), np.asarray(getattr(expected, name)))
    for name, column in expected.columns().items():
        if isinstance(column, DedupedFeatures):
            features = getattr(one, name)
            pd.testing.assert_frame_equal(features.frame, column.frame)
            assert np.array_equal(features.positions, column.positions)
        elif isinstance(column, np.ndarray):
            assert getattr(one, name).dtype == column.dtype
            assert np.array_equal(getattr(one, name), column)


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([3, 1, 3, 2], pa.int8()),
        pa.array([2**63 + 2, 2**63 + 1, 2**63 + 2, 5], pa.uint64()),
        pa.array([0.0, 1.5, -0.0, 1.5]),
        pa.array(np.array([0.5, 0.25, 0.5, 1], np.float16)),
        pa.array([True, False, True, True]),
        pa.array([b"c", b"a", b"c", b"d"], pa.binary(1)),
        pa.array([datetime.date(2020, 1, d) for d in (3, 1, 3, 2)]),
        pa.array([datetime.datetime(2020, 1, d) for d in (3, 1, 3, 2)], pa.timestamp("us")),
        pa.array([decimal.Decimal(d) for d in ("2.5", "1.5", "2.5", "0.5")]),
        pa.array(["c", "a", "c", "b"]).dictionary_encode(),
    ],
    ids=lambda ids: str(ids.type),
)
def test_ids_and_features_of_all_types(tmp_path, ids):
    rows = pa.table({"user": ids, "item": ids, "what": ids})
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=2)
    roles = {"user_features": ["what"]}
    expected = read(tmp_path, **roles).expanded()
    found, _ = on_ranks(2, lambda ranks: all_rows_of(read(tmp_path, ranks, **roles)))
    found = found.expanded()
    assert found.users.dtype == expected.users.dtype
    assert found.users.tolist() == expected.users.tolist()
    pd.testing.assert_frame_equal(found.user_features, expected.user_features)


def test_directories_are_a_column_of_each_share(tmp_path):
    X = folder(tmp_path / "rows")
    expected = read(X, user_features=["year"]).user_features

    def call(ranks):
        return all_rows_of(read(X, ranks, user_features=["year"])).user_features

    found, _ = on_ranks(2, call)
    pd.testing.assert_frame_equal(found.frame, expected.frame)
    assert np.array_equal(found.positions, expected.positions)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("sizes", [[50] * 6, [1, 200, 0, 9, 90], [300]])
def test_each_row_group_belongs_to_one_rank(tmp_path, size, sizes):
    dataset = ds.dataset(row_groups_of(tmp_path / "rows.parquet", sizes))
    shares = [RowGroups.of_rank(dataset, Ranks(rank, size)) for rank in range(size)]
    groups = [piece.row_groups[0].id for share in shares for piece in share.pieces]
    assert groups == [number for number, n in enumerate(sizes) if n]  # in the order of X
    assert sum(share.n_rows for share in shares) == N
    for share in shares:
        assert share.n_rows <= N / size + max(sizes)
        batches = share.scanner(columns=["item"], batch_size=7).to_batches()
        assert sum(map(len, batches)) == share.n_rows


def test_a_rank_does_not_read_the_row_groups_of_others(tmp_path):
    path = row_groups_of(tmp_path / "rows.parquet", [100] * 3)
    dataset, metadata = ds.dataset(path), pq.read_metadata(path)
    begins, ends = [], []
    for group in range(3):
        columns = [metadata.row_group(group).column(i) for i in range(8)]
        begins.append(min(c.dictionary_page_offset or c.data_page_offset for c in columns))
        ends.append(begins[-1] + sum(c.total_compressed_size for c in columns))
    with open(path, "r+b") as file:  # nobody can read what the others have
        for group in (0, 2):
            file.seek(begins[group])
            file.write(b"\xff" * (ends[group] - begins[group]))
    shares = [RowGroups.of_rank(dataset, Ranks(rank, 3)) for rank in range(3)]
    options = {"columns": dataset.schema.names, "use_threads": False}
    batches = list(shares[1].scanner(**options).to_batches())
    assert pa.Table.from_batches(batches).to_pylist() == table()[100:200].to_pylist()
    for other in (0, 2):
        with pytest.raises(OSError):
            list(shares[other].scanner(**options).to_batches())


def replaced(name, rows, value, kind=None):
    """The column with another value in some rows."""
    values = table()[name].to_pylist()
    for row in rows:
        values[row] = value
    return {name: pd.Series(values, dtype=kind)}


WRONG = {
    "missing ids": (replaced("user", [120, 250], None), {}),
    "missing times": (replaced("when", [7, 299], None), ALL),
    "times in two units": (
        {"when": np.where(np.arange(N) < 250, 1.7e9, 1.7e12)},
        {"timestamp_column": "when"},
    ),
    "infinite times": (
        {"when": np.where(np.arange(N) < 250, 1.0, np.inf)},
        {"timestamp_column": "when"},
    ),
    "missing labels": (replaced("rating", [280], np.nan), {"y": "rating"}),
    "labels in words": (replaced("rating", range(N), "good"), {"y": "rating"}),
    "infinite features": (replaced("price", [290], np.inf), ALL),
    "weights below 0": (replaced("weight", [40], -1.0), ALL),
    "no weight": ({"weight": np.zeros(N)}, ALL),
    "no such column": ({}, {"y": "stars"}),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", WRONG)
def test_all_ranks_raise_what_one_process_raises(tmp_path, size, case):
    columns, roles = WRONG[case]
    path = tmp_path / "rows.parquet"
    pq.write_table(table(**columns), path, row_group_size=50)
    assert_same_message(path, size, **roles)


def test_files_with_ids_of_two_kinds_are_refused_by_all(tmp_path):
    for name, ids in (("a", [1, 2]), ("b", ["1", "2"])):
        pq.write_table(
            pa.table({"user": ids, "item": [1, 2]}), tmp_path / f"{name}.parquet"
        )
    assert_same_message(tmp_path, 2)


def test_a_file_that_one_rank_cannot_read_is_refused_by_all(tmp_path):
    path = row_groups_of(tmp_path / "rows.parquet", [100] * 3)
    offset = pq.read_metadata(path).row_group(2).column(0).data_page_offset
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 20)
    assert_same_message(path, 3)


def assert_same_message(X, size, **roles):
    with pytest.raises(ValueError) as expected:
        read(X, **roles)

    def call(ranks):
        with pytest.raises(ValueError) as raised:
            read(X, ranks, **roles)
        return str(raised.value)

    assert on_ranks(size, call) == [str(expected.value)] * size


def test_ranks_that_are_given_different_files_say_so(tmp_path):
    paths = [
        row_groups_of(tmp_path / f"{rank}.parquet", sizes)
        for rank, sizes in enumerate([[300], [300], [200, 50]])
    ]

    def call(ranks):
        with pytest.raises(ValueError) as raised:
            read(paths[ranks.rank], ranks)
        return str(raised.value)

    expected = "X has 1 row groups with 300 rows in process 0, and 2 with 250 in process 2."
    assert all(message.startswith(expected) for message in on_ranks(3, call))


def test_an_error_that_is_not_found_again_ends_all(tmp_path, monkeypatch):
    path = row_groups_of(tmp_path / "rows.parquet", [100] * 3)
    of_rank = RowGroups.of_rank

    def failing(dataset, ranks):
        if ranks.rank == 1:
            raise OSError("The network is down.")
        return of_rank(dataset, ranks)

    monkeypatch.setattr(RowGroups, "of_rank", failing)

    def call(ranks):
        with pytest.raises((OSError, RankError)) as raised:
            read(path, ranks)
        return str(raised.value)

    others = "Processes [1] of 3 have failed; their own errors say why."
    assert on_ranks(3, call) == [others, "The network is down.", others]


def test_files_that_one_machine_lacks_end_all(tmp_path):
    path = row_groups_of(tmp_path / "rows.parquet", [100] * 2)
    configuration = Configuration.of(
        TwoTowerRecommender(user_column="user", item_column="item").get_params(deep=False),
        owner="TwoTowerRecommender",
    )

    def call(ranks):
        X = path if ranks.rank == 0 else tmp_path / "lost.parquet"
        with pytest.raises((RankError, FileNotFoundError)) as raised:
            read_training_rows(X, None, None, configuration, ranks=ranks)
        return str(raised.value)

    first, second = on_ranks(2, call)
    assert first == "Processes [1] of 2 have failed; their own errors say why."
    assert "lost.parquet" in second
