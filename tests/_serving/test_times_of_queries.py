"""Times that come after ``fit``: of one kind and unit with those of training."""

import warnings

import numpy as np
import pandas as pd
import pytest

import sktwotower
from sktwotower.baselines import PopularRecommender
from sktwotower.history import PooledHistory
from tests.helpers import make_model, make_X, same_embeddings

X = make_X(n_rows=120)
SECONDS = 1_600_000_000 + 3600 * X["time"]
# The times of training, and others that are of another kind or unit.
TIMES = {
    "seconds": (
        SECONDS,
        [SECONDS * 1000, SECONDS * 10**9, pd.to_datetime(SECONDS, unit="s")],
    ),
    "milliseconds": (SECONDS * 1000, [SECONDS, SECONDS * 1e3 * 1e3, X["time"]]),
    "floats": (SECONDS * 1.0, [SECONDS * 1e3, X["time"], X["time"] * 1.0]),
    "counters": (X["time"], [SECONDS, pd.to_timedelta(X["time"], unit="D")]),
    "datetimes": (pd.to_datetime(SECONDS, unit="s"), [SECONDS, SECONDS * 10**9]),
    "dates": (pd.to_datetime(SECONDS, unit="s").dt.date, [SECONDS]),
    "zoned": (pd.to_datetime(SECONDS, unit="s", utc=True), [SECONDS * 10**6]),
    "durations": (pd.to_timedelta(SECONDS, unit="s"), [SECONDS, pd.to_datetime(SECONDS)]),
}
OPTIONS = dict(
    user_column="user",
    item_column="item",
    timestamp_column="time",
    user_id_embedding=False,
    history=PooledHistory(3),
)


@pytest.fixture(scope="module", params=TIMES)
def fitted(request):
    times, others = TIMES[request.param]
    return make_model(**OPTIONS).fit(X.assign(time=times)), times, others


REFUSED = "(another unit than those of fit|cannot be compared with those of fit)"


def test_other_times_are_refused(fitted):
    model, times, others = fitted
    for other in others:
        rows = X.assign(time=other)
        message = f"The timestamps in column 'time' of history .*{REFUSED}"
        with pytest.raises(ValueError, match=message):
            model.recommend([1], history=rows[:3])
        message = f"The timestamps in column 'time' of X .*{REFUSED}"
        with pytest.raises(ValueError, match=message):
            model.partial_fit(rows)
        with pytest.raises(ValueError, match=message):
            model.score(rows)
        message = f"The timestamps in column 'time' of X_val .*{REFUSED}"
        with pytest.raises(ValueError, match=message):
            make_model(**OPTIONS).fit(X.assign(time=times), X_val=rows)
        model.predict(rows)  # reads no times


def test_later_times_are_taken(fitted):
    model, times, _ = fitted
    step = times.max() - times.min()
    later = X.assign(time=times + step)
    model.recommend([1], history=later)
    grown = sktwotower.TwoTowerRecommender(**model.get_params(deep=False))
    grown.fit(X.assign(time=times))
    grown.partial_fit(later).recommend([1], history=later.assign(time=later["time"] + step))


def test_the_kind_is_saved(fitted, tmp_path):
    pytest.importorskip("pyarrow")
    model, _, others = fitted
    model.save(tmp_path / "model")
    loaded = sktwotower.load(tmp_path / "model")
    assert loaded._state.roles.times == model._state.roles.times
    with pytest.raises(ValueError, match=REFUSED):
        loaded.recommend([1], history=X.assign(time=others[0])[:3])


@pytest.mark.parametrize("name", ["seconds", "datetimes", "dates", "durations"])
def test_times_in_files_and_elsewhere(name, tmp_path):
    pytest.importorskip("pyarrow")
    pl = pytest.importorskip("polars")
    times, others = TIMES[name]
    X.assign(time=times).to_parquet(tmp_path / "rows.parquet")
    X.assign(time=others[0]).to_parquet(tmp_path / "others.parquet")
    model = make_model(**OPTIONS).fit(tmp_path / "rows.parquet")
    assert model._state.roles.times == (
        make_model(**OPTIONS).fit(pl.from_pandas(X.assign(time=times)))._state.roles.times
    )
    with pytest.raises(ValueError, match=REFUSED):
        model.partial_fit(tmp_path / "others.parquet")
    with pytest.raises(ValueError, match=f"history .*{REFUSED}"):
        model.recommend([1], history=pl.from_pandas(X.assign(time=others[0])))
    with pytest.raises(ValueError, match=REFUSED):
        make_model(**OPTIONS).fit(
            tmp_path / "rows.parquet", X_val=tmp_path / "others.parquet"
        )


def test_times_of_arrays(tmp_path):
    rows = X.assign(time=SECONDS).to_numpy()
    options = {**OPTIONS, "user_column": 0, "item_column": 1, "timestamp_column": 2}
    model = make_model(**options).fit(rows)
    with pytest.raises(ValueError, match="column 2 of history .*milliseconds since 1970"):
        model.recommend([1], history=rows * [1, 1, 1000])
    np.save(tmp_path / "rows.npy", rows * [1, 1, 1000])
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for later in (rows * [1, 1, 1000], mapped):
        with pytest.raises(ValueError, match="column 2 of X .*milliseconds since 1970"):
            model.partial_fit(later)


def test_validation_rows_may_lack_times():
    rows = X.assign(time=SECONDS)
    one, other = (make_model(**OPTIONS, max_iter=1) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pairs that are in both
        one.fit(rows, X_val=rows)
        other.fit(rows, X_val=rows[["user", "item"]])
    assert same_embeddings(one, other)


def test_a_baseline_with_times():
    model = PopularRecommender(
        user_column="user", item_column="item", timestamp_column="time"
    )
    model.fit(X.assign(time=SECONDS))
    with pytest.raises(ValueError, match=f"of X .*{REFUSED}"):
        model.score(X.assign(time=SECONDS * 1000))


# --- rows that are sent again --------------------------------------------------------


def answers(model, users, **options):
    return model.recommend(users, 99, exclude_seen=False, **options)


def assert_equal(one, other):
    assert one[0].tolist() == other[0].tolist()
    np.testing.assert_allclose(one[1], other[1], atol=1e-6)


@pytest.mark.parametrize("size", [2, 5, 50, None])
def test_a_log_that_is_sent_again_changes_nothing(fitted, size):
    _, times, _ = fitted
    log = X.assign(time=times)
    model = make_model(**{**OPTIONS, "history": PooledHistory(size)}).fit(log)
    users = [0, 3, 5, 3]
    own = log[log["user"].isin(users)]
    expected = answers(model, users)
    assert_equal(answers(model, users, history=own), expected)
    assert_equal(
        answers(model, users, history=own.sample(frac=1, random_state=0)), expected
    )
    assert_equal(answers(model, users, history=pd.concat([own, own])), expected)
    # What is new counts, and as if it had been sent alone.
    new = own.tail(1).assign(user=3, time=times.max() + (times.max() - times.min()))
    alone = answers(model, users, history=new)
    assert_equal(answers(model, users, history=pd.concat([own, new])), alone)
    assert not np.allclose(alone[1][1], expected[1][1])
    assert_equal([part[::2] for part in alone], [part[::2] for part in expected])


def test_repeats_at_other_times_count():
    model = make_model(**{**OPTIONS, "history": PooledHistory(50)}).fit(X)
    own = X[X["user"] == 3]
    later = own.assign(time=own["time"] + 1000)
    once, twice = (
        answers(model, [3], history=rows)[1] for rows in (own, pd.concat([own, later]))
    )
    assert not np.allclose(once, twice)
    # A new row that is sent twice counts twice, as in training.
    pair = later.head(1)
    assert not np.allclose(
        answers(model, [3], history=pair)[1],
        answers(model, [3], history=pd.concat([pair] * 30))[1],
    )


def test_known_negatives_are_not_added():
    y = np.where(np.arange(len(X)) % 4, 1, -1)
    model = make_model(**OPTIONS).fit(X, y)
    own = X[X["user"] == 3]
    assert (y[own.index] < 0).any()
    assert_equal(answers(model, [3], history=own), answers(model, [3]))


def test_the_history_of_another_user_is_not_known():
    model = make_model(**OPTIONS).fit(X)
    as_new = X[X["user"] == 3].assign(user=-1)
    assert_equal(answers(model, [-1], history=as_new), answers(model, [3]))
    other = answers(model, [4], history=X[X["user"] == 3].assign(user=4, time=999))
    assert not np.allclose(other[1], answers(model, [4])[1])


def test_without_times_nothing_is_known():
    """A row that is sent again cannot be told from a repeat."""
    rows = X.sort_values("time")
    options = {**OPTIONS, "timestamp_column": None, "history": PooledHistory(50)}
    model = make_model(**options).fit(rows)
    own = rows[rows["user"] == 3]
    twice = pd.concat([own, own]).assign(user=-1)
    assert_equal(answers(model, [3], history=own), answers(model, [-1], history=twice))


# --- other forms ---------------------------------------------------------------------

LISTS = {3: [1, 2, 5], -1: [4, 4, 7]}
ROWS = pd.DataFrame(
    [(user, item) for user, items in LISTS.items() for item in items],
    columns=["user", "item"],
)
FORMS = {
    "dict": LISTS,
    "dict of arrays": {user: np.array(items) for user, items in LISTS.items()},
    "series of lists": ROWS.groupby("user", sort=False)["item"].apply(list),
    "series": ROWS.set_index("user")["item"],
    "grouped": ROWS.groupby("user", sort=False)["item"],
    "grouped frame": ROWS.groupby("user"),
    "index": pd.MultiIndex.from_frame(ROWS),
}


@pytest.mark.parametrize("form", FORMS)
def test_histories_and_exclusions_by_user(form):
    model = make_model(**OPTIONS).fit(X)
    users = [-1, 3, 4]
    for name in ("history", "exclude_interactions"):
        assert_equal(
            model.recommend(users, 99, **{name: FORMS[form]}),
            model.recommend(users, 99, **{name: ROWS}),
        )
    by_item = {1: [0, 3], 2: [4]}
    pairs = pd.DataFrame([(0, 1), (3, 1), (4, 2)], columns=["user", "item"])
    assert_equal(
        model.recommend_users([1, 2], 99, exclude_interactions=by_item),
        model.recommend_users([1, 2], 99, exclude_interactions=pairs),
    )


def test_ids_that_are_the_numbers_from_0():
    """An index called like the column of ids has ids, whatever they are."""
    model = make_model(**OPTIONS).fit(X)
    rows = pd.DataFrame({"user": [0, 1, 1, 2], "item": [3, 4, 5, 6]})
    grouped = rows.groupby("user")["item"]
    for name in ("history", "exclude_interactions"):
        expected = model.recommend([0, 1, 2], 99, **{name: rows})
        for form in (grouped, grouped.apply(list), grouped.apply(list).to_dict()):
            assert_equal(model.recommend([0, 1, 2], 99, **{name: form}), expected)
        with pytest.raises(ValueError, match="without user ids in its index"):
            model.recommend([0, 1], **{name: grouped.apply(list).rename_axis("row")})


def forms_that_are_refused():
    return {
        "a number": (5, "got the single value 5"),
        "a string": ("rows", "is the path 'rows'"),
        "a set": ({(3, 1)}, "got a set. Give a list"),
        "an iterator": (iter([(3, 1)]), "Give a list"),
        "ids": ([1, 2], "in two dimensions.*got a 1-D"),
        "ragged": ([[3, 1], [3]], "The rows are not all of one length"),
        "a list for a number": (
            {3: 1},
            r"\[3\] must be a list of ids; got the single value 1",
        ),
        "no index": (pd.Series([1, 2]), "is a Series without user ids in its index"),
        "no item": (pd.DataFrame({"user": [3]}), "lacks the column 'item'"),
        "levels": (
            ROWS.set_axis([["a", "a"], ["b", "c"]], axis=1),
            "has a MultiIndex of col",
        ),
    }


@pytest.mark.parametrize("name", ["history", "exclude_interactions"])
@pytest.mark.parametrize("form", forms_that_are_refused())
def test_forms_that_are_refused(form, name):
    model = make_model(**OPTIONS).fit(X)
    value, message = forms_that_are_refused()[form]
    with pytest.raises((TypeError, ValueError), match=f"{name}.*{message}"):
        model.recommend([3], **{name: value})


def test_sets_have_no_order():
    model = make_model(**OPTIONS).fit(X)
    with pytest.raises(ValueError, match=r"history\[3\] is a set, which has no order"):
        model.recommend([3], history={3: {1, 2}})
    assert model.recommend([3], 99, exclude_interactions={3: {1, 2}})[0].shape == (1, 99)
