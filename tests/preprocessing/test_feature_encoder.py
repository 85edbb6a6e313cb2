"""FeatureEncoder against pandas, StandardScaler and values computed by hand."""

from __future__ import annotations

import datetime
import io
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sktwotower.preprocessing import FeatureEncoder
from tests.helpers import needs_pandas_3, needs_sklearn_1_9

# The frames here are so small that most categories are rare.
pytestmark = pytest.mark.filterwarnings("ignore:.*encoded alike:UserWarning")


@parametrize_with_checks(
    [
        FeatureEncoder(),
        FeatureEncoder(min_frequency=0.2, max_categories=3, separator=None),
    ]
)
def test_sklearn_checks(estimator, check):
    check(estimator)


def frame(*values, dtype=object):
    return pd.DataFrame({"c": pd.Series(list(values), dtype=dtype)})


def encode(fitted, given=None, **parameters):
    """Fit on one frame, encode another (or the same) as a dense array."""
    encoder = FeatureEncoder(**parameters).fit(fitted)
    return encoder.transform(fitted if given is None else given).toarray()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_categories", np.uint8(3)),
        ("max_categories", np.uint8(200)),
        ("min_frequency", np.float16(0.25)),
    ],
)
def test_numbers_of_small_types(name, value):
    X = pd.DataFrame({"letter": list("abcdef") * 60})
    one, other = (
        FeatureEncoder(**{name: v}).fit_transform(X) for v in (value, value.item())
    )
    assert_array_equal(one.toarray(), other.toarray())


FILMS = pd.DataFrame(
    {
        "colour": ["red", "blue", "red", None, "blue", "red"],
        "year": [1990.0, 1995, np.nan, 2000, 1990, 1980],
        "genres": ["Comedy|Drama", "Drama", "Horror|Comedy", None, "", "Comedy"],
        "cast": [["Ann", "Bob"], ["Ann"], [], None, ["Bob", "Bob"], ["Cid"]],
        "seen": [True, False, True, True, False, True],
        "added": pd.date_range("2020-01-01", periods=6, freq="D"),
        "length": pd.to_timedelta([90, 100, 110, 120, 95, 105], unit="min"),
        "image": [[0.5, 1.0], [1.5, 1.0], None, [0.5, 2.0], [1.0, 1.0], [1.0, 1.5]],
    }
)
KINDS = {
    "colour": "category",
    "year": "number",
    "genres": "multi_hot",
    "cast": "multi_hot",
    "seen": "boolean",
    "added": "datetime",
    "length": "timedelta",
    "image": "vector",
}


def test_a_field_per_column():
    before = FILMS.copy(deep=True)
    encoder = FeatureEncoder(min_frequency=1)
    encoded = encoder.fit_transform(FILMS)
    pd.testing.assert_frame_equal(FILMS, before)
    assert encoder.kinds_ == KINDS
    names = encoder.get_feature_names_out()
    assert {c: names[s].tolist() for c, s in encoder.output_indices_.items()} == {
        "colour": ["colour_blue", "colour_missing", "colour_red"],
        "year": ["year", "year_missing"],
        "genres": ["genres_Comedy", "genres_Drama", "genres_Horror"],
        "cast": ["cast_Ann", "cast_Bob", "cast_Cid"],
        "seen": ["seen_False", "seen_True"],
        "added": ["added"],
        "length": ["length"],
        "image": ["image_0", "image_1"],
    }
    assert encoded.shape == (6, len(names))
    assert_array_equal(encoder.transform(FILMS).toarray(), encoded.toarray())


def test_output_is_canonical_float32_csr():
    encoded = FeatureEncoder().fit_transform(FILMS)
    assert isinstance(encoded, sparse.csr_matrix)
    assert encoded.dtype == np.float32
    assert encoded.has_canonical_format


@needs_sklearn_1_9
def test_sparse_arrays_of_scikit_learn():
    with config_context(sparse_interface="sparray"):
        assert isinstance(FeatureEncoder().fit_transform(FILMS), sparse.csr_array)


# Categories


@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_categories_equal_pandas_get_dummies(dtype):
    X = frame("b", "a", "b", "c", dtype=dtype)
    assert_array_equal(encode(X, min_frequency=1), pd.get_dummies(X["c"]))


@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_missing_is_a_category(dtype):
    X = frame("b", None, "b", None, dtype=dtype)
    assert_array_equal(encode(X), [[1, 0], [0, 1], [1, 0], [0, 1]])
    assert_array_equal(encode(frame("missing", None)), [[1], [1]])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unknown", ["new", None, np.nan, pd.NA])
def test_unknown_categories(unknown):
    rare = frame("a", "a", "b", "c")
    assert_array_equal(encode(rare, frame(unknown, "a", "c")), [[0, 1], [1, 0], [0, 1]])
    no_rare = frame("a", "a", "b", "b")
    assert_array_equal(encode(no_rare, frame(unknown, "b")), [[0, 0], [0, 1]])


def test_unused_categories_of_a_dtype_are_unknown():
    X = pd.DataFrame({"c": pd.Categorical(["a", "a"], categories=["a", "z"])})
    given = pd.DataFrame({"c": pd.Categorical(["z"], categories=["z", "a"])})
    assert_array_equal(encode(X, given, min_frequency=1), [[0]])


def test_max_categories():
    X = frame(*"aaabbbccd")
    assert_array_equal(
        encode(X, frame(*"abcdz"), max_categories=3),
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]],
    )


def test_mixed_types_are_compared_by_their_string():
    encoder = FeatureEncoder(min_frequency=1).fit(frame(1, "x", True, 2.5))
    assert encoder.get_feature_names_out().tolist() == [
        "c_1",
        "c_2.5",
        "c_True",
        "c_x",
    ]
    encoded = encoder.transform(frame("1", 1.0, Decimal(1), True, "x", 2.5))
    assert_array_equal(encoded.toarray().argmax(axis=1), [0, 0, 0, 2, 3, 1])


def test_a_category_dtype_may_mix_types():
    X = frame(1, "1", "x", dtype="category")
    assert_array_equal(encode(X, min_frequency=1), [[1, 0], [1, 0], [0, 1]])


def test_category_dtype_of_numbers_takes_plain_numbers():
    X = frame(1, 2, 1, dtype="category")
    encoded = encode(X, pd.DataFrame({"c": [1.0, 2.0, np.nan]}), min_frequency=1)
    assert_array_equal(encoded, [[1, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize("dtype", [object, "boolean"])
def test_booleans_are_categories(dtype):
    X = frame(True, False, None, True, dtype=dtype)
    assert_array_equal(
        encode(X, min_frequency=1), [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    )


# Numbers and times


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float32, "Int64", "Float64"])
def test_numbers_are_standardised(dtype):
    X = frame(1, 2, 3, 6, dtype=dtype)
    expected = (np.array([1, 2, 3, 6]) - 3) / np.sqrt(3.5)
    assert_allclose(encode(X)[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [float, object, "Int64", "Float64"])
def test_missing_numbers_are_the_mean_with_a_flag(dtype):
    X = frame(1, None, 3, dtype=dtype)
    assert_array_equal(encode(X), [[-1, 0], [0, 1], [1, 0]])
    assert_array_equal(encode(frame(1, 3, dtype=dtype), X), [[-1], [0], [1]])


def test_numbers_equal_standard_scaler():
    X = np.random.default_rng(0).normal(5, 3, (50, 4))
    X[:, 2] = 7
    encoded = FeatureEncoder().fit_transform(X).toarray()
    assert_allclose(encoded, StandardScaler().fit_transform(X), rtol=1e-5, atol=1e-6)
    assert not encoded[:, 2].any()


def test_number_objects():
    X = frame(Decimal("1"), 3, np.float32(5), None)
    assert_allclose(encode(X)[:, 0], np.array([-1, 0, 1, 0]) * np.sqrt(1.5), rtol=1e-6)


@pytest.mark.parametrize(
    "huge", [1e30, 1e300, 10**400, Decimal("1e400"), Fraction(10**400), 2**63]
)
def test_huge_numbers_are_clipped(huge):
    fitted, later = frame(0.0, 1e-9), frame(huge, -huge, 0.0)
    assert_array_equal(encode(fitted, later)[:, 0], np.float32([1000, -1000, -1]))
    later["c"] = [[value, 0.0] for value in later["c"]]
    vectors = encode(frame([0.0, 0.0], [1e-9, 0.0]), later)
    assert_array_equal(vectors, np.float32([[1000, 0], [-1000, 0], [-1, 0]]))


@pytest.mark.parametrize("huge", [1e300, -1e308, 10**400, Decimal("-1e400")])
def test_huge_numbers_in_fit_count_as_the_largest_of_float32(huge):
    bound = np.copysign(np.finfo(np.float32).max, -1 if huge < 0 else 1)
    with pytest.warns(UserWarning, match="'c' has 4 different values, of which only 2"):
        encoded = encode(frame(1.0, 2.0, 3.0, huge))
    expected = StandardScaler().fit_transform([[1.0], [2.0], [3.0], [bound]])
    assert_allclose(encoded, expected, rtol=1e-6)
    entries = [1.0, 2.0, 3.0, huge]
    assert_allclose(encode(frame(*([e, 0.5] for e in entries)))[:, :1], expected, rtol=1e-6)


@needs_pandas_3
@pytest.mark.parametrize(
    ("far", "sign"),
    [
        ([datetime.date(9999, 12, 31)], 1),
        ([datetime.date(1, 1, 1)], -1),
        (np.array(["900000-01-01"], "M8[s]"), 1),
        (np.array(["-900000-01-01"], "M8[ms]"), -1),
        ([np.datetime64(900_000, "Y")], 1),
        ([pd.Period(year=20_000, month=1, freq="M")], 1),
    ],
)
def test_far_times_are_clipped(far, sign):
    fitted = pd.DataFrame({"c": pd.date_range("2020", periods=9)})
    later = pd.DataFrame({"c": pd.Series(far)})
    assert encode(fitted, later).tolist() == [[sign * 1000]]


def test_far_durations_are_clipped():
    fitted = pd.DataFrame({"c": pd.to_timedelta(range(9), unit="D")})
    seconds = pd.DataFrame({"c": np.array([10**15, -(10**15)], "m8[s]")})
    assert encode(fitted, seconds).ravel().tolist() == [1000, -1000]


def test_times_beyond_any_range_name_the_column():
    for time in (pd.Period(ordinal=10**9, freq="M"), datetime.timedelta.max):
        with pytest.raises(ValueError, match="'c' has a time that is out of range"):
            FeatureEncoder().fit(frame(time))


def test_no_value_of_fit_is_clipped():
    values = np.zeros(2_000_000)
    values[0] = 1.0  # sqrt(2e6) standard deviations from the mean
    X = pd.DataFrame({"c": values})
    largest = FeatureEncoder().fit_transform(X).max()
    assert largest == np.float32(StandardScaler().fit_transform(X)[0, 0]) > 1400


@pytest.mark.parametrize("value", [np.inf, -np.inf, Decimal("Infinity")])
def test_infinite_numbers_are_still_refused(value):
    for X in (frame(1.0, value), frame([1.0, 0.5], [value, 0.5])):
        with pytest.raises(ValueError, match="'c' has 1 infinite value"):
            FeatureEncoder().fit(X)


def test_huge_numbers_as_categories():
    X = frame("a", 10**400, Decimal("1e400"), Fraction(10**400), 10**5000, float("1e308"))
    encoder = FeatureEncoder(min_frequency=1).fit(X)
    assert encoder.kinds_ == {"c": "category"}
    assert_array_equal(encoder.transform(X).toarray().sum(axis=1), 1)


def test_times_are_days():
    day = datetime.date
    X = pd.DataFrame(
        {
            "stamp": pd.to_datetime(["2020-01-01", "2020-01-03", None]),
            "zoned": pd.to_datetime(["2020-01-01", "2020-01-03", None], utc=True),
            "date": [day(2020, 1, 1), day(2020, 1, 3), None],
            "period": pd.PeriodIndex(["2020-01-01", "2020-01-03", None], freq="D"),
            "span": pd.to_timedelta([1, 3, None], unit="h"),
        }
    )
    encoder = FeatureEncoder().fit(X)
    assert encoder.kinds_ == dict.fromkeys(X, "datetime") | {"span": "timedelta"}
    expected = np.tile([[-1.0, 0], [1, 0], [0, 1]], 5)
    assert_allclose(encoder.transform(X).toarray(), expected, atol=1e-6)
    scaler = encoder._fields[0].scaler
    assert_allclose(scaler.mean_, (pd.Timestamp("2020-01-02") - pd.Timestamp(0)).days)
    assert_allclose(scaler.scale_, 1)


def test_zones_do_not_matter():
    naive = pd.Series(pd.date_range("2020-01-01", periods=3, freq="h"))
    zoned = naive.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    X, given = naive.to_frame("c"), zoned.to_frame("c")
    assert_array_equal(encode(X, given), encode(X))
    assert_array_equal(encode(X, given.astype(object)), encode(X))


# Lists and vectors


def test_delimited_strings_equal_pandas_get_dummies():
    X = FILMS[["genres"]].fillna("")
    expected = X["genres"].str.get_dummies("|").drop(columns="", errors="ignore")
    assert_array_equal(
        encode(X, min_frequency=1, multi_combiner="sum"), expected.to_numpy()
    )


@pytest.mark.parametrize(
    ("combiner", "weight"), [("sum", 1), ("mean", 0.5), ("sqrtn", 2**-0.5)]
)
def test_multi_combiner(combiner, weight):
    encoded = encode(frame(["a", "b"], ["a"], ["b"]), multi_combiner=combiner)
    assert_allclose(encoded, [[weight, weight], [1, 0], [0, 1]], rtol=1e-6)


def test_separator_decides_what_is_split():
    X = frame("a|b", "a", "b", "a|b")
    assert FeatureEncoder().fit(X).kinds_ == {"c": "multi_hot"}
    assert FeatureEncoder(separator=None).fit(X).kinds_ == {"c": "category"}
    assert FeatureEncoder(separator=",").fit(X).kinds_ == {"c": "category"}
    assert_array_equal(encode(X, frame("b")), [[0, 1]])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[1.0, 2.0], [1.0, 3.0]], "vector"),
        ([[1, 2.5], [1, 3]], "vector"),
        ([np.array([1, 2]), np.array([1, 3])], "multi_hot"),
        ([np.array([1.0, 2.0]), np.array([1.0, 3.0])], "vector"),
        ([[1, -100], [2, 100]], "vector"),
        ([[7, -1], [2, 3]], "multi_hot"),
        ([[0, 1, 1], [1, 0, 1]], "vector"),
        ([[True, False], [False, True]], "vector"),
        ([[0, 1, 1], [1, 0]], "multi_hot"),
        ([[1], [0]], "multi_hot"),
        ([[1.0], [0.5]], "vector"),
        ([[], []], "multi_hot"),
        ([[1, None], [2, 5]], "multi_hot"),
        ([[1, pd.NA], [0, 0]], "vector"),
        ([[Decimal("0.5"), 1], [1, 1]], "vector"),
        ([[None, None], [None, None]], "multi_hot"),
        ([np.array([1, 2]), np.array([1, 3, 4])], "multi_hot"),
        ([[1.0], [2.0]], "multi_hot"),
        ([[1.0, 2.0], [1.0]], "multi_hot"),
        ([[1, 2], [1, 3]], "multi_hot"),
        ([["a", 1.0], ["b", 2.0]], "multi_hot"),
        ([{1.0, 2.0}, {1.0, 3.0}], "multi_hot"),
    ],
)
def test_vector_or_codes(values, kind):
    assert FeatureEncoder().fit(frame(*values)).kinds_ == {"c": kind}


def test_vectors_are_standardised():
    vectors = np.random.default_rng(0).normal(2, 3, (20, 5))
    X = frame(*vectors, None)
    encoded = encode(X)
    assert_allclose(
        encoded[:-1], StandardScaler().fit_transform(vectors), rtol=1e-5, atol=1e-6
    )
    assert not encoded[-1].any()
    assert_allclose(encode(frame(*vectors), frame(vectors[0].tolist())), encoded[:1])


def test_missing_entries_of_vectors_are_the_mean():
    X = frame([1.0, 2.0], [3.0, 4.0])
    assert_array_equal(encode(X, frame([np.nan, 4.0], [None, 2.0])), [[0, 1], [0, -1]])


# Columns without values


@pytest.mark.parametrize(
    ("dtype", "kind", "given"),
    [
        (float, "number", 1.0),
        ("Int64", "number", 1),
        ("datetime64[ns]", "datetime", pd.Timestamp("2020")),
        ("boolean", "boolean", True),
        (object, "category", "a"),
        ("category", "category", "a"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_column_without_any_value(dtype, kind, given):
    X = frame(None, None, dtype=dtype)
    encoder = FeatureEncoder().fit(X)
    assert encoder.kinds_ == {"c": kind}
    encoded = encoder.transform(X).toarray()
    assert_array_equal(encoded[:, -1], [1, 1])
    assert encoder.transform(frame(given)).toarray()[0, -1] == 0


@pytest.mark.parametrize("column", FILMS)
def test_all_missing_at_transform(column):
    encoder = FeatureEncoder().fit(FILMS[[column]])
    given = pd.DataFrame({column: [np.nan, np.nan]})
    encoded = encoder.transform(given)
    assert encoded.shape == (2, len(encoder.get_feature_names_out()))


def test_column_of_empty_lists_is_an_empty_field():
    encoder = FeatureEncoder().fit(frame([], []))
    assert encoder.output_indices_ == {"c": slice(0, 0)}
    assert encoder.transform(frame(["a"])).shape == (1, 0)


# Containers


def without_nan(values):
    values = [None if value is None or value != value else value for value in values]
    # polars 1.0 does not take the Timedelta of pandas
    return [v.to_pytimedelta() if isinstance(v, pd.Timedelta) else v for v in values]


def test_arrays_are_read_by_column():
    X = np.array([["a", 1, "x|y"], ["b", 2.5, None]], dtype=object)
    encoder = FeatureEncoder(min_frequency=1).fit(X)
    assert encoder.kinds_ == {"x0": "category", "x1": "number", "x2": "multi_hot"}
    names = ["x0_a", "x0_b", "x1", "x2_x", "x2_y"]
    assert encoder.get_feature_names_out().tolist() == names
    renamed = encoder.get_feature_names_out(["p", "q", "r"]).tolist()
    assert renamed == ["p_a", "p_b", "q", "r_x", "r_y"]
    expected = encoder.transform(X).toarray()
    assert_array_equal(encoder.transform(X.tolist()).toarray(), expected)
    assert_array_equal(expected, [[1, 0, -1, 0.5, 0.5], [0, 1, 1, 0, 0]])


def test_lists_of_rows_keep_types_and_nested_lists():
    encoder = FeatureEncoder(min_frequency=1).fit([["a", 1, ["x"]], ["b", 3, ["y"]]])
    assert encoder.kinds_ == {"x0": "category", "x1": "number", "x2": "multi_hot"}


def test_frames_with_integer_names():
    X = pd.DataFrame({0: ["a", "a"], 1: [1, 2]})
    assert FeatureEncoder().fit(X).output_indices_ == {
        "x0": slice(0, 1),
        "x1": slice(1, 2),
    }


@pytest.mark.filterwarnings("ignore:.*holds dates that are written as text:UserWarning")
@pytest.mark.parametrize("kind", ["str", "U", "datetime64[D]", "S"])
def test_typed_arrays(kind):
    X = np.array([["2020-01-01"], ["2020-01-02"]], dtype=kind)
    expected = "datetime" if kind.startswith("datetime") else "category"
    assert FeatureEncoder().fit(X).kinds_ == {"x0": expected}


def test_arrow_backed_frames():
    pa = pytest.importorskip("pyarrow")
    types = {
        "colour": pa.string(),
        "year": pa.float64(),
        "genres": pa.string(),
        "cast": pa.list_(pa.string()),
        "seen": pa.bool_(),
        "added": pa.timestamp("us"),
        "length": pa.duration("us"),
        "image": pa.list_(pa.float64()),
    }
    X = pd.DataFrame(
        {
            column: pd.array(
                without_nan(FILMS[column]),
                dtype=pd.ArrowDtype(kind),
            )
            for column, kind in types.items()
        }
    )
    encoder = FeatureEncoder().fit(X)
    assert encoder.kinds_ == KINDS
    expected = encode(FILMS)
    assert_allclose(encoder.transform(X).toarray(), expected, atol=1e-6)
    others = pd.DataFrame(
        {
            "decimal": pd.array(
                [Decimal(1), None], dtype=pd.ArrowDtype(pa.decimal128(5, 2))
            ),
            "date": pd.array(
                [datetime.date(2020, 1, 1), None], dtype=pd.ArrowDtype(pa.date32())
            ),
            "coded": pd.array(
                ["a", None], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))
            ),
        }
    )
    kinds = {"decimal": "number", "date": "datetime", "coded": "category"}
    assert FeatureEncoder().fit(others).kinds_ == kinds


def test_polars_frames():
    pl = pytest.importorskip("polars")
    columns = {name: without_nan(FILMS[name]) for name in FILMS if name != "image"}
    encoder = FeatureEncoder().fit(pl.DataFrame(columns))
    assert encoder.kinds_ == {c: k for c, k in KINDS.items() if c != "image"}
    expected = encode(FILMS.drop(columns="image"))
    assert_allclose(encoder.transform(pl.DataFrame(columns)).toarray(), expected, atol=1e-6)


# Kind of lists, by what is in them.
LISTS = {
    "vector": [[0.5, 1.0], [2.0, 3.0], [4.0, -1.0], [0.0, 0.0]],
    "whole_vector": [[5.0, 1.0], [2.0, 3.0], [4.0, -1.0], [0.0, 0.0]],
    "flags": [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]],
    "truths": [[True, False], [False, False], [True, True], [False, True]],
    "codes": [[1, 5], [2, 5], [1, 7], [2, 7]],
    "gaps": [[1, 5], [2, None], [1, 7], [2, 7]],
    "uneven": [[1, 5], [2], [], [1, 5, 7]],
    "words": [["a"], ["a", "b"], [], ["b"]],
    "rows_missing": [[1, 5], None, [1, 7], [2, 5]],
}
KINDS_OF_LISTS = {
    name: "vector" if name in ("vector", "whole_vector", "flags", "truths") else "multi_hot"
    for name in LISTS
}


def lists_from(source, folder):
    frame = pd.DataFrame({name: pd.Series(v, dtype=object) for name, v in LISTS.items()})
    if source == "tuples":
        return frame.map(lambda value: value if value is None else tuple(value))
    if source == "arrays":
        return frame.map(lambda value: value if value is None else np.array(value))
    if source == "json":
        return pd.read_json(io.StringIO(frame.to_json(orient="records")))
    if source == "parquet":
        frame.to_parquet(folder / "frame.parquet")
        return pd.read_parquet(folder / "frame.parquet")
    if source == "pyarrow":
        return pytest.importorskip("pyarrow").table(LISTS)
    if source == "arrow dtypes":
        frame.to_parquet(folder / "frame.parquet")
        return pd.read_parquet(folder / "frame.parquet", dtype_backend="pyarrow")
    return pytest.importorskip("polars").DataFrame(LISTS)


@pytest.mark.parametrize(
    "source",
    ["lists", "tuples", "arrays", "json", "parquet", "pyarrow", "arrow dtypes", "polars"],
)
def test_lists_have_one_kind_and_code_wherever_they_come_from(source, tmp_path):
    if source in ("parquet", "arrow dtypes"):
        pytest.importorskip("pyarrow")
    X = pd.DataFrame(LISTS) if source == "lists" else lists_from(source, tmp_path)
    encoder = FeatureEncoder().fit(pd.DataFrame(LISTS))
    assert encoder.kinds_ == KINDS_OF_LISTS == FeatureEncoder().fit(X).kinds_
    expected = encoder.transform(pd.DataFrame(LISTS)).toarray()
    assert_array_equal(encoder.transform(X).toarray(), expected)
    assert_array_equal(FeatureEncoder().fit_transform(X).toarray(), expected)


def test_polars_arrays_are_as_lists():
    pl = pytest.importorskip("polars")
    for name in ("vector", "flags", "codes"):
        kind = pl.Float64 if name == "vector" else pl.Int64
        n_entries = len(LISTS[name][0])
        column = pl.Series(LISTS[name], dtype=pl.Array(kind, n_entries))
        encoder = FeatureEncoder().fit(pl.DataFrame({name: column}))
        assert encoder.kinds_ == {name: KINDS_OF_LISTS[name]}


def test_flags_are_told_apart():
    encoded = encode(pd.DataFrame({"c": LISTS["flags"]}))
    assert len(np.unique(encoded, axis=0)) == 4
    assert_allclose(encoded, StandardScaler().fit_transform(LISTS["flags"]), rtol=1e-6)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_dicts_are_refused_with_what_to_do(library):
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame
    X = make({"c": [{"a": 1, "b": 2}, {"a": 2, "b": 3}]})
    with pytest.raises(TypeError, match="'c'.* 'dict'.*json_normalize"):
        FeatureEncoder().fit(X)


@needs_pandas_3
def test_lone_surrogates_are_categories():
    X = frame("\ud800", "a", "\ud800", "a|\udfff")
    encoder = FeatureEncoder().fit(X)
    assert encoder.get_feature_names_out()[1] == "c_\ud800"
    assert encoder.transform(X)[0, 1] == 1
    assert_array_equal(
        pickle.loads(pickle.dumps(encoder)).transform(X).toarray(),
        encoder.transform(X).toarray(),
    )


def test_sparse_columns_are_read_as_dense_ones():
    X = pd.DataFrame({"c": pd.arrays.SparseArray([0.0, 0.0, 3.0])})
    assert_allclose(encode(X), encode(frame(0.0, 0.0, 3.0)))


# Errors


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            [1.0, np.inf, -np.inf],
            ValueError,
            r"Column 'c' has 2 infinite values \(first at row 1\); replace or drop",
        ),
        ([[1.0, 2.0], [1.0, np.inf]], ValueError, "'c' has 1 infinite value .* row 1"),
        ([["a"], None, "a"], ValueError, "'c' holds lists, but row 2 holds 'a'"),
        ([1j, 2], ValueError, "Complex data not supported: column 'c'"),
        ([{"a": 1}], TypeError, r"'c' \(dtype object\) has values of type 'dict'"),
        ([object()], TypeError, "has values of type 'object'"),
        ([["a", {}]], TypeError, "has list entries of type 'dict'"),
        ([np.ones((1, 2))], ValueError, r"'c' holds an array of shape \(1, 2\)"),
    ],
)
def test_refused_values(values, error, message):
    with pytest.raises(error, match=message):
        FeatureEncoder().fit(frame(*values))


@pytest.mark.parametrize("value", [1j, complex("nan")])
def test_refused_complex_dtype(value):
    with pytest.raises(ValueError, match="Complex data not supported: column 'c'"):
        FeatureEncoder().fit(pd.DataFrame({"c": [value]}))


OF_EACH_FAMILY = {
    "boolean": [True],
    "number": [1.5],
    "datetime": [pd.Timestamp("2020")],
    "timedelta": [pd.Timedelta("1h")],
    "string": ["a"],
    "list": [["a", "b"]],
}


@pytest.mark.parametrize("fitted", OF_EACH_FAMILY)
@pytest.mark.parametrize("given", OF_EACH_FAMILY)
def test_another_kind_at_transform_is_refused(fitted, given):
    encoder = FeatureEncoder().fit(frame(*OF_EACH_FAMILY[fitted]))
    if fitted == given:
        assert encoder.transform(frame(*OF_EACH_FAMILY[given])).shape[0] == 1
        return
    message = (
        f"Column 'c' was fitted as {encoder.kinds_['c']!r} on {fitted} values, but now "
        f"holds {given} values, of kind .* \\(first at row 1: "
    )
    with pytest.raises(ValueError, match=message):
        encoder.transform(frame(None, *OF_EACH_FAMILY[given]))


def test_vectors_of_another_length_are_refused():
    encoder = FeatureEncoder().fit(frame([1.0, 2.0], [3.0, 4.0]))
    message = "'c' holds vectors of length 2, but row 2 has length 3"
    with pytest.raises(ValueError, match=message):
        encoder.transform(frame([1.0, 2.0], None, [1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="fitted as 'vector', but now holds lists with"):
        encoder.transform(frame(["a", "b"]))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (pd.DataFrame({"a": []}), r"Found array with 0 sample\(s\) \(shape=\(0, 1\)\)"),
        (pd.DataFrame(index=range(3)), r"0 feature\(s\) \(shape=\(3, 0\)\) while a min"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"duplicate column names \['a'\]"),
        ([1, 2], "Expected 2D array, got 1D array instead"),
    ],
)
def test_refused_shapes(X, message):
    with pytest.raises(ValueError, match=message):
        FeatureEncoder().fit(X)


def test_columns_of_fit_are_demanded():
    encoder = FeatureEncoder().fit(FILMS)
    with pytest.raises(ValueError, match="feature names should match"):
        encoder.transform(FILMS.drop(columns="year"))
    with pytest.raises(ValueError, match="same order"):
        encoder.transform(FILMS[FILMS.columns[::-1]])


def test_refused_parameters():
    with pytest.raises(ValueError, match="separator='' cannot split"):
        FeatureEncoder(separator="").fit(FILMS)
    with pytest.raises(ValueError, match="'multi_combiner' parameter"):
        FeatureEncoder(multi_combiner="max").fit(FILMS)
    with pytest.raises(ValueError, match="'min_frequency' parameter"):
        FeatureEncoder(min_frequency=0).fit(FILMS)


# Company


def test_clone_and_pickle():
    encoder = FeatureEncoder(min_frequency=1, separator=None).fit(FILMS)
    expected = encoder.transform(FILMS).toarray()
    again = pickle.loads(pickle.dumps(encoder))
    assert_array_equal(again.transform(FILMS).toarray(), expected)
    copy = clone(encoder)
    assert not hasattr(copy, "kinds_") and copy.get_params() == encoder.get_params()


def test_column_transformer_and_pipeline():
    y = [0, 1, 0, 1, 1, 0]
    strings = make_column_selector(
        dtype_exclude=["number", "bool", "datetime", "timedelta"]
    )
    columns = ColumnTransformer(
        [("strings", FeatureEncoder(min_frequency=1), strings)],
        remainder=FeatureEncoder(),
    )
    names = columns.fit(FILMS).get_feature_names_out()
    assert "strings__genres_Comedy" in names and "remainder__year_missing" in names
    assert columns.transform(FILMS).shape == (6, len(names))
    model = make_pipeline(FeatureEncoder(), LogisticRegression()).fit(FILMS, y)
    assert model.predict(FILMS).shape == (6,)
    assert len(model[:-1].get_feature_names_out()) == model[-1].n_features_in_


def test_global_output_setting_does_not_reach_the_parts():
    with config_context(transform_output="pandas"):
        encoder = FeatureEncoder().set_output(transform="default")
        assert sparse.issparse(encoder.fit_transform(FILMS))


def test_movielens():
    from sktwotower.datasets import load_movielens_small

    items = load_movielens_small().item_table[["year", "genres"]]
    encoder = FeatureEncoder(multi_combiner="sum").fit(items)
    assert encoder.kinds_ == {"year": "number", "genres": "multi_hot"}
    encoded = encoder.transform(items)
    genres = items["genres"].str.get_dummies("|").drop(columns="", errors="ignore")
    assert_array_equal(
        encoded[:, encoder.output_indices_["genres"]].toarray(), genres.to_numpy()
    )
    year = items["year"].astype(float)
    expected = ((year - year.mean()) / year.std(ddof=0)).fillna(0)
    column = encoder.output_indices_["year"].start
    assert_allclose(encoded[:, [column]].toarray()[:, 0], expected, atol=1e-5)


rows = st.fixed_dictionaries(
    {
        "word": st.none() | st.sampled_from(["a", "b", "c", "d"]),
        "mixed": st.none() | st.sampled_from([1, 1.0, "1", True, False, "x", 0]),
        "number": st.none() | st.floats(-1e6, 1e6),
        "tags": st.none() | st.lists(st.sampled_from("pqrs"), max_size=3),
        "text": st.none() | st.sampled_from(["p", "p|q", "q | r", "", "s"]),
        "vector": st.none() | st.tuples(*[st.floats(-9, 9)] * 2),
    }
)


@settings(deadline=None, max_examples=15)
@given(table=st.lists(rows, min_size=1, max_size=10), seed=st.integers(0, 99))
@pytest.mark.slow
def test_rows_are_independent(table, seed):
    always = {
        "word": "a",
        "mixed": 1,
        "number": 0.5,
        "tags": ["p"],
        "text": "p|q",
        "vector": (0.5, 1.5),
    }
    X = pd.DataFrame([always, {**always, "mixed": "x"}, *table], dtype=object)
    encoder = FeatureEncoder().fit(X)
    encoded = encoder.transform(X).toarray()
    order = np.random.default_rng(seed).permutation(len(X))
    assert_array_equal(encoder.transform(X.iloc[order]).toarray(), encoded[order])
    alone = [encoder.transform(X.iloc[[row]]).toarray()[0] for row in range(len(X))]
    assert_array_equal(alone, encoded)
    refitted = clone(encoder).fit(X.iloc[order])
    assert_array_equal(refitted.get_feature_names_out(), encoder.get_feature_names_out())
    assert_allclose(refitted.transform(X).toarray(), encoded, rtol=1e-4, atol=1e-4)


# One kind from every source

SCALARS = pd.DataFrame(
    {
        "number": [1, 2, 3, 2],
        "gaps": [1.5, None, 3.0, 2.0],
        "text": ["a", "b", "a", "b"],
        "flag": [True, False, True, False],
        "flag_gaps": pd.Series([True, None, True, False], dtype=object),
        "day": [datetime.date(2020, 1, d) for d in (1, 2, 3, 4)],
        "stamp": pd.to_datetime(["2020-01-01", None, "2020-01-03", "2020-01-04"]),
        "zoned": pd.date_range("2020", periods=4, tz="Asia/Tokyo"),
        "span": pd.to_timedelta([1, 2, 3, 4], unit="D"),
        "clock": [datetime.time(1), datetime.time(1), datetime.time(2), datetime.time(2)],
        "money": [Decimal("1.50"), Decimal("2.50"), None, Decimal("1.50")],
        "typed": pd.Categorical(["x", "y", "x", "y"]),
        "bytes": [b"a", b"b", b"a", b"b"],
    }
)


@pytest.mark.parametrize("source", ["parquet", "arrow dtypes", "pyarrow", "polars"])
def test_scalars_have_one_kind_and_code_wherever_they_come_from(source, tmp_path):
    pa = pytest.importorskip("pyarrow")
    encoder = FeatureEncoder().fit(SCALARS)
    X = pa.Table.from_pandas(SCALARS, preserve_index=False)
    if source == "polars":
        X = pytest.importorskip("polars").from_pandas(SCALARS)
    elif source != "pyarrow":
        SCALARS.to_parquet(tmp_path / "frame.parquet")
        kind = {"dtype_backend": "pyarrow"} if source == "arrow dtypes" else {}
        X = pd.read_parquet(tmp_path / "frame.parquet", **kind)
    assert FeatureEncoder().fit(X).kinds_ == encoder.kinds_
    expected = encoder.transform(SCALARS).toarray()
    assert_allclose(encoder.transform(X).toarray(), expected, atol=1e-6)
    assert_allclose(FeatureEncoder().fit_transform(X).toarray(), expected, atol=1e-6)


# Output


def test_dense_output_is_the_same():
    encoder = FeatureEncoder(sparse_output=False)
    encoded = encoder.fit_transform(FILMS)
    assert type(encoded) is np.ndarray and encoded.dtype == np.float32
    assert_array_equal(encoded, encode(FILMS))
    assert_array_equal(encoder.transform(FILMS), encoded)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_output_as_frames(library):
    module = pytest.importorskip(library)
    encoder = FeatureEncoder(sparse_output=False).set_output(transform=library)
    encoded = encoder.fit_transform(FILMS)
    assert isinstance(encoded, module.DataFrame)
    assert list(encoded.columns) == encoder.get_feature_names_out().tolist()
    assert_array_equal(encoded.to_numpy(), encode(FILMS))
    clone(encoder).fit(FILMS).partial_fit(FILMS).transform(FILMS)
    sparse_ = FeatureEncoder().set_output(transform=library)
    message = f"{library.capitalize()} output .* Set sparse_output=False in FeatureEncoder"
    with pytest.raises(ValueError, match=message):
        sparse_.fit_transform(FILMS)
    with config_context(transform_output=library), pytest.raises(ValueError, match=message):
        FeatureEncoder().fit(FILMS).transform(FILMS)


def test_frames_of_a_column_transformer():
    union = ColumnTransformer(
        [("f", FeatureEncoder(sparse_output=False), ["genres"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    X = FILMS[["genres", "year"]]
    encoded = union.fit_transform(X)
    assert list(encoded)[-1] == "year"
    assert_array_equal(encoded.iloc[:, :-1], encode(X[["genres"]]))
