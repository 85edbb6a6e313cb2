"""Every dtype of pandas that a fit takes comes back, in tables and in X."""

import datetime as dt
import decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.fixes import parse_version

from sktwotower import EntityTable, load
from sktwotower._persistence.dtypes import decode_dtype
from sktwotower.preprocessing import FeatureEncoder
from tests.helpers import BERLIN, make_model

if parse_version(pd.__version__) < parse_version("3"):
    pytest.skip("the dtypes are those that pandas 3 makes", allow_module_level=True)

pa = pytest.importorskip("pyarrow")
for package in ("safetensors", "skops"):
    pytest.importorskip(package)

from sktwotower._persistence.frames import is_same_frame, read_frame, write_frame  # noqa: E402

DATES = ["2020-01-01", "2021-01-01", None]
NOON = dt.datetime(2020, 1, 1, 12)
STARTS = pd.to_datetime(["2020", "2021", "2022", "2023"])


def columns_of_pandas():
    """Three rows of each dtype, missing values where it has them."""
    for name in "int8 int16 int32 int64 uint8 uint16 uint32 uint64".split():
        yield name, np.array([1, 0, 1], dtype=name)
        nullable = name.replace("ui", "UI").replace("int", "Int").replace("UInt", "UInt")
        yield nullable, pd.array([1, None, 0], dtype=nullable)
    for name in "float16 float32 float64".split():
        yield name, np.array([1, np.nan, 0.5], dtype=name)
    yield "big endian", np.array([1, 0, 1], dtype=">i4")
    yield "bool", np.array([True, False, True])
    yield "boolean", pd.array([True, None, False], dtype="boolean")
    yield "Float32", pd.array([1.5, None, 0], dtype="Float32")
    yield "Float64", pd.array([1.5, None, 0], dtype="Float64")
    yield "beyond float", pd.array([2**60 + 1, None, 1], dtype="Int64")
    for unit in ("s", "ms", "us", "ns"):
        yield f"datetime {unit}", pd.to_datetime(DATES).astype(f"M8[{unit}]")
        yield f"timedelta {unit}", pd.to_timedelta([1, 2, None], "s").astype(f"m8[{unit}]")
        zoned = f"M8[{unit}, Europe/Berlin]"
        yield f"zoned {unit}", pd.to_datetime(DATES).tz_localize("UTC").astype(zoned)
    offset = dt.timezone(dt.timedelta(hours=5, minutes=30))
    for zone in ("UTC", offset, BERLIN):
        yield f"zone {zone}", pd.to_datetime(DATES).tz_localize(zone)
    for name in ("str", "string[python]", "string[pyarrow]"):
        yield name, pd.array(["a", "b", None], dtype=name)
    for frequency in ("D", "M", "Q-DEC", "W-SUN", "2M", "h"):
        yield f"period {frequency}", pd.period_range("2020", periods=3, freq=frequency)
    intervals = pd.arrays.IntervalArray
    for closed in ("left", "right", "both", "neither"):
        yield f"interval {closed}", intervals.from_breaks([0, 1, 2, 3], closed=closed)
    yield (
        "interval missing",
        intervals([pd.Interval(0.0, 1.0), np.nan, pd.Interval(1.0, 2)]),
    )
    yield "interval of dates", intervals.from_breaks(STARTS)
    yield "interval of zones", intervals.from_breaks(STARTS.tz_localize("UTC"))
    sparse = pd.arrays.SparseArray
    yield "sparse", sparse([0.0, 0.0, 1.0])
    yield "sparse NaN", sparse([np.nan, 1.0, np.nan])
    yield "sparse bool", sparse([False, True, False])
    yield "sparse fill", sparse([7, 7, 2], fill_value=7)
    yield "sparse text", sparse(np.array(["a", "b", "a"], dtype=object), fill_value="a")
    yield "ordered", pd.Categorical(["x", "y", None], ["y", "x", "z"], ordered=True)
    objects = {
        "objects": ["a", 1, None],
        "surrogate": ["\ud800", "b", "\udcff"],
        "lists": [["a"], ["b", "c"], None],
        "sets": [{"a", "b", "c"}, {"b"}, set()],
        "bytes": [b"a", b"\xff", None],
        "decimals": [decimal.Decimal("1.50"), decimal.Decimal(2), None],
        "dates": [dt.date(2020, 1, 1), None, dt.date(2021, 1, 1)],
        "long": [10**400, 1, -(10**5000)],
    }
    for name, values in objects.items():
        yield name, pd.Series(values, dtype=object)


def columns_of_arrow():
    """The same, of the types of Arrow."""
    text = pa.string()
    types = {
        pa.bool_(): [True, None, False],
        pa.null(): [None] * 3,
        pa.binary(2): [b"ab", b"cd", None],
        pa.decimal128(10, 2): [decimal.Decimal("1.5"), None, decimal.Decimal("2.5")],
        pa.decimal256(50, 2): [decimal.Decimal("1.5"), None, decimal.Decimal("2.5")],
        pa.list_(pa.float32(), 2): [[1.0, 2], [3, 4], None],
        pa.list_(pa.float64()): [[1.0, float("nan")], [], None],
        pa.list_(pa.list_(text)): [[["a"]], [["b"], []], None],
        pa.struct([("a", pa.int64())]): [{"a": 1}, {"a": 2}, None],
    }
    for kind in (pa.string(), pa.large_string()):
        types[kind] = ["a", "b", None]
        for lists in (pa.list_(kind), pa.large_list(kind)):
            types[lists] = [["a"], ["b", "c"], None]
    for kind in (pa.binary(), pa.large_binary()):
        types[kind] = [b"a", b"\xff", None]
    for name in "int8 int64 uint8 uint64 float32 float64".split():
        types[getattr(pa, name)()] = [1, 0, None]
    for kind in (pa.date32(), pa.date64()):
        types[kind] = [NOON.date(), None, NOON.date()]
    for unit in ("s", "ms", "us", "ns"):
        types[pa.timestamp(unit)] = [NOON, None, NOON]
        types[pa.timestamp(unit, "Europe/Berlin")] = [NOON.astimezone(dt.UTC), None, None]
        types[pa.duration(unit)] = [dt.timedelta(1), None, dt.timedelta(2)]
        times = pa.time32 if unit in ("s", "ms") else pa.time64
        types[times(unit)] = [dt.time(1), None, dt.time(2)]
    for kind, values in types.items():
        yield f"arrow {kind}", pd.array(values, dtype=pd.ArrowDtype(kind))
    for index in (pa.int8(), pa.int32(), pa.uint16()):
        for values in (["a", "b"], [5, 6]):
            codes = pa.array([0, 1, None], index)
            array = pa.DictionaryArray.from_arrays(codes, pa.array(values), ordered=True)
            yield f"arrow {array.type}", pd.arrays.ArrowExtensionArray(array)


COLUMNS = dict(columns_of_pandas()) | dict(columns_of_arrow())
# Categories of each, where pandas can have them.
for _name in list(COLUMNS):
    _column = pd.Series(COLUMNS[_name])
    try:
        COLUMNS[f"category of {_name}"] = pd.Categorical(_column.iloc[[0, 1, 0]])
    except (
        TypeError,
        ValueError,
        NotImplementedError,
        OverflowError,  # pandas 2
        pa.ArrowException,
    ):
        continue


@pytest.mark.parametrize("n_rows", [3, 0])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_each_dtype_comes_back(tmp_path, name, n_rows):
    column = pd.Series(COLUMNS[name], name="x").head(n_rows)
    write_frame(tmp_path / "frame.parquet", column)
    twin = read_frame(tmp_path / "frame.parquet")
    assert twin.dtype == column.dtype
    assert repr(twin.dtype) == repr(column.dtype)
    assert is_same_frame(column, twin)
    mine, theirs = column.tolist(), twin.tolist()
    assert list(map(type, mine)) == list(map(type, theirs))
    assert all(a is b or a == b or (a != a and b != b) for a, b in _pairs(mine, theirs))


def _pairs(mine, theirs):
    """Entries of lists, too: a list with NaN does not equal itself."""
    for one, other in zip(mine, theirs, strict=True):
        if isinstance(one, list | np.ndarray):
            yield from zip(list(one), list(other), strict=True)
        else:
            yield one, other


@pytest.fixture(scope="module")
def features():
    """Columns that the default encoder takes."""
    columns = {}
    for name, values in COLUMNS.items():
        frame = pd.DataFrame({name: values})
        try:
            FeatureEncoder().fit(frame)
            frame.isna()
        except Exception:  # refused, or unknown to pandas' own functions
            continue
        columns[name] = frame[name]
    return pd.DataFrame(columns)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # columns that say little, or mix dtypes
@pytest.mark.parametrize("where", ["table", "EntityTable", "X"])
def test_a_model_with_features_of_all_dtypes_comes_back(tmp_path, features, where):
    assert features.shape[1] > 120
    X = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": [10, 20, 20, 30, 30]})
    table = features.assign(item=[10, 20, 30])
    if where == "X":
        X = X.merge(table, on="item")
        model = make_model(item_features=list(features)).fit(X)
    else:
        is_plain = where == "table"
        model = make_model(
            item_table=table if is_plain else EntityTable(table, "item")
        ).fit(X)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    mine, theirs = (m._state.item.entities.raw_features for m in (model, loaded))
    assert mine.dtypes.tolist() == theirs.dtypes.tolist()
    assert is_same_frame(mine, theirs)
    if where != "X":
        frames = [getattr(m.item_table, "frame", m.item_table) for m in (model, loaded)]
        assert is_same_frame(*frames)
    for one, other in zip(
        model.recommend([1, 2, 9]), loaded.recommend([1, 2, 9]), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model.predict(X), loaded.predict(X))


@pytest.mark.parametrize(
    "content", [{"numpy": "V8"}, {"numpy": "i4,i8"}, {"arrow": "AAAA"}, {"period": "Int8"}]
)
def test_a_dtype_that_no_column_has_is_refused(content):
    with pytest.raises((ValueError, OSError, pa.ArrowException)):
        decode_dtype(content)
