"""Frames as Parquet: what comes back is what went in."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from sktwotower._persistence.frames import is_same_frame, read_frame, write_frame

FRAME = {
    "int": [1, 2, 3],
    "small": np.array([1, 2, 3], dtype="u1"),
    "half": np.array([1, 2, 3], dtype="f2"),
    "float": [1.0, np.nan, 3],
    "text": ["a", None, "b"],
    "old text": pd.Series(["a", None, "b"], dtype=object),
    "nullable text": pd.array(["a", None, "b"], dtype="string"),
    "surrogate": pd.Series(["a", "\ud800", "b\0"], dtype=object),
    "nothing": pd.Series([None] * 3, dtype=object),
    "text and NaN": pd.Series(["a", np.nan, "b"], dtype=object),
    "integers": pd.Series([1, -(2**63), 2**63 - 1], dtype=object),
    "long integers": pd.Series([1, 2**63, 2**200], dtype=object),
    "longer than Python writes": pd.Series([10**5000, "a", 1], dtype=object),
    "integers and None": pd.Series([1, None, 2**60 + 1], dtype=object),
    "flags": pd.Series([True, 1, np.int64(1)], dtype=object),
    "mixed": [1, "a", 2.5],
    "list": [[1, 2], ["a"], None],
    "vector": [np.array([1.0, 2.0]), [3.0, 4.0], None],
    "set": [{"a"}, {"b", "c"}, set()],
    "category": pd.Categorical(["x", "y", None], categories=["y", "x", "z"], ordered=True),
    "numbers": pd.Categorical([1, 2, 1]),
    "mixed category": pd.Categorical([1, "a", 1]),
    "dated category": pd.Categorical(pd.to_datetime(["2020", "2021", None])),
    "paired category": pd.Categorical.from_codes(
        [0, 1, -1], pd.Index([("a", 1), ("b", 2)], tupleize_cols=False)
    ),
    "bins": pd.cut([1.0, 2.0, 3.0], 2),
    "seconds": pd.to_datetime(["2020", "2021", None]).astype("M8[s]"),
    "nanoseconds": pd.to_datetime(["2020", "2021", None]).astype("M8[ns]"),
    "zoned": pd.to_datetime(["2020", "2021", None]).tz_localize("Europe/Berlin"),
    "duration": pd.to_timedelta([1, 2, None], unit="s"),
    "nullable": pd.array([1, None, 2**60 + 1], dtype="Int64"),
    "flag": pd.array([True, None, False], dtype="boolean"),
    "period": pd.period_range("2020", periods=3, freq="M"),
    "interval": pd.arrays.IntervalArray.from_breaks([0, 1, 2, 3]),
    "sparse": pd.arrays.SparseArray([0.0, 0.0, 1.0]),
    "date": [dt.date(2020, 1, 1)] * 3,
    5: [1, 2, 3],
    ("a", "b"): [1, 2, 3],
}


@pytest.fixture
def parquet_and_back(tmp_path):
    pytest.importorskip("pyarrow")

    def parquet_and_back(frame):
        write_frame(tmp_path / "frame.parquet", frame)
        return read_frame(tmp_path / "frame.parquet")

    return parquet_and_back


@pytest.mark.parametrize("n_rows", [3, 0])
def test_frames_come_back(n_rows, parquet_and_back):
    frame = pd.DataFrame(FRAME).head(n_rows)
    twin = parquet_and_back(frame)
    pd.testing.assert_frame_equal(twin, frame)
    for name in frame:
        assert twin[name].dtype == frame[name].dtype
        if frame[name].dtype.kind == "O":
            assert list(map(type, twin[name])) == list(map(type, frame[name])), name


@pytest.mark.parametrize("values", [["a", None, "ünï"], [3, 1, 2**40]])
def test_texts_and_integers_are_columns_that_other_programs_read(tmp_path, values):
    pytest.importorskip("pyarrow")
    file = tmp_path / "frame.parquet"
    write_frame(file, pd.DataFrame({"id": pd.Series(values, dtype=object)}))
    assert pd.read_parquet(file, dtype_backend="pyarrow")["id"].tolist() == [
        pd.NA if value is None else value for value in values
    ]


def test_missing_values_are_equal_and_all_else_counts():
    pa = pytest.importorskip("pyarrow")
    for kind in (pa.float64(), pa.list_(pa.float64())):
        rows = [1.0, float("nan"), None]
        if kind != pa.float64():
            rows = [[value] for value in rows]
        frames = [
            pd.DataFrame({"x": pd.arrays.ArrowExtensionArray(pa.array(values, kind))})
            for values in (
                rows,
                list(rows),
                [rows[0], rows[1], rows[1]],
                rows[:2],
                rows[::-1],
            )
        ]
        assert [is_same_frame(frames[0], other) for other in frames] == [True] * 2 + [
            False
        ] * 3


def test_a_series_comes_back(parquet_and_back):
    series = pd.Series([["a"], ["b", "c"]], name="tags")
    pd.testing.assert_series_equal(parquet_and_back(series), series)


def test_a_frame_without_columns_keeps_its_rows(parquet_and_back):
    assert parquet_and_back(pd.DataFrame(index=range(3))).shape == (3, 0)


def test_a_column_that_cannot_be_stored_is_named(parquet_and_back):
    with pytest.raises(TypeError, match="Column 'x' holds a value of type builtins.object"):
        parquet_and_back(pd.DataFrame({"x": [object()]}))


@pytest.mark.parametrize(
    "other, message",
    [
        (pd.DataFrame({"a": [1, 2]}), "2 columns instead of 1"),
        (pd.DataFrame({"a": [1], "b": [1]}), "2 rows instead of 1"),
    ],
)
def test_a_file_with_another_shape_is_refused(tmp_path, other, message):
    parquet = pytest.importorskip("pyarrow.parquet")
    file, other_file = tmp_path / "frame.parquet", tmp_path / "other.parquet"
    write_frame(file, pd.DataFrame({"a": [1, 2], "b": [1, 2]}))
    write_frame(other_file, other)
    metadata = parquet.read_schema(other_file).metadata
    table = parquet.read_table(file).replace_schema_metadata(metadata)
    parquet.write_table(table, file)
    with pytest.raises(ValueError, match=f"frame.parquet of .* cannot be read.*{message}"):
        read_frame(file)


def test_a_file_of_another_writer_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "frame.parquet")
    with pytest.raises(ValueError, match="frame.parquet of the artefact cannot be read"):
        read_frame(tmp_path / "frame.parquet")
