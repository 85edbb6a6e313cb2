"""What the model answers, the model takes: ids of every kind, asked again and stored."""

import datetime as dt
import decimal
import json
import uuid
from itertools import product

import numpy as np
import pandas as pd
import pytest

import sktwotower
from sktwotower.baselines import EASERecommender, ItemKNNRecommender, PopularRecommender
from sktwotower.history import PooledHistory
from tests.helpers import assert_same_answer, make_model

BASELINES = [PopularRecommender, ItemKNNRecommender, EASERecommender]
NAMES = {"user_column": "user", "item_column": "item"}
LETTERS = list("abcdef")
DAYS = pd.date_range("2020-01-01", periods=6)


def objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


KINDS = {
    "int64": np.array([3, 1, 2, 7, 5, -4]),
    "uint8": np.array([3, 1, 2, 7, 5, 4], dtype=np.uint8),
    "uint64": np.array([3, 1, 2, 7, 5, 2**63 + 1], dtype=np.uint64),
    "Int16": pd.array([3, 1, 2, 7, 5, 4], dtype="Int16"),
    "uint32[pyarrow]": "uint32[pyarrow]",
    "beyond 64 bits": objects([2**64, -1, 2**60 + 1, 6, 7, 8]),
    "bool": np.array([True, False] * 3),
    "boolean": pd.array([True, False] * 3, dtype="boolean"),
    "float": np.array([0.5, 1.0, 2.0, 3.0, 4.0, -1.5]),
    "strings": objects(LETTERS),
    "np.str_": objects([np.str_(letter) for letter in LETTERS]),
    "string[pyarrow]": "string[pyarrow]",
    "category": pd.Categorical(LETTERS),
    "bytes": objects([letter.encode() for letter in LETTERS]),
    "datetime64[s]": DAYS.astype("datetime64[s]").to_numpy(),
    "datetime64[ns]": DAYS.astype("datetime64[ns]").to_numpy(),
    "zoned": DAYS.tz_localize("Europe/Berlin"),
    "dates": objects(list(DAYS.date)),
    "times": objects([dt.time(hour) for hour in range(6)]),
    "timedelta": (DAYS - DAYS[0]).to_numpy(),
    "periods": DAYS.to_period("D").array,
    "uuids": objects([uuid.UUID(int=number) for number in range(6)]),
    "decimals": objects([decimal.Decimal(number) / 2 for number in range(6)]),
    "tuples": objects([(number, "a") for number in range(6)]),
    "mixed": objects([1, "a", 2.5, ("a", 1), b"x", uuid.UUID(int=1)]),
}


@pytest.fixture(params=KINDS)
def X(request):
    values = KINDS[request.param]
    if isinstance(values, str):
        pytest.importorskip("pyarrow")
        given = LETTERS if "string" in values else [3, 1, 2, 7, 5, 4]
        values = pd.array(given, dtype=values)
    ids = pd.Series(values)
    others = [1, 2, 3, 4, 5, 0] * 2 + [2, 3, 4, 5, 0, 1]
    return pd.DataFrame(
        {"user": ids.iloc[[*range(6)] * 3].array, "item": ids.iloc[others].array}
    )


def as_ids(answer):
    """An answer's ids as a caller would pass them on."""
    return answer.ravel().tolist() if answer.dtype == object else answer.ravel()


def check_round_trip(model, X):
    users, items = model.user_ids_, model.item_ids_
    assert set(pd.Series(users).astype(object)) == set(X["user"].astype(object))
    answer = model.recommend(users, 2, exclude_seen=False)
    assert_same_answer(model.recommend(X["user"].unique(), 2, exclude_seen=False), answer)
    rows = X.drop_duplicates("user")
    assert_same_answer(model.recommend(rows, 2, exclude_seen=False), answer)
    found = as_ids(answer[0])
    assert set(objects(list(found))) <= set(objects(list(items)))
    frame = model.recommend(users, 2, exclude_seen=False, as_frame=True)
    np.testing.assert_allclose(model.predict(frame), frame["score"], atol=1e-5)
    again = model.recommend(frame["user"].unique(), 2, exclude_seen=False)
    assert_same_answer(again, answer)
    known = model.recommend(users, 2, exclude_seen=False, candidates=found)
    assert known[0].shape == answer[0].shape
    hidden = model.recommend(users, 9, exclude_seen=False, exclude_interactions=frame)
    for row, before in zip(hidden[0].tolist(), answer[0].tolist(), strict=True):
        assert not set(row) & set(before)
    return answer


def test_what_is_answered_is_understood(X, tmp_path):
    pytest.importorskip("skops")
    model = make_model(**NAMES, history=PooledHistory(2)).fit(X)
    answer = check_round_trip(model, X)
    similar, _ = model.similar_items(as_ids(answer[0]), 1)
    audience, _ = model.recommend_users(as_ids(similar), 1, exclude_seen=False)
    model.similar_users(as_ids(audience), 1)
    model.user_tower_.transform(as_ids(audience))
    history = pd.DataFrame({"user": as_ids(audience), "item": as_ids(similar)})
    model.recommend(as_ids(audience), history=history)
    model.save(tmp_path / "model")
    loaded = sktwotower.load(tmp_path / "model")
    assert loaded.item_ids_.dtype == model.item_ids_.dtype
    assert loaded.item_ids_.tolist() == model.item_ids_.tolist()
    assert_same_answer(check_round_trip(loaded, X), answer)
    assert loaded.partial_fit(X).item_ids_.tolist() == model.item_ids_.tolist()


@pytest.mark.parametrize("baseline", BASELINES)
def test_what_baselines_answer_is_understood(X, baseline):
    check_round_trip(baseline(**NAMES).fit(X), X)


def test_ids_in_an_exported_directory(X, tmp_path):
    pytest.importorskip("onnx")
    model = make_model(**NAMES).fit(X)
    model.export_onnx(tmp_path / "graphs")
    ids = json.loads((tmp_path / "graphs" / "ids.json").read_text("utf-8"))
    for side, known in (("users", model.user_ids_), ("items", model.item_ids_)):
        assert len({json.dumps(value) for value in ids[side]}) == len(known)
        if known.dtype.kind in "biu":
            assert ids[side] == known.tolist()


INTEGERS = ["int64", "int8", "uint8", "uint64", "Int32", "UInt16", "object", "float32"]


# A model holds int64, whichever of the integers it was given.
@pytest.mark.parametrize(
    ("known", "given"),
    sorted(
        {*product(["int64", "object", "float32"], INTEGERS)}
        | {*product(INTEGERS, ["uint8", "uint64"])}
    ),
)
def test_integers_of_different_kinds_are_equal(known, given):
    rows = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": [10, 20, 10, 30, 40]})
    table = pd.DataFrame({"item": [10, 20, 30, 40, 50], "kind": list("ababa")})
    model = make_model(**NAMES, item_table=table.astype({"item": given}), id_dropout=0.2)
    model = model.fit(rows.astype(known))
    assert model.item_ids_.tolist() == [10, 20, 30, 40, 50]
    if known != "float32":
        assert model.item_ids_.dtype == np.int64
    expected = model.recommend([1, 2], 2)
    query = pd.Series([1, 2], dtype=given)
    assert_same_answer(model.recommend(query, 2), expected)
    np.testing.assert_array_equal(model.predict(rows.astype(given)), model.predict(rows))
    options = {"candidates": [10, 30], "exclude_interactions": rows, "history": rows}
    for name, value in options.items():
        typed = pd.Series(value) if name == "candidates" else value
        typed = typed.astype(given)
        assert_same_answer(
            model.recommend(query, 2, **{name: typed}),
            model.recommend([1, 2], 2, **{name: value}),
        )
    model.partial_fit(pd.DataFrame({"user": [1, 4], "item": [20, 50]}).astype(given))
    assert model.item_ids_.tolist() == [10, 20, 30, 40, 50]
    assert model.user_ids_.tolist() == [1, 2, 3, 4]
    if known != "float32":
        assert model.user_ids_.dtype == np.int64


@pytest.mark.parametrize("unit", ["ns", "us", "s"])
def test_durations_of_an_array_in_a_list(unit):
    ids = (DAYS - DAYS[0]).to_numpy().astype(f"timedelta64[{unit}]")
    first, second = [*range(6), 0], [1, 2, 3, 4, 5, 0, 2]
    rows = pd.DataFrame({"user": ids[first], "item": ids[second]})
    model = make_model(**NAMES).fit(rows)
    expected = model.recommend(rows["user"], 6, exclude_seen=False)
    found = model.recommend(
        list(rows["user"].to_numpy()), 6, exclude_seen=False, candidates=list(ids)
    )
    assert_same_answer(found, expected)
    everything = model.similar_items(list(model.item_ids_), 5)
    assert_same_answer(everything, model.similar_items(model.item_ids_, 5))


@pytest.mark.parametrize("estimator", [make_model, PopularRecommender])
def test_frozen_sets_are_ids_where_the_known_ones_are(estimator):
    sets = objects([frozenset({letter, "x"}) for letter in LETTERS])
    rows = pd.DataFrame({"user": sets[[*range(6)] * 2], "item": sets[[*range(6)] * 2]})
    model = estimator(**NAMES).fit(rows)
    some = sets[:3]
    pairs = pd.DataFrame({"user": sets[[4, 4, 4]], "item": some})
    for candidates in (list(some), some, pd.Series(some), {*some}, pairs, [list(some)]):
        query = [sets[4]]
        ids, _ = model.recommend(query, 3, candidates=candidates, exclude_seen=False)
        assert {*ids[0]} == {*some}
    numbers = estimator(**NAMES).fit(pd.DataFrame({"user": [1, 2, 1], "item": [1, 2, 2]}))
    lists = [frozenset([1]), frozenset([2])]
    ids, _ = numbers.recommend([1, 2], 1, candidates=lists, exclude_seen=False)
    assert ids.tolist() == [[1], [2]]


def test_dates_of_all_libraries_are_dates():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    dates = [*DAYS.date] * 3
    table = pa.table({"user": [*range(6)] * 3, "item": dates})
    frame = table.to_pandas()
    expected = make_model(**NAMES).fit(frame)
    answer = expected.similar_items(dates[:2], 2)
    of_polars = pl.from_arrow(table)
    for X in (table, of_polars, frame.astype({"item": pd.ArrowDtype(pa.date32())})):
        model = make_model(**NAMES).fit(X)
        assert model.item_ids_.tolist() == dates[:6]
        for query in (dates[:2], of_polars["item"][:2], table["item"][:2], X["item"][:2]):
            assert_same_answer(model.similar_items(query, 2), answer)


ARROW_TIMES = {
    "timestamp[us][pyarrow]": DAYS,
    "timestamp[ns][pyarrow]": DAYS,
    "timestamp[us, tz=UTC][pyarrow]": DAYS.tz_localize("UTC"),
    "duration[us][pyarrow]": DAYS - DAYS[0],
    "date32[day][pyarrow]": DAYS,
}


@pytest.mark.filterwarnings("ignore:1 of 1 user ids of X are not known users")
@pytest.mark.parametrize("kind", ARROW_TIMES)
def test_answers_merge_with_times_of_arrow(kind, tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("skops")
    ids = pd.Series(ARROW_TIMES[kind]).astype(kind)
    rows = pd.DataFrame({"user": ids.iloc[[*range(6)] * 2].array, "n": range(12)})
    rows["item"] = ids.iloc[[1, 2, 3, 4, 5, 0] * 2].array
    model = make_model(**NAMES).fit(rows)
    model.save(tmp_path / "model")
    baseline = PopularRecommender(**NAMES).fit(rows)
    for estimator in (model, sktwotower.load(tmp_path / "model"), baseline):
        frame = estimator.recommend(
            rows["user"].unique(), 6, exclude_seen=False, as_frame=True
        )
        assert len(frame.merge(rows, on=["user", "item"])) == 12
        assert len(rows.merge(frame, on=["user", "item"])) == 12
        again = estimator.recommend(frame["user"].unique(), 6, exclude_seen=False)
        assert set(again[0].ravel()) == set(estimator.item_ids_)
    similar = model.similar_items(rows["item"][:2], 5, as_frame=True)
    assert len(similar.merge(rows, on="item")) == 20
    assert len(similar.merge(rows, left_on="query", right_on="item")) == 20
    strangers = model.recommend([pd.Timestamp("2030-01-01")], 1, as_frame=True)
    assert len(strangers) == 1


def test_large_integers_stay_exact():
    ids = [2**60 + 1, 2**60 + 2, 2**61 + 1, 2**62 + 1]
    rows = pd.DataFrame({"user": [1, 2, 3, 4, 4], "item": [*ids, ids[0]]})
    model = make_model(**NAMES).fit(rows)
    model.partial_fit(pd.DataFrame({"user": [1], "item": np.array([7], dtype=np.uint64)}))
    assert model.item_ids_.tolist() == [*ids, 7]
    assert model.item_ids_.dtype == np.int64
    beyond = pd.DataFrame({"user": [1], "item": np.array([2**63 + 1], dtype=np.uint64)})
    assert model.partial_fit(beyond).item_ids_.dtype == np.uint64
    negative = pd.DataFrame({"user": [1], "item": [-5]})
    assert model.partial_fit(negative).item_ids_.tolist() == [*ids, 7, 2**63 + 1, -5]
    similar, _ = model.similar_items([2**60 + 2, 2**63 + 1, -5], 6)
    for query, row in zip([2**60 + 2, 2**63 + 1, -5], similar.tolist(), strict=True):
        assert set(row) == set(model.item_ids_.tolist()) - {query}
