"""MultiHotEncoder against MultiLabelBinarizer, pandas and counts by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils.estimator_checks import parametrize_with_checks

from sktwotower.preprocessing import MultiHotEncoder
from tests.helpers import needs_sklearn_1_9

# The frames here are so small that most categories are rare.
pytestmark = pytest.mark.filterwarnings("ignore:.*encoded alike:UserWarning")


@parametrize_with_checks(
    [
        MultiHotEncoder(),
        MultiHotEncoder(min_frequency=1, combiner="sum", separator=None),
        MultiHotEncoder(min_frequency=0.1, max_categories=5, combiner="sqrtn"),
    ]
)
def test_sklearn_checks(estimator, check):
    check(estimator)


def objects(*values):
    return pd.DataFrame({"tags": pd.Series(list(values), dtype=object)})


LISTS = [["a", "b"], ["c"], [], ["b", "a", "b"], ["c", "a"]]


def test_lists_equal_multi_label_binarizer():
    encoder = MultiHotEncoder(min_frequency=None, combiner="sum")
    encoded = encoder.fit_transform(objects(*LISTS))
    binarizer = MultiLabelBinarizer()
    assert_array_equal(encoded.toarray(), binarizer.fit_transform(LISTS))
    assert_array_equal(encoder.categories_[0], binarizer.classes_)
    assert encoder.get_feature_names_out().tolist() == ["tags_a", "tags_b", "tags_c"]


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_columns_that_are_joined_to_lists_share_their_values(dtype):
    """As the page on features joins genre1, genre2 and so on."""
    columns = pd.DataFrame(
        {
            "first": ["a", "b", "c", None, "b"],
            "second": ["b", "a", None, None, "-"],
            "third": [None, None, "a", None, "a"],
        },
        dtype=dtype,
    )
    joined = columns.mask(columns == "-").values.tolist()
    encoder = MultiHotEncoder(min_frequency=1)
    encoded = encoder.fit_transform(objects(*joined)).toarray()
    assert encoder.get_feature_names_out().tolist() == ["tags_a", "tags_b", "tags_c"]
    a_and_b = [0.5, 0.5, 0]
    assert_array_equal(encoded, [a_and_b, a_and_b, [0.5, 0, 0.5], [0, 0, 0], a_and_b])
    shuffled = columns[["third", "first", "second"]]
    again = shuffled.mask(shuffled == "-").values.tolist()
    assert_array_equal(encoder.transform(objects(*again)).toarray(), encoded)


def test_columns_of_codes_that_are_joined_to_lists():
    columns = pd.DataFrame({"first": [1, 2, 3], "second": [2, np.nan, 1]})  # floats now
    encoder = MultiHotEncoder(min_frequency=1)
    encoded = encoder.fit_transform(objects(*columns.values.tolist()))
    assert encoder.get_feature_names_out().tolist() == ["tags_1", "tags_2", "tags_3"]
    assert_array_equal(encoded.toarray(), [[0.5, 0.5, 0], [0, 1, 0], [0.5, 0, 0.5]])


@pytest.mark.parametrize("separator", ["|", ", ", "::"])
def test_strings_equal_pandas_get_dummies(separator):
    texts = pd.Series([separator.join(values) for values in LISTS])
    encoder = MultiHotEncoder(separator=separator, min_frequency=1, combiner="sum")
    encoded = encoder.fit_transform(texts.to_frame("tags"))
    # pandas gives the empty string a column of its own with arrow strings.
    dummies = texts.str.get_dummies(separator).drop(columns="", errors="ignore")
    assert_array_equal(encoded.toarray(), dummies)


@pytest.mark.parametrize("container", [list, tuple, set, frozenset, np.array])
def test_every_container_is_a_set(container):
    values = [container(v) for v in LISTS if v]
    expected = MultiHotEncoder().fit_transform(objects(*[v for v in LISTS if v]))
    encoded = MultiHotEncoder().fit_transform(objects(*values))
    assert_array_equal(encoded.toarray(), expected.toarray())


@pytest.mark.parametrize(
    ("combiner", "weight"), [("sum", 1), ("mean", 1 / 3), ("sqrtn", 3**-0.5)]
)
def test_combiner(combiner, weight):
    encoder = MultiHotEncoder(min_frequency=1, combiner=combiner)
    encoded = encoder.fit_transform(objects(["a", "b", "c", "a"], ["b"], []))
    expected = [[weight] * 3, [0, 1, 0], [0, 0, 0]]
    assert_allclose(encoded.toarray(), expected, rtol=1e-6)


def test_rare_and_unknown_values_share_a_column():
    X = objects(["a", "x"], ["a", "x", "y", "z"], ["x"], ["x", "x"])
    encoder = MultiHotEncoder(min_frequency=3, combiner="mean").fit(X)
    assert_array_equal(encoder.infrequent_categories_[0], ["a", "y", "z"])
    assert encoder.get_feature_names_out().tolist() == [
        "tags_x",
        "tags_infrequent_sklearn",
    ]
    encoded = encoder.transform(objects(["x", "y", "z", "new"], ["new"], ["x"]))
    assert_array_equal(encoded.toarray(), [[0.5, 0.5], [0, 1], [1, 0]])


def test_unknown_values_without_rare_ones_have_no_entry():
    encoder = MultiHotEncoder(min_frequency=1).fit(objects(["a"], ["b"]))
    assert encoder.infrequent_categories_ == [None]
    encoded = encoder.transform(objects(["a", "new"], ["new"]))
    assert_array_equal(encoded.toarray(), [[1, 0], [0, 0]])


def test_a_value_counts_once_per_row():
    encoder = MultiHotEncoder(min_frequency=2).fit(objects(["a", "a"], ["b"], ["b"]))
    assert_array_equal(encoder.infrequent_categories_[0], ["a"])


def test_float_min_frequency_is_a_share_of_the_rows():
    X = objects(*[["a", "b", "c"]] * 3, *[["a"]] * 7)
    assert MultiHotEncoder(min_frequency=0.3).fit(X).infrequent_categories_ == [None]
    encoder = MultiHotEncoder(min_frequency=0.31).fit(X)
    assert_array_equal(encoder.infrequent_categories_[0], ["b", "c"])


def test_max_categories_keeps_the_most_frequent():
    X = objects(["a", "b"], ["b", "c"], ["b", "c"], ["d"])
    encoder = MultiHotEncoder(min_frequency=1, max_categories=3).fit(X)
    names = encoder.get_feature_names_out().tolist()
    assert names == ["tags_b", "tags_c", "tags_infrequent_sklearn"]


def test_missing_empty_and_blank_parts_have_no_entry():
    encoder = MultiHotEncoder(min_frequency=1, combiner="sum")
    texts = objects("a | b", "b||", "", " | ", None, np.nan, pd.NA)
    expected = [[1, 1], [0, 1], *[[0, 0]] * 5]
    assert_array_equal(encoder.fit_transform(texts).toarray(), expected)
    lists = objects(["a", None], ["b", np.nan], [pd.NA], [], None)
    expected = [[1, 0], [0, 1], *[[0, 0]] * 3]
    assert_array_equal(encoder.fit_transform(lists).toarray(), expected)


def test_column_without_any_value_has_no_columns():
    encoder = MultiHotEncoder().fit(objects([], []).assign(other=["a", "a"]))
    assert encoder.output_indices_ == {"tags": slice(0, 0), "other": slice(0, 1)}
    encoded = encoder.transform(objects(["a"]).assign(other=["a"]))
    assert_array_equal(encoded.toarray(), [[1]])
    assert encoder.categories_[0].shape == (0,)


def test_numbers_are_sets_of_one():
    encoder = MultiHotEncoder(min_frequency=1)
    encoded = encoder.fit_transform(np.array([[1.0, 5], [2.5, 5], [np.nan, 6]]))
    assert_array_equal(encoded.toarray(), [[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    assert encoder.get_feature_names_out().tolist() == [
        "x0_1",
        "x0_2.5",
        "x1_5",
        "x1_6",
    ]


def test_values_of_lists_are_compared_by_their_string():
    encoder = MultiHotEncoder(min_frequency=1).fit(objects([1, 2], [3]))
    encoded = encoder.transform(objects([2.0, "3", np.int8(1)]))
    assert_allclose(encoded.toarray(), [[1 / 3] * 3], rtol=1e-6)


def test_several_columns():
    X = pd.DataFrame({"left": ["a|b", "a"], "right": [["x"], ["x", "y"]]})
    encoder = MultiHotEncoder(min_frequency=1, combiner="sum").fit(X)
    assert encoder.output_indices_ == {"left": slice(0, 2), "right": slice(2, 4)}
    assert_array_equal(encoder.transform(X).toarray(), [[1, 1, 1, 0], [1, 0, 1, 1]])
    assert [c.tolist() for c in encoder.categories_] == [["a", "b"], ["x", "y"]]


def test_output_is_canonical_float32_csr():
    encoded = MultiHotEncoder().fit_transform(objects(*LISTS))
    assert isinstance(encoded, sparse.csr_matrix)
    assert encoded.dtype == np.float32
    assert encoded.has_canonical_format


@needs_sklearn_1_9
def test_sparse_arrays_of_scikit_learn():
    with config_context(sparse_interface="sparray"):
        assert isinstance(MultiHotEncoder().fit_transform(objects("a")), sparse.csr_array)


def test_global_output_setting_does_not_reach_the_parts():
    with config_context(transform_output="pandas"):
        encoder = MultiHotEncoder().set_output(transform="default")
        assert sparse.issparse(encoder.fit_transform(objects(*LISTS)))


def test_clone_pickle_pipeline_and_column_transformer():
    X, y = objects(*LISTS), [1, 0, 0, 1, 1]
    encoder = MultiHotEncoder(min_frequency=1).fit(X)
    expected = encoder.transform(X).toarray()
    assert_array_equal(clone(encoder).fit(X).transform(X).toarray(), expected)
    again = pickle.loads(pickle.dumps(encoder))
    assert_array_equal(again.transform(X).toarray(), expected)
    columns = ColumnTransformer([("tags", MultiHotEncoder(), ["tags"])])
    names = columns.fit(X).get_feature_names_out().tolist()
    assert names == ["tags__tags_a", "tags__tags_b", "tags__tags_c"]
    model = make_pipeline(MultiHotEncoder(), LogisticRegression()).fit(X, y)
    assert model.predict(X).shape == (5,)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([["a"], "a"], ValueError, "'tags' holds lists, but row 1 holds 'a'"),
        ([{"a": 1}], TypeError, r"'tags' \(dtype object\) has values of type 'dict'"),
        ([["a"], [["b"]]], TypeError, "has list entries of type 'list'"),
        ([[["a"]], [["b"]]], TypeError, "has list entries of type 'list'"),
        ([[{"a": 1}]], TypeError, "has list entries of type 'dict'"),
        ([np.ones((2, 2))], ValueError, r"array of shape \(2, 2\) at row 0"),
        ([pd.Timestamp("2020")], TypeError, "'tags' .* holds times"),
        ([[1j]], ValueError, "Complex data not supported: column 'tags'"),
    ],
)
def test_refused_values(values, error, message):
    with pytest.raises(error, match=message):
        MultiHotEncoder().fit(objects(*values))


def test_refused_at_transform():
    with pytest.raises(ValueError, match="'multi_hot' on list values, but now holds s"):
        MultiHotEncoder().fit(objects(["a"])).transform(objects(None, "a"))
    with pytest.raises(ValueError, match=r"first at row 1: \['a'\]\); pass values"):
        MultiHotEncoder().fit(objects("a")).transform(objects(None, ["a"]))


def test_refused_separator():
    with pytest.raises(ValueError, match="separator='' cannot split"):
        MultiHotEncoder(separator="").fit(objects("a"))


bags = st.lists(
    st.none() | st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1, max_size=12
).filter(lambda rows: any(row is not None for row in rows))


@settings(deadline=None, max_examples=20)
@given(rows=bags, seed=st.integers(0, 99), min_frequency=st.sampled_from([1, 2, 3]))
def test_rows_are_independent(rows, seed, min_frequency):
    X = objects(*rows)
    encoder = MultiHotEncoder(min_frequency=min_frequency).fit(X)
    encoded = encoder.transform(X).toarray()
    order = np.random.default_rng(seed).permutation(len(X))
    assert_array_equal(encoder.transform(X.iloc[order]).toarray(), encoded[order])
    refitted = clone(encoder).fit(X.iloc[order])
    assert_array_equal(refitted.transform(X).toarray(), encoded)
    alone = [encoder.transform(X.iloc[[row]]).toarray()[0] for row in range(len(X))]
    assert_array_equal(alone, encoded)


@settings(deadline=None, max_examples=20)
@given(rows=bags)
def test_lists_and_delimited_strings_are_one(rows):
    texts = [None if row is None else "|".join(row) for row in rows]
    left = MultiHotEncoder().fit(objects(*rows))
    right = MultiHotEncoder().fit(objects(*texts))
    assert_array_equal(
        left.transform(objects(*rows)).toarray(),
        right.transform(objects(*texts)).toarray(),
    )
