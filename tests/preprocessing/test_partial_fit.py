"""partial_fit against one fit of all rows, OneHotEncoder and counts by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.preprocessing import OneHotEncoder

from sktwotower.preprocessing import FeatureEncoder, MultiHotEncoder

# The frames here are so small that most categories are rare.
pytestmark = pytest.mark.filterwarnings("ignore:.*encoded alike:UserWarning")


def frame(*values):
    return pd.DataFrame({"c": pd.Series(list(values), dtype=object)})


def names_of(encoder):
    return encoder.get_feature_names_out().tolist()


def grown(encoder, *chunks):
    for chunk in chunks:
        encoder.partial_fit(frame(*chunk))
    return encoder


# By hand


@pytest.mark.parametrize("encoder", [FeatureEncoder(), MultiHotEncoder()])
def test_without_fit_it_is_fit(encoder):
    X = frame(*"abacbd")
    once = clone(encoder).partial_fit(X)
    assert pickle.dumps(once) == pickle.dumps(clone(encoder).fit(X))
    assert once.partial_fit(X) is once


def test_a_value_becomes_frequent_and_keeps_its_column():
    encoder = grown(FeatureEncoder(min_frequency=2), "bbz")
    assert names_of(encoder) == ["c_b", "c_infrequent_sklearn"]
    grown(encoder, "azyy")
    assert names_of(encoder) == ["c_b", "c_infrequent_sklearn", "c_y", "c_z"]
    grown(encoder, "ax")
    assert names_of(encoder) == ["c_b", "c_infrequent_sklearn", "c_y", "c_z", "c_a"]
    assert encoder.unknown_columns_ == {"c": 1}
    columns = encoder.transform(frame(*"azybx?")).toarray().argmax(axis=1)
    assert_array_equal(columns, [4, 3, 2, 0, 1, 1])


def test_a_shared_column_is_added_at_the_end_and_stays():
    encoder = grown(FeatureEncoder(min_frequency=2), "bb")
    assert encoder.unknown_columns_ == {}
    assert_array_equal(encoder.transform(frame("?")).toarray(), [[0]])
    grown(encoder, "aacd")
    assert names_of(encoder) == ["c_b", "c_a", "c_infrequent_sklearn"]
    assert encoder.unknown_columns_ == {"c": 2}
    grown(encoder, "cd")  # no value is rare any more
    assert names_of(encoder) == ["c_b", "c_a", "c_infrequent_sklearn", "c_c", "c_d"]
    assert encoder.unknown_columns_ == {"c": 2}
    assert_array_equal(encoder.transform(frame("?")).toarray(), [[0, 0, 1, 0, 0]])


def test_a_float_min_frequency_is_a_share_of_all_rows_and_never_demotes():
    encoder = grown(FeatureEncoder(min_frequency=0.5), "aaab")
    assert names_of(encoder) == ["c_a", "c_infrequent_sklearn"]
    grown(encoder, "bb")  # 3 of 6 rows
    assert names_of(encoder) == ["c_a", "c_infrequent_sklearn", "c_b"]
    grown(encoder, "cccccc")  # 6 of 12; a and b have 3
    assert names_of(encoder) == ["c_a", "c_infrequent_sklearn", "c_b", "c_c"]
    grown(encoder, "dd")
    assert len(names_of(encoder)) == 4


def test_newcomers_stay_rare_when_max_categories_are_reached():
    encoder = grown(FeatureEncoder(max_categories=3), "aab")
    assert names_of(encoder) == ["c_a", "c_infrequent_sklearn"]
    grown(encoder, "ddccc")  # there is room for one more, the more frequent one
    assert names_of(encoder) == ["c_a", "c_infrequent_sklearn", "c_c"]
    grown(encoder, "d" * 50)
    assert names_of(encoder) == ["c_a", "c_infrequent_sklearn", "c_c"]
    assert_array_equal(encoder.transform(frame("d")).toarray(), [[0, 1, 0]])


def test_values_and_rare_values_are_updated():
    encoder = MultiHotEncoder(min_frequency=2).fit(frame("b|c", "b"))
    encoder.partial_fit(frame("a|c", "d", None))
    assert_array_equal(encoder.categories_[0], ["a", "b", "c", "d"])
    assert_array_equal(encoder.infrequent_categories_[0], ["a", "d"])
    encoder.partial_fit(frame("a|d"))
    assert encoder.infrequent_categories_ == [None]


def test_missing_becomes_a_category():
    encoder = FeatureEncoder().fit(frame("a", "a", None)).partial_fit(frame(None, "b"))
    assert names_of(encoder) == ["c_a", "c_infrequent_sklearn", "c_missing"]


def test_later_fields_move_along():
    first = pd.DataFrame({"p": ["a", "a"], "n": [1.0, 3.0], "q": [["x"], ["y"]]})
    more = pd.DataFrame({"p": ["b", "b"], "n": [9.0, 9.0], "q": [["x"], ["x", "z"]]})
    encoder = FeatureEncoder().fit(first)
    assert names_of(encoder) == ["p_a", "n", "q_infrequent_sklearn"]
    assert encoder.unknown_columns_ == {"q": 2}
    encoder.partial_fit(more)
    assert names_of(encoder) == ["p_a", "p_b", "n", "q_infrequent_sklearn", "q_x"]
    assert encoder.output_indices_ == {
        "p": slice(0, 2),
        "n": slice(2, 3),
        "q": slice(3, 5),
    }
    assert encoder.unknown_columns_ == {"q": 3}
    encoded = encoder.transform(more).toarray()
    assert_array_equal(encoded, [[0, 1, 7, 0, 1], [0, 1, 7, 0.5, 0.5]])


def test_numbers_times_and_vectors_stay_as_they_are():
    X = pd.DataFrame(
        {
            "number": [1.0, 2.0, 4.0],
            "flagged": [1.0, None, 4.0],
            "time": pd.date_range("2020-01-01", periods=3),
            "span": pd.to_timedelta([1, 2, 4], unit="h"),
            "vector": [[0.5, 1.0], [1.5, 4.0], None],
        }
    )
    more = pd.DataFrame(
        {
            "number": [None, 1e9],
            "flagged": [None, -5.0],
            "time": pd.to_datetime([None, "2050-01-01"]),
            "span": pd.to_timedelta([None, 900], unit="h"),
            "vector": [[9.0, 9.0], None],
        }
    )
    encoder = FeatureEncoder().fit(X)
    names, places = names_of(encoder), encoder.output_indices_
    before = [encoder.transform(part).toarray() for part in (X, more)]
    encoder.partial_fit(more)
    assert names_of(encoder) == names and encoder.output_indices_ == places
    assert encoder.unknown_columns_ == {}
    for part, expected in zip((X, more), before, strict=True):
        assert_array_equal(encoder.transform(part).toarray(), expected)


@pytest.mark.parametrize(
    ("dtype", "kind", "given"),
    [
        (float, "number", 1.0),
        ("datetime64[ns]", "datetime", pd.Timestamp("2020")),
        ("boolean", "boolean", True),
        (object, "category", "a|b"),
        ("category", "category", "a"),
    ],
)
def test_a_column_without_any_value_keeps_its_kind(dtype, kind, given):
    nothing = pd.DataFrame({"c": pd.Series([None, None], dtype=dtype)})
    encoder = FeatureEncoder().fit(nothing).partial_fit(frame(given, given))
    assert encoder.kinds_ == {"c": kind}
    if kind in ("boolean", "category"):
        assert names_of(encoder) == ["c_missing", f"c_{given}"]


def test_a_multi_hot_column_without_any_value_grows():
    encoder = MultiHotEncoder().fit(frame(None, None))
    assert encoder.output_indices_ == {"c": slice(0, 0)}
    encoder.partial_fit(frame(["a", "b"], ["a"]))
    assert names_of(encoder) == ["c_a", "c_infrequent_sklearn"]


def test_fit_begins_anew():
    encoder = grown(FeatureEncoder(), "aab", "bbc")
    assert pickle.dumps(encoder.fit(frame(*"xxy"))) == pickle.dumps(
        FeatureEncoder().fit(frame(*"xxy"))
    )


def test_a_copy_grows_alike_and_alone():
    encoder = grown(FeatureEncoder(), "aab", "bcc")
    names = names_of(encoder)
    copy = pickle.loads(pickle.dumps(encoder))
    grown(copy, "dd")
    assert names_of(encoder) == names
    assert names_of(copy) == [*names, "c_d"]
    assert names_of(grown(encoder, "dd")) == names_of(copy)
    assert not hasattr(clone(encoder), "unknown_columns_")


# Refusals

MIXED = pd.DataFrame(
    {
        "word": ["a", "a", "b"],
        "tags": [["x"], ["x"], ["y"]],
        "number": [1.0, 2.0, 3.0],
        "vector": [[0.5, 1.0], [1.5, 4.0], [2.5, 0.0]],
    }
)
MORE = {
    "word": ["b", "c"],
    "tags": [["y"], ["z"]],
    "number": [1.0, 2.0],
    "vector": [[0.5, 1.0], [1.5, 4.0]],
}


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"number": [1.0, np.inf]}, ValueError, "'number' has 1 infinite value"),
        ({"number": ["a", "b"]}, ValueError, "'number' was fitted as 'number' on number"),
        ({"word": [1.0, 2.0]}, ValueError, "'word' was fitted as 'category' on string"),
        ({"tags": ["x", "y"]}, ValueError, "'tags' was fitted as 'multi_hot' on list"),
        ({"tags": [["x"], [["y"]]]}, TypeError, "'tags' .* has list entries of type"),
        ({"vector": [[1.0], [2.0]]}, ValueError, "'vector' holds vectors of length 2, but"),
        ({"vector": [[1.0, np.inf], [2.0, 0]]}, ValueError, "'vector' has 1 infinite"),
        ({"other": [1, 2]}, ValueError, "feature names should match"),
        ({"word": [{}, {}]}, TypeError, "'word' .* has values of type 'dict'"),
    ],
)
def test_a_refusal_changes_nothing(wrong, error, message):
    encoder = FeatureEncoder().fit(MIXED)
    before = pickle.dumps(encoder)
    with pytest.raises(error, match=message) as refusal:
        encoder.partial_fit(pd.DataFrame({**MORE, **wrong}))
    assert pickle.dumps(encoder) == before
    with pytest.raises(error) as refusal_of_transform:
        encoder.transform(pd.DataFrame({**MORE, **wrong}))
    assert str(refusal.value) == str(refusal_of_transform.value)
    word, tags = (
        ["word_a", "word_infrequent_sklearn"],
        ["tags_x", "tags_infrequent_sklearn"],
    )
    others = ["number", "vector_0", "vector_1"]
    assert names_of(encoder) == [*word, *tags, *others]
    encoder.partial_fit(pd.DataFrame(MORE))
    assert names_of(encoder) == [*word, "word_b", *tags, "tags_y", *others]


def test_after_a_refused_first_part_the_next_is_fit():
    encoder = FeatureEncoder()
    with pytest.raises(ValueError, match="'c' has 1 infinite value"):
        encoder.partial_fit(frame(1.0, np.inf))
    assert encoder.partial_fit(frame("a", "a")).kinds_ == {"c": "category"}


# Under hypothesis

words = st.none() | st.sampled_from(["a", "b", "c", "d", "e", "missing"])
bags = st.none() | st.lists(st.sampled_from("abcdef"), max_size=3)


def chunks_of(value):
    return st.lists(st.lists(value, min_size=1, max_size=6), min_size=1, max_size=5)


CASES = st.one_of(
    st.tuples(st.just(FeatureEncoder(separator=None)), chunks_of(words)),
    st.tuples(st.just(MultiHotEncoder()), chunks_of(bags)),
)
MIN_FREQUENCY = st.sampled_from([None, 1, 2, 3])
SHARE = st.sampled_from([0.1, 0.25, 0.5])
MAX_CATEGORIES = st.none() | st.integers(1, 5)


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(words.filter(lambda word: word is not None), min_size=1, max_size=30),
    min_frequency=MIN_FREQUENCY | SHARE,
    max_categories=MAX_CATEGORIES,
)
@pytest.mark.filterwarnings("ignore:Found unknown categories")
def test_fit_gives_columns_like_one_hot_encoder(values, min_frequency, max_categories):
    limits = {"min_frequency": min_frequency, "max_categories": max_categories}
    encoder = FeatureEncoder(**limits, separator=None).fit(frame(*values))
    reference = OneHotEncoder(**limits, handle_unknown="infrequent_if_exist")
    reference.fit(frame(*values))
    assert_array_equal(names_of(encoder), reference.get_feature_names_out())
    asked = frame(*"abcde?")
    assert_array_equal(
        encoder.transform(asked).toarray(), reference.transform(asked).toarray()
    )


@settings(deadline=None, max_examples=40)
@given(case=CASES, min_frequency=MIN_FREQUENCY)
@pytest.mark.slow
def test_chunks_equal_one_fit(case, min_frequency):
    encoder, chunks = case
    encoder.set_params(min_frequency=min_frequency)
    everything = frame(*[value for chunk in chunks for value in chunk])
    whole = clone(encoder).fit(everything)
    parts = grown(clone(encoder), *chunks)
    # The shared column stays, without entries, when its only value becomes frequent.
    extra = set(names_of(parts)) - set(names_of(whole))
    assert extra <= {"c_infrequent_sklearn"}
    order = [names_of(parts).index(name) for name in names_of(whole)]
    encoded = parts.transform(everything).toarray()
    assert_array_equal(encoded[:, order], whole.transform(everything).toarray())
    assert np.count_nonzero(encoded) == np.count_nonzero(encoded[:, order])
    if not extra:
        asked = frame("?") if isinstance(encoder, FeatureEncoder) else frame(["?"])
        assert_array_equal(
            parts.transform(asked).toarray()[:, order], whole.transform(asked).toarray()
        )


@settings(deadline=None, max_examples=40)
@given(
    case=CASES,
    min_frequency=MIN_FREQUENCY | SHARE,
    max_categories=st.none() | MAX_CATEGORIES,
)
@pytest.mark.slow
def test_columns_stay_where_they_are(case, min_frequency, max_categories):
    encoder, chunks = case
    encoder = clone(encoder).set_params(
        min_frequency=min_frequency, max_categories=max_categories
    )
    asked = frame("?") if isinstance(encoder, FeatureEncoder) else frame(["?"])
    before: list[str] = []
    for chunk in chunks:
        grown(encoder, chunk)
        names = names_of(encoder)
        assert names[: len(before)] == before
        assert len(set(names)) == len(names)
        assert encoder.output_indices_ == {"c": slice(0, len(names))}
        if max_categories is not None:
            assert len(names) <= max_categories
        shared = {"c_infrequent_sklearn"} & set(names)
        unknown = {} if not shared else {"c": names.index("c_infrequent_sklearn")}
        assert encoder.unknown_columns_ == unknown
        expected = [float(name in shared) for name in names]
        assert_array_equal(encoder.transform(asked).toarray(), [expected])
        before = names
