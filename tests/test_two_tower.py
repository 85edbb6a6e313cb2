"""The estimator: scikit-learn's habits, what it learns, and what it refuses."""

import copy
import io
import pickle
import random
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils import check_random_state

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower._training.early_stopping import Validation
from sktwotower.baselines import PopularRecommender
from sktwotower.datasets import load_movielens_small, make_interactions
from sktwotower.history import PooledHistory
from sktwotower.metrics import make_ranking_scorer
from sktwotower.model_selection import LastInteractionsSplit
from sktwotower.preprocessing import FeatureEncoder
from tests.helpers import (
    NAMES,
    make_model,
    make_X,
    needs_sklearn_1_9,
    other_pairs,
    parity,
    same_embeddings,
)

N_ITEMS = 9
GLOBAL = check_random_state(None)  # the instance behind np.random.rand


X = make_X()
DISTINCT = X.drop_duplicates(["user", "item"], ignore_index=True)  # for folds
NEW = other_pairs(make_X(1), X)
USERS = pd.DataFrame({"user": range(14), "age": np.arange(14.0), "sex": list("mf") * 7})
ITEMS = pd.DataFrame(
    {
        "item": range(N_ITEMS + 2),  # two without interactions
        "genre": list("aabbccddaab"),
        "tags": ["x|y", "y", "", "z|x", "z", "x", "y|z", "x|y|z", "y", "x", "z"],
        "title": ["red sky", "blue sea", "old red"] * 3 + ["red sky", "blue sea"],
    }
)


def with_features(**parameters):
    return make_model(user_table=USERS, item_table=ITEMS, **parameters)


# --- scikit-learn's habits -----------------------------------------------------------


def test_clone_and_parameters():
    encoder = FeatureEncoder(min_frequency=3)
    table = EntityTable(ITEMS, "item")
    model = make_model(
        item_table=table,
        item_encoder=encoder,
        hidden_layer_sizes=(8,),
        popularity_prior=None,
    )
    assert model.get_params()["item_encoder__min_frequency"] == 3
    copied = clone(model)
    assert copied.item_encoder is not encoder
    assert copied.item_table is table
    assert copied.get_params()["item_encoder__min_frequency"] == 3
    copied.set_params(item_encoder__min_frequency=1, embedding_dim=2)
    assert encoder.min_frequency == 3
    assert copied.fit(X).item_embeddings_.shape == (N_ITEMS + 2, 2)
    assert same_embeddings(clone(model).fit(X), model.fit(X))
    with pytest.raises(ValueError, match="Invalid parameter 'embeding_dim'"):
        model.set_params(embeding_dim=3)
    with pytest.raises(TypeError):
        TwoTowerRecommender("user")  # keywords only


def test_fit_returns_self_and_leaves_parameters_alone():
    model = with_features(item_encoder=FeatureEncoder(), hidden_layer_sizes=[8])
    before = {name: value for name, value in model.get_params(deep=False).items()}
    assert model.fit(X) is model
    for name, value in model.get_params(deep=False).items():
        assert value is before[name], name
    assert not hasattr(model.item_encoder, "n_features_in_")
    assert model.item_encoder_.kinds_ == {
        "genre": "category",
        "tags": "multi_hot",
        "title": "category",
    }


def test_fitted_attributes():
    model = with_features(temperature=0.2).fit(X)
    assert model.user_ids_[:3].tolist() == X["user"].unique()[:3].tolist()
    assert set(model.user_ids_) == set(USERS["user"])  # the table's join in
    assert model.item_ids_[-2:].tolist() == [N_ITEMS, N_ITEMS + 1]
    assert model.user_embeddings_.shape == (14, 4 + 1)  # with the popularity prior
    assert model.item_embeddings_.shape == (N_ITEMS + 2, 4 + 1)
    assert model.n_iter_ == 2
    assert len(model.loss_curve_) == 2
    assert all(isinstance(loss, float) for loss in model.loss_curve_)
    assert model.validation_scores_ is None
    assert model.best_validation_score_ is None
    assert model.temperature_ == model.temperature == 0.2
    assert model.n_features_in_ == 3
    assert model.feature_names_in_.tolist() == ["user", "item", "time"]
    assert make_model().fit(X).item_encoder_ is None


@pytest.mark.parametrize(
    "roundtrip",
    [
        lambda model, path: pickle.loads(pickle.dumps(model)),
        lambda model, path: joblib.load(joblib.dump(model, path / "model.joblib")[0]),
        lambda model, path: copy.deepcopy(model),
    ],
    ids=["pickle", "joblib", "deepcopy"],
)
def test_round_trips(roundtrip, tmp_path):
    model = with_features(hidden_layer_sizes=(8,), batch_norm=True, dropout=0.1)
    model.fit(X)
    again = roundtrip(model, tmp_path)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    one, other = again.recommend([0, -1]), model.recommend([0, -1])
    assert one[0].tolist() == other[0].tolist()
    assert one[1].tolist() == other[1].tolist()
    assert again.score(X) == model.score(X)
    assert same_embeddings(again.fit(X), model)


def test_representations():
    for model in (make_model(), with_features(), with_features().fit(X)):
        assert repr(model).startswith("TwoTowerRecommender(")
        assert "TwoTowerRecommender" in model._repr_html_()
    assert len(repr(make_model(item_table=EntityTable(ITEMS, "item")))) < 400


def test_pipeline():
    pipeline = make_pipeline(
        FunctionTransformer(lambda frame: frame[["item", "user"]]),
        make_model(user_column="user", item_column="item"),
    ).fit(X)
    alone = make_model().fit(X[["user", "item"]])
    assert same_embeddings(pipeline[-1], alone)
    np.testing.assert_array_equal(pipeline.predict(X), alone.predict(X[["user", "item"]]))
    assert pipeline.score(X) == alone.score(X[["user", "item"]])


@pytest.mark.slow
def test_cross_validation():
    cv = KFold(3, shuffle=True, random_state=0)
    found = cross_validate(
        with_features(), DISTINCT, cv=cv, return_estimator=True, error_score="raise"
    )
    for (train, test), estimator, score in zip(
        cv.split(DISTINCT), found["estimator"], found["test_score"], strict=True
    ):
        by_hand = with_features().fit(DISTINCT.iloc[train])
        assert same_embeddings(estimator, by_hand)
        assert score == by_hand.score(DISTINCT.iloc[test])
    weighted = cross_validate(
        make_model(),
        DISTINCT,
        cv=cv,
        params={"sample_weight": np.arange(float(len(DISTINCT)))},
        error_score="raise",
    )
    assert np.isfinite(weighted["test_score"]).all()


def test_cross_validation_by_time():
    found = cross_validate(
        make_model(),
        DISTINCT,
        cv=LastInteractionsSplit(n_last=2, timestamp_column="time", user_column="user"),
        scoring=make_ranking_scorer(["ndcg@10", "recall@5"]),
        error_score="raise",
    )
    assert set(found) >= {"test_ndcg@10", "test_recall@5"}
    assert np.isfinite(found["test_ndcg@10"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("scoring", [None, make_ranking_scorer("recall@3")])
def test_grid_search(scoring):
    search = GridSearchCV(
        make_model(item_table=EntityTable(ITEMS, "item"), item_encoder=FeatureEncoder()),
        {"temperature": [0.1, 1.0], "item_encoder__min_frequency": [1, 3]},
        scoring=scoring,
        cv=KFold(2, shuffle=True, random_state=0),
        error_score="raise",
    ).fit(DISTINCT)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    assert search.best_estimator_.recommend([0])[0].shape == (1, 10)
    assert search.predict(DISTINCT).shape == (len(DISTINCT),)
    by_hand = clone(search.estimator).set_params(**search.best_params_).fit(DISTINCT)
    assert same_embeddings(search.best_estimator_, by_hand)


def test_grid_search_over_tables_and_losses_of_tables():
    table = EntityTable(ITEMS, "item")
    search = GridSearchCV(
        make_model(), {"item_table": [None, table], "hidden_layer_sizes": [(), (8,)]}, cv=2
    ).fit(DISTINCT)
    tables = [p["item_table"] for p in search.cv_results_["params"]]
    assert sum(found is table for found in tables) == 2


def test_configurations_of_scikit_learn():
    expected = with_features().fit(X)
    with config_context(transform_output="pandas"):
        assert same_embeddings(with_features().fit(X), expected)
    with config_context(enable_metadata_routing=True):
        found = cross_validate(make_model(), DISTINCT, cv=2, error_score="raise")
        assert np.isfinite(found["test_score"]).all()


@needs_sklearn_1_9
def test_sparse_arrays_of_scikit_learn():
    expected = with_features().fit(X)
    with config_context(sparse_interface="sparray"):
        assert same_embeddings(with_features().fit(X), expected)


# --- random states -------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hidden_layer_sizes": (8,), "dropout": 0.3, "batch_norm": True},
        {"early_stopping": True, "timestamp_column": "time"},
        {"early_stopping": True},
    ],
    ids=str,
)
def test_same_seed_same_bits(options):
    first = with_features(**options).fit(X)
    torch.manual_seed(77)
    GLOBAL.seed(77)
    assert same_embeddings(first, with_features(**options).fit(X))
    assert same_embeddings(first.fit(X), first)  # a refit starts afresh
    assert not same_embeddings(first, with_features(**options | {"random_state": 1}).fit(X))


@pytest.mark.parametrize("random_state", [0, None, np.random.RandomState(0)], ids=str)
@pytest.mark.parametrize("fails", [False, True])
def test_global_random_states_are_as_before(random_state, fails):
    torch.manual_seed(1)
    GLOBAL.seed(2)
    random.seed(3)
    before = torch.get_rng_state(), GLOBAL.get_state(), random.getstate()
    model = with_features(
        random_state=random_state, dropout=0.2, hidden_layer_sizes=(4,), early_stopping=True
    )
    if fails:
        model.set_params(
            learning_rate=1e30, weight_decay=0.0, normalize=False, early_stopping=False
        )
        with pytest.raises(ValueError, match="loss became"):
            model.set_params(max_iter=50).fit(X)
    else:
        model.fit(X)
        model.recommend([0])
        model.score(X)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(GLOBAL.get_state()[1], before[1][1])
    assert GLOBAL.get_state()[2:] == before[1][2:]
    assert random.getstate() == before[2]


def test_random_states_of_other_kinds():
    none = make_model(random_state=None)
    assert not same_embeddings(clone(none).fit(X), clone(none).fit(X))
    GLOBAL.seed(0)
    one = clone(none).fit(X)
    GLOBAL.seed(0)
    assert not same_embeddings(one, clone(none).fit(X))  # not the global generator's
    state = np.random.RandomState(0)
    model = make_model(random_state=state)
    first = copy.deepcopy(model.fit(X))
    assert not same_embeddings(first, model.fit(X))  # an instance goes on
    assert same_embeddings(first, make_model(random_state=np.random.RandomState(0)).fit(X))


def test_threads_and_dtypes_of_torch_are_left_alone():
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    grad = torch.is_grad_enabled()
    with_features().fit(X)
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == dtype
    assert torch.is_grad_enabled() == grad


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {
            "history": None,
            "negatives": "in_batch",
            "temperature": "learned",
            "batch_size": 7,
        },
        {"loss": "max_margin", "id_dropout": 0.3, "dropout": 0.2},
        {"ssl_pattern": "rfm", "dropout": 0.2, "batch_norm": True},
        {"history": PooledHistory(3), "hidden_layer_sizes": (8,)},
        {"history": PooledHistory(3, tied=True)},
    ],
    ids=str,
)
def test_two_threads_train_the_same_model_as_one(parameters):
    """The towers beside each other: the same model, and to the last bit each time."""
    alone = with_features(**parameters, random_state=0).fit(X)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model = with_features(**parameters, random_state=0).fit(X)
        again = with_features(**parameters, random_state=0).fit(X)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert same_embeddings(model, again)
    np.testing.assert_allclose(model.loss_curve_, alone.loss_curve_, rtol=1e-4)
    for name in ("user_embeddings_", "item_embeddings_"):
        np.testing.assert_allclose(
            getattr(model, name), getattr(alone, name), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_fit_under_the_callers_grad_mode(mode):
    expected = with_features().fit(X)
    with mode():  # a fit inside of an evaluation
        model = with_features().fit(X)
    assert same_embeddings(model, expected)


def test_fit_under_the_callers_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        model = with_features().fit(X)
    finally:
        torch.set_default_dtype(torch.float32)
    assert model.item_embeddings_.dtype == np.float32


@pytest.mark.slow
def test_fits_in_threads():
    """As joblib's threading backend, dask or a server would run them."""
    seeds = [0, 1, 0, 1]
    options = dict(hidden_layer_sizes=(8,), dropout=0.3, max_iter=6, batch_size=8)
    alone = {seed: make_model(random_state=seed, **options).fit(X) for seed in (0, 1)}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        models = list(
            pool.map(lambda seed: make_model(random_state=seed, **options).fit(X), seeds)
        )
    assert all(
        same_embeddings(m, alone[seed]) for m, seed in zip(models, seeds, strict=True)
    )
    assert torch.equal(torch.get_rng_state(), before)


# --- nothing is changed in place -----------------------------------------------------


def test_inputs_are_not_mutated():
    frame, y, weights = X.copy(), np.arange(90) % 4, np.linspace(0, 1, 90)
    users, items, X_val = USERS.copy(), ITEMS.copy(), NEW[:20].copy()
    model = make_model(
        user_table=users, item_table=items, hidden_layer_sizes=[4], early_stopping=True
    )
    model.fit(frame, y, sample_weight=weights, X_val=X_val, y_val=y[:20])
    model.recommend(frame)
    model.score(X_val, y[:20])
    pd.testing.assert_frame_equal(frame, X)
    pd.testing.assert_frame_equal(users, USERS)
    pd.testing.assert_frame_equal(items, ITEMS)
    pd.testing.assert_frame_equal(X_val, NEW[:20])
    assert (y == np.arange(90) % 4).all()
    assert (weights == np.linspace(0, 1, 90)).all()
    assert model.hidden_layer_sizes == [4]
    assert model.user_table is users


def test_read_only_input():
    array = X.to_numpy()
    array.flags.writeable = False
    weights = np.ones(90)
    weights.flags.writeable = False
    y = np.ones(90)
    y.flags.writeable = False
    model = make_model().fit(array, y, sample_weight=weights)
    assert np.isfinite(model.score(array)).all()


# --- ids of all kinds ----------------------------------------------------------------

IDS = {
    "ints": lambda codes: codes,
    "negative ints": lambda codes: -codes,
    "large ints": lambda codes: codes + 2**53,
    "unsigned": lambda codes: codes.astype(np.uint64),
    "strings": lambda codes: np.array([f"id {c}" for c in codes], dtype=object),
    "empty and odd strings": lambda codes: np.array(
        ["", "nan", "None", "é", "\U0001f600", "a b", "0", "null", "NA", "x", "y", "z"],
        dtype=object,
    )[codes],
    "numpy strings": lambda codes: np.array([f"{c}" for c in codes]),
    "bytes": lambda codes: np.array([b"%d" % c for c in codes], dtype=object),
    "mixed": lambda codes: np.array(
        [c if c % 2 else f"s{c}" for c in codes.tolist()], dtype=object
    ),
    "uuids": lambda codes: np.array([uuid.UUID(int=int(c)) for c in codes]),
    "floats": lambda codes: codes / 2,
    "booleans": lambda codes: codes % 2 == 0,
    "datetimes": lambda codes: np.datetime64("2020-01-01", "s") + codes,
    "dates": lambda codes: np.array(
        [(pd.Timestamp("2020") + pd.Timedelta(int(c), "D")).date() for c in codes]
    ),
    "categories": lambda codes: pd.Series([f"c{c}" for c in codes], dtype="category"),
    "integer categories": lambda codes: pd.Series(codes, dtype="category"),
    "nullable ints": lambda codes: pd.Series(codes, dtype="Int32"),
    "nullable strings": lambda codes: pd.Series(codes.astype(str), dtype="string"),
    "arrow ints": lambda codes: pd.Series(codes, dtype="int64[pyarrow]"),
    "arrow strings": lambda codes: pd.Series(codes.astype(str), dtype="string[pyarrow]"),
    "zoned datetimes": lambda codes: pd.Series(
        pd.to_datetime(codes, unit="D", utc=True).tz_convert("Asia/Tokyo")
    ),
}


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.slow
def test_ids_in_frames(kind):
    make = IDS[kind]
    frame = pd.DataFrame(
        {"user": make(X["user"].to_numpy()), "item": make(X["item"].to_numpy())}
    )
    table = pd.DataFrame({"item": frame["item"].unique()})
    table["feature"] = np.arange(len(table)) % 2
    model = make_model(item_table=table).fit(frame)
    assert len(model.item_ids_) == frame["item"].nunique()
    if kind != "booleans":
        assert same_embeddings(
            model,
            make_model(
                item_table=pd.DataFrame(
                    {"item": X["item"].unique(), "feature": table["feature"]}
                )
            ).fit(X),
        )
    # what goes out can come back in, in every form
    expected = model.recommend(frame, n_recommendations=2)
    again = model.recommend(frame["user"], n_recommendations=2)
    assert again[1].tolist() == expected[1].tolist()
    users = model.recommend(model.user_ids_, n_recommendations=2, exclude_seen=False)
    assert np.isfinite(users[1]).all()
    np.testing.assert_array_equal(
        model.item_tower_.transform(frame["item"]),
        model.item_tower_.transform(model.item_ids_)[pd.factorize(frame["item"])[0]],
    )
    items, scores = model.similar_items(model.item_ids_, n_recommendations=1)
    assert np.isfinite(scores).all()
    assert model.predict(frame).shape == (90,)
    assert 0 < model.score(frame) <= 1


@pytest.mark.parametrize("kind", ["ints", "strings", "mixed", "uuids", "numpy strings"])
def test_ids_in_arrays(kind):
    make = IDS[kind]
    columns = [make(X["user"].to_numpy()), make(X["item"].to_numpy())]
    array = np.column_stack([np.asarray(c, dtype=object) for c in columns])
    if kind in ("ints", "numpy strings"):
        array = np.column_stack(columns)
    expected = make_model().fit(X)
    for rows in (array, array.tolist()):
        model = make_model().fit(rows)
        assert same_embeddings(model, expected)
        assert 0 < model.score(rows) <= 1
        assert not hasattr(model, "feature_names_in_")
    assert model.recommend(model.user_ids_[:3])[1].shape == (3, 10)


def test_lists_of_mixed_rows_keep_the_types_of_ids():
    model = make_model().fit([["ann", 1], ["ann", 2], ["bob", 1]])
    assert model.item_ids_.tolist() == [1, 2]
    assert model.recommend(["bob"], candidates=[2], n_recommendations=1)[0].tolist() == [
        [2]
    ]


def test_polars_frames():
    polars = pytest.importorskip("polars")
    model = make_model(
        item_table=EntityTable(polars.from_pandas(ITEMS), "item"),
        timestamp_column="time",
        early_stopping=True,
    )
    found = model.fit(polars.from_pandas(X))
    other = make_model(
        item_table=EntityTable(ITEMS, "item"), timestamp_column="time", early_stopping=True
    ).fit(X)
    assert same_embeddings(found, other)
    assert found.score(polars.from_pandas(X)) == other.score(X)


def test_relabelling_ids_changes_nothing():
    names = pd.Series(np.random.RandomState(0).permutation(1000))
    renamed = X.assign(user=names[X["user"]].to_numpy(), item=names[X["item"]].to_numpy())
    assert same_embeddings(make_model().fit(X), make_model().fit(renamed))


def test_the_index_of_a_frame_does_not_matter():
    shifted = X.set_index(pd.Index(np.zeros(90)))
    weights = pd.Series(np.arange(90.0), index=range(90, 0, -1))
    y = pd.Series(np.arange(90) % 2, index=range(90, 0, -1))
    one = make_model().fit(X, y.to_numpy(), sample_weight=weights.to_numpy())
    assert same_embeddings(one, make_model().fit(shifted, y, sample_weight=weights))
    assert one.score(X, y.to_numpy()) == one.score(shifted, y)


# --- columns -------------------------------------------------------------------------


def test_unused_columns_do_not_matter():
    junk = X.assign(
        nothing=np.nan,
        infinite=np.inf,
        never=pd.NaT,
        words=[["a"], {}, None] * 30,
        time=np.nan,
    )
    model = make_model().fit(junk)
    assert same_embeddings(model, make_model().fit(X))
    np.testing.assert_array_equal(model.predict(junk), model.predict(X))
    assert model.score(junk) == model.score(X)
    assert model.recommend(junk[:3])[0].tolist() == model.recommend(X[:3])[0].tolist()
    # and later they need not be there
    np.testing.assert_array_equal(
        model.predict(junk[["item", "user"]]), model.predict(junk)
    )


def test_names_and_positions():
    expected = make_model().fit(X)
    turned = X[["time", "item", "user"]]
    assert same_embeddings(
        make_model(user_column="user", item_column="item").fit(turned), expected
    )
    assert same_embeddings(make_model(user_column=2, item_column=1).fit(turned), expected)
    assert same_embeddings(make_model(user_column=-1, item_column=-2).fit(turned), expected)
    array = make_model(user_column=2).fit(turned.to_numpy())
    assert same_embeddings(array, expected)


def test_the_timestamp_is_for_fit_only():
    model = make_model(timestamp_column="time", early_stopping=True).fit(X)
    pairs = X[["user", "item"]]
    np.testing.assert_array_equal(model.predict(pairs), model.predict(X))
    assert model.score(pairs) == model.score(X)
    undated = X.assign(time=np.nan)
    np.testing.assert_array_equal(model.predict(undated), model.predict(X))
    assert model.recommend(pairs[:2])[0].tolist() == model.recommend(X[:2])[0].tolist()
    make_model(timestamp_column="time").fit(X, X_val=pairs)


# --- labels and weights --------------------------------------------------------------


def test_rows_with_y_0_train_and_are_seen():
    y = np.ones(90)
    y[-10:] = [0, -1] * 5
    model = make_model(history=None).fit(X, y)
    trained = make_model(history=None).fit(X[:80])
    assert model.item_ids_.tolist() == trained.item_ids_.tolist()
    assert not np.allclose(model.item_embeddings_, trained.item_embeddings_, atol=1e-4)
    for user, item in X[["user", "item"]][-10:].itertuples(index=False):
        assert item not in model.recommend([user])[0]


def test_users_with_only_rows_with_y_0_stay_unknown():
    extra = pd.DataFrame({"user": ["hates", 0], "item": [0, "hated"], "time": [0, 0]})
    data = pd.concat([X, extra], ignore_index=True)
    model = make_model(history=None).fit(data, np.r_[np.ones(90), 0, -1])
    # these rows train nothing: the embeddings are as without them
    trained = make_model(history=None).fit(X)
    known_users, known_items = model.user_ids_ != "hates", model.item_ids_ != "hated"
    np.testing.assert_array_equal(
        model.user_embeddings_[known_users], trained.user_embeddings_
    )
    np.testing.assert_array_equal(
        model.item_embeddings_[known_items], trained.item_embeddings_
    )
    for tower, name in ((model.user_tower_, "hates"), (model.item_tower_, "hated")):
        vector, unknown = tower.transform([name, -2])
        np.testing.assert_array_equal(vector, unknown)
    found, _ = model.recommend([-1, 0], n_recommendations=99)
    assert "hated" not in found
    found, _ = model.recommend(["hates"], n_recommendations=99)
    assert set(found[0]) - {None} == set(range(1, N_ITEMS))  # all but the seen one


def test_rows_of_weight_0_are_as_if_they_were_not_there():
    weights = np.random.RandomState(0).choice([0.0, 1.0], 90)
    few = make_model().fit(X[weights > 0])
    model = make_model().fit(X, sample_weight=weights)
    assert same_embeddings(
        model, make_model().fit(X[weights > 0], sample_weight=weights[weights > 0])
    )
    assert model.item_ids_.tolist() == few.item_ids_.tolist()
    np.testing.assert_allclose(model.item_embeddings_, few.item_embeddings_, atol=1e-3)


@pytest.mark.slow
def test_weights_count():
    """Half of the rows pull users to even items; weights decide which half counts."""
    rng = np.random.RandomState(0)
    users = np.repeat(np.arange(20), 10)
    even, odd = rng.randint(0, 5, 200) * 2, rng.randint(0, 5, 200) * 2 + 1
    rows = pd.DataFrame(
        {
            "user": np.r_[users, users + 20, users, users + 20],
            "item": np.r_[even, odd, odd, even],
        }
    )
    weights = np.r_[np.full(400, 1.0), np.full(400, 0.01)]
    for sign, w in ((1, weights), (-1, weights[::-1].copy())):
        # Masking would remove negatives of heavy rows that are positives of light ones.
        # A history counts all rows of a user alike, whatever their weights.
        model = make_model(history=None, max_iter=15, mask_known_positives=False)
        model.fit(rows, sample_weight=w)
        scores = model.predict(rows)
        assert sign * (scores[:400].mean() - scores[400:].mean()) > 0.3


@pytest.mark.parametrize("scale", [2.0, 0.125, 2.0**-160, 2.0**160])
def test_the_scale_of_weights_does_not_matter(scale):
    weights = np.random.RandomState(0).uniform(0.5, 2, 90)
    one = make_model().fit(X, sample_weight=weights)
    other = make_model().fit(X, sample_weight=weights * scale)
    np.testing.assert_allclose(one.item_embeddings_, other.item_embeddings_, atol=1e-5)


# --- what it learns ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "options"),
    list(
        enumerate(
            [
                {},
                {"hidden_layer_sizes": (16,)},
                {"hidden_layer_sizes": (16,), "batch_norm": True, "dropout": 0.1},
                {"normalize": False, "temperature": 1.0, "weight_decay": 0.0},
                {"sampling_correction": None},
                {"lr_schedule": "constant"},
                {"lr_schedule": "cosine", "activation": "gelu"},
            ]
        )
    ),
    ids=str,
)
def test_parity_is_found(seed, options):
    data = parity(seed)
    model = TwoTowerRecommender(
        **{"embedding_dim": 16, "batch_size": 64, "max_iter": 15, "random_state": seed}
        | options
    ).fit(data)
    # five unseen items of the user's parity are left
    found = model.recommend(range(40), n_recommendations=5, as_frame=True)
    assert len(found) == 200
    assert (found["user"] % 2 == found["item"] % 2).mean() > 0.95
    pairs = data.merge(found, on=["user", "item"])
    assert len(pairs) == 0
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    similar = model.similar_items(range(30), n_recommendations=5, as_frame=True)
    assert (similar["query"] % 2 == similar["item"] % 2).mean() > 0.95


@pytest.mark.slow
def test_parity_is_found_with_the_defaults():
    data = parity(0, n_users=200, n_items=60, n_each=20)
    model = TwoTowerRecommender(random_state=0).fit(data)
    found = model.recommend(range(200), n_recommendations=10, as_frame=True)
    assert (found["user"] % 2 == found["item"] % 2).mean() > 0.95


def test_without_the_correction_popular_items_are_recommended_less():
    rng = np.random.RandomState(0)
    items = np.minimum(rng.zipf(1.3, 3000), 100)
    data = pd.DataFrame({"user": rng.randint(0, 60, 3000), "item": items})
    shares = []
    for correction in ("logq", None):
        model = make_model(
            history=None,
            negatives="in_batch",
            sampling_correction=correction,
            batch_size=256,
            max_iter=5,
            weight_decay=1.0,
        ).fit(data)
        found, _ = model.recommend(range(60), n_recommendations=5, exclude_seen=False)
        popular = set(data["item"].value_counts().index[:10])
        shares.append(np.isin(found, list(popular)).mean())
    assert shares[0] > shares[1] + 0.05  # None punishes what is sampled often


def cold_data(seed=0):
    """Users like one genre. Items 24.. are only in the table."""
    rng = np.random.RandomState(seed)
    genres = np.arange(30) % 3
    users = np.repeat(np.arange(30), 6)
    items = np.concatenate(
        [
            rng.choice(np.flatnonzero(genres[:24] == user % 3), 6, replace=False)
            for user in range(30)
        ]
    )
    table = pd.DataFrame({"item": range(30), "genre": [f"g{g}" for g in genres]})
    return pd.DataFrame({"user": users, "item": items}), table


def test_a_planted_feature_is_found_and_cold_items_are_recommended():
    data, table = cold_data()
    model = make_model(
        item_table=table, item_id_embedding=False, embedding_dim=8, max_iter=15
    ).fit(data)
    found = model.recommend(range(30), n_recommendations=10, as_frame=True)
    own_genre = found["user"] % 3 == found["item"] % 3
    # 8 trained items of the genre, 6 of them seen, and 2 cold ones are left
    assert own_genre[found["rank"] <= 4].mean() > 0.95
    cold = found[found["item"] >= 24]
    assert set(cold["item"]) >= set(range(24, 30))
    top = found[found["rank"] <= 4]
    assert (top["item"] >= 24).groupby(top["user"]).sum().mean() > 1.9


def test_cold_items_with_an_id_are_scored_when_named():
    data, table = cold_data()
    model = make_model(item_table=table, embedding_dim=8, max_iter=15).fit(data)
    found, _ = model.recommend(range(30), n_recommendations=99)
    assert not np.isin(found[found != None].astype(int), range(24, 30)).any()  # noqa: E711
    found, scores = model.recommend(
        range(30), candidates=range(24, 30), n_recommendations=6
    )
    assert np.isfinite(scores).all()
    assert (found[:, :2] % 3 == np.arange(30)[:, None] % 3).mean() > 0.8


def test_fit_says_that_cold_items_are_outside():
    data, table = cold_data()
    out = io.StringIO()
    with redirect_stdout(out):
        make_model(item_table=table, verbose=1).fit(data)
    assert "6 items" in out.getvalue()
    assert "candidates" in out.getvalue()


@pytest.mark.slow
def test_new_users_are_placed_by_their_feature():
    rng = np.random.RandomState(0)
    data = parity(0)
    users = pd.DataFrame({"user": range(60), "odd": [f"p{u % 2}" for u in range(60)]})
    model = make_model(
        user_table=users, user_id_embedding=False, embedding_dim=8, max_iter=15
    ).fit(data)
    new = rng.permutation(np.arange(40, 60))
    found = model.recommend(new, n_recommendations=10, as_frame=True)
    assert (found["user"] % 2 == found["item"] % 2).mean() > 0.95


# --- encoders ------------------------------------------------------------------------


def test_encoders_of_all_kinds():
    combined = ColumnTransformer(
        [
            ("genre", OneHotEncoder(handle_unknown="ignore"), ["genre"]),
            ("words", TfidfVectorizer(), "title"),
        ]
    )
    encoders = {
        "column transformer": combined,
        "pipeline": make_pipeline(combined, StandardScaler(with_mean=False)),
        "pipeline before": Pipeline(
            [
                ("pick", FunctionTransformer(lambda frame: frame[["genre"]])),
                ("encode", FeatureEncoder(min_frequency=1)),
            ]
        ),
        "one hot": OneHotEncoder(),
        "frame": OneHotEncoder(sparse_output=False).set_output(transform="pandas"),
    }
    for name, encoder in encoders.items():
        model = make_model(item_table=ITEMS, item_encoder=encoder).fit(X)
        assert model.item_encoder_ is not encoder, name
        assert np.isfinite(model.item_embeddings_).all(), name
        pickle.loads(pickle.dumps(model.item_encoder_)) if "before" not in name else None
        alone = make_model().fit(X)
        assert not np.allclose(model.item_embeddings_[:9], alone.item_embeddings_)


def test_text_of_one_column():
    model = make_model(
        item_table=EntityTable(ITEMS, "item", features="title"),
        item_encoder=TfidfVectorizer(),
        item_id_embedding=False,
    ).fit(X)
    assert model.item_encoder_.get_feature_names_out().tolist() == [
        "blue",
        "old",
        "red",
        "sea",
        "sky",
    ]
    with pytest.raises(ValueError, match="TfidfVectorizer encodes a single column"):
        make_model(item_table=ITEMS, item_encoder=TfidfVectorizer()).fit(X)


def test_equal_features_are_equal_items_without_ids():
    table = pd.DataFrame({"item": range(9), "genre": list("aabbccaab")})
    model = make_model(item_table=table, item_id_embedding=False).fit(X)
    vectors = dict(zip(model.item_ids_.tolist(), model.item_embeddings_, strict=True))
    for i in range(9):
        for j in range(9):
            equal = table["genre"][i] == table["genre"][j]
            assert np.array_equal(vectors[i], vectors[j]) == equal


def test_permuted_tables_give_the_same_answers():
    one = with_features().fit(X)
    shuffled = ITEMS.sample(frac=1, random_state=0)
    other = make_model(user_table=USERS[::-1], item_table=shuffled).fit(X)
    np.testing.assert_allclose(one.predict(X), other.predict(X), atol=1e-4)


# --- early stopping and validation ---------------------------------------------------


def planted():
    return make_interactions(60, 40, 1500, random_state=0).interactions


def test_early_stopping_restores_the_best_epoch():
    data = planted()
    train, valid = data[:1200], data[1200:]
    options = dict(
        embedding_dim=8,
        batch_size=64,
        lr_schedule="constant",
        learning_rate=0.02,
        weight_decay=0.0,
        random_state=0,
    )
    model = TwoTowerRecommender(
        **options, max_iter=40, early_stopping=True, n_iter_no_change=2
    ).fit(train, X_val=valid)
    scores = model.validation_scores_
    assert len(scores) == model.n_iter_ == len(model.loss_curve_) < 40
    best = int(np.argmax(scores))
    assert model.best_validation_score_ == max(scores)
    assert best == model.n_iter_ - 3 or best < model.n_iter_ - 1
    # exactly the model that had been fitted for so many epochs, and no look has cost it
    by_hand = TwoTowerRecommender(**options, max_iter=best + 1).fit(train)
    assert same_embeddings(model, by_hand)
    assert by_hand.score(valid) == model.best_validation_score_ == model.score(valid)


def test_a_refit_does_not_take_a_single_score_at_its_word():
    rule = SimpleNamespace(metrics=("mrr", "auc"))
    validation = Validation(None, None, rule, held_out=True)
    validation.scores = {"mrr": [0.1, 0.31, 0.1, 0.28, 0.3, 0.29], "auc": [1.0] + [0.0] * 5}
    assert validation.n_refit_epochs == 6  # of the mean of two
    validation.scores["mrr"].append(0.2)
    assert validation.n_refit_epochs == 5
    validation.scores["mrr"] = [0.1, float("nan")]
    assert validation.n_refit_epochs == 1


@pytest.mark.slow
def test_refit_is_a_fit_of_all_rows_for_the_best_number_of_epochs():
    data = planted()
    options = dict(
        **NAMES,
        timestamp_column="timestamp",
        embedding_dim=8,
        batch_size=64,
        lr_schedule="constant",
        learning_rate=0.02,
        weight_decay=0.0,
    )
    early = dict(max_iter=40, early_stopping=True, n_iter_no_change=2, random_state=3)
    stopped = TwoTowerRecommender(**options, **early, refit=False).fit(data)
    again = TwoTowerRecommender(**options, **early).fit(data)
    assert again.validation_scores_ == stopped.validation_scores_
    assert not same_embeddings(again, stopped)

    # by hand: the epoch of which the mean with its neighbours is highest, and all rows
    scores = stopped.validation_scores_
    means = [np.mean(scores[max(0, n - 1) : n + 2]) for n in range(len(scores))]
    best = int(np.argmax(means)) + 1
    by_hand = TwoTowerRecommender(**options, max_iter=best, random_state=3)
    assert same_embeddings(by_hand.fit(data), again)
    # nothing was held out: nothing to train on again
    given = make_model(early_stopping=True, refit=False, max_iter=3).fit(X, X_val=X)
    assert same_embeddings(
        given, make_model(early_stopping=True, max_iter=3).fit(X, X_val=X)
    )


def test_patience():
    model = make_model(max_iter=30, early_stopping=True, n_iter_no_change=2, tol=1.0).fit(
        X, X_val=NEW
    )
    assert model.n_iter_ == 3  # one epoch of progress, two without
    model.set_params(n_iter_no_change=50).fit(X, X_val=NEW)
    assert model.n_iter_ == 30
    assert model.score(NEW) == max(model.validation_scores_)


def test_validation_without_early_stopping_only_looks():
    plain = make_model(max_iter=5, dropout=0.2).fit(X)
    looked = make_model(max_iter=5, dropout=0.2).fit(X, X_val=NEW)
    assert same_embeddings(plain, looked)
    assert len(looked.validation_scores_) == 5
    assert looked.validation_scores_[-1] == looked.score(NEW)


def test_validation_metric_and_labels():
    data = NEW
    y_val = np.arange(len(data)) % 3
    model = make_model(validation_metric="recall@2").fit(X, X_val=data, y_val=y_val)
    scorer = make_ranking_scorer("recall@2")
    assert model.validation_scores_[-1] == scorer(model, data, y_val)


@pytest.mark.parametrize("time", [None, "time"])
def test_early_stopping_never_loses_an_id(time):
    rare = pd.DataFrame({"user": ["once"], "item": ["rare"], "time": [10**6]})
    data = pd.concat([X, rare], ignore_index=True)
    for seed in range(3):
        model = make_model(
            early_stopping=True,
            validation_fraction=0.9,
            timestamp_column=time,
            random_state=seed,
        ).fit(data)
        assert set(model.user_ids_) == set(data["user"])
        found, _ = model.recommend([-1], n_recommendations=99, exclude_seen=False)
        assert set(found[0]) - {None} == set(data["item"])
        # none of them is just the unknown id
        unknown = model.item_tower_.transform([-2])[0]
        assert not (model.item_embeddings_ == unknown).all(axis=1).any()


def test_held_out_rows_stay_seen():
    model = make_model(
        early_stopping=True, validation_fraction=0.5, timestamp_column="time"
    ).fit(X)
    found = model.recommend(X["user"].unique(), n_recommendations=9, as_frame=True)
    assert len(found.merge(X, on=["user", "item"])) == 0


@pytest.mark.slow
def test_held_out_rows_do_not_train():
    """Each user's last row says the contrary of what the others have said before."""
    users = np.arange(40)
    last = pd.DataFrame({"user": users, "item": 100 + users % 2})
    contrary = pd.DataFrame({"user": users[:10], "item": 101 - users[:10] % 2})
    data = pd.concat([contrary, *[parity(0)] * 4, last], ignore_index=True)
    data["time"] = np.arange(len(data))
    differences = []
    for early_stopping in (True, False):
        model = make_model(
            history=None,
            early_stopping=early_stopping,
            refit=False,
            validation_fraction=0.025,
            max_iter=1,
            timestamp_column="time",
            batch_size=16,
            learning_rate=0.02,
            weight_decay=0.0,
        ).fit(data)
        # a model of the past alone scores the last rows low
        scores = model.predict(last) - model.predict(last.assign(item=201 - last["item"]))
        differences.append(scores.mean())
    assert differences[0] < -0.3
    assert differences[1] > 0


def test_nothing_to_hold_out():
    few = pd.DataFrame({"user": [1, 2], "item": [3, 4]})
    with pytest.raises(ValueError, match="validation_fraction=0.1 of 2 rows leaves none"):
        make_model(early_stopping=True).fit(few)


def test_validation_rows_that_cannot_be_validated_on():
    unheard = X.assign(item=-1)
    with pytest.raises(ValueError, match="none of the items of X_val is in the catalogue"):
        make_model(early_stopping=True).fit(X, X_val=unheard)
    with pytest.raises(ValueError, match="relevant|positive"):
        make_model(early_stopping=True).fit(X, X_val=X, y_val=np.zeros(90))


# --- callbacks and verbose -----------------------------------------------------------


@pytest.mark.slow
@needs_sklearn_1_9
def test_scoring_monitor_scores_each_epoch():
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring=make_ranking_scorer(["ndcg@5", "recall@3"]))
    model = make_model(max_iter=4).set_callbacks(monitor).fit(X)
    logs = monitor.get_logs().data
    epochs = [log for log in logs if log["task_name"] == "epoch"]
    assert len(epochs) == 4
    # what is monitored after an epoch is the model as it is then
    other = ScoringMonitor(scoring=make_ranking_scorer(["ndcg@5"]))
    make_model(max_iter=4, lr_schedule="constant").set_callbacks(other).fit(X)
    found = [x for x in other.get_logs().data if x["task_name"] == "epoch"]
    scorer = make_ranking_scorer("ndcg@5")
    for n, log in enumerate(epochs, start=1):
        by_hand = make_model(max_iter=n, lr_schedule="constant").fit(X)
        assert found[n - 1]["ndcg@5"] == scorer(by_hand, X)
        assert 0 <= log["ndcg@5"] <= 1 and 0 <= log["recall@3"] <= 1
    (whole,) = [log for log in logs if log["task_name"] == "fit"]
    assert whole["ndcg@5"] == make_ranking_scorer("ndcg@5")(model, X)
    assert same_embeddings(
        model, make_model(max_iter=4).fit(X)
    )  # nor has it changed the fit


@needs_sklearn_1_9
def test_scoring_monitor_with_labels_and_weights():
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring=make_ranking_scorer(["ndcg@5"]))
    y, weights = np.arange(90) % 3, np.linspace(0, 1, 90)
    model = make_model().set_callbacks(monitor).fit(X, y, sample_weight=weights)
    (whole,) = [x for x in monitor.get_logs().data if x["task_name"] == "fit"]
    expected = make_ranking_scorer("ndcg@5")(model, X, y, sample_weight=weights)
    assert whole["ndcg@5"] == expected


@needs_sklearn_1_9
def test_progress_bar():
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    model = make_model(max_iter=3).set_callbacks(ProgressBar()).fit(X)
    assert same_embeddings(model, make_model(max_iter=3).fit(X))


class Recorder:
    """A callback that notes, draws random numbers, and stops."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.events = []
        self.answers = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, **kwargs):
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, **kwargs):
        self.events.append(f"end {context.task_name}")
        torch.rand(3)
        GLOBAL.rand()
        if fitted_estimator is not None:
            self.answers.append(fitted_estimator.recommend([0, -1])[1].tolist())
        if context.task_name == "epoch" and self.stop_after is not None:
            return context.task_id + 1 >= self.stop_after
        return False


def test_a_callback_sees_a_usable_estimator_and_may_stop():
    callback = Recorder(stop_after=2)
    model = make_model(max_iter=5, dropout=0.2).set_callbacks(callback).fit(X)
    epoch = ["begin epoch", "end epoch"]
    assert callback.events == ["setup", "begin fit", *epoch, *epoch, "end fit", "teardown"]
    assert model.n_iter_ == 2
    assert len(model.loss_curve_) == 2
    assert callback.answers[-1] == model.recommend([0, -1])[1].tolist()
    assert np.isfinite(model.score(X))


def test_a_callback_that_draws_random_numbers_changes_nothing():
    callback = Recorder()
    model = make_model(max_iter=4, dropout=0.3).set_callbacks(callback).fit(X)
    assert same_embeddings(model, make_model(max_iter=4, dropout=0.3).fit(X))


def test_a_callback_is_torn_down_when_the_fit_fails():
    callback = Recorder()
    model = make_model(learning_rate=1e30, weight_decay=0.0, normalize=False, max_iter=50)
    with pytest.raises(ValueError, match="loss became"):
        model.set_callbacks(callback).fit(X)
    assert callback.events[-1] == "teardown"


def test_verbose(capsys):
    make_model(max_iter=3).fit(X)
    assert capsys.readouterr().out == ""
    make_model(max_iter=3, verbose=1).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "positives: 90, users: 12, items: 9"
    assert all(line.startswith("  ") for line in lines[1:-3])
    for n, line in enumerate(lines[-3:], start=1):
        left = r", \d+\.\d s left" if n < 3 else ""
        assert re.match(rf"epoch {n}/3 +loss \d\.\d{{4}} +\d+\.\d s{left}$", line), line
    make_model(max_iter=3, verbose=True, validation_metric="recall@2").fit(X, X_val=X)
    for line in capsys.readouterr().out.splitlines()[-3:]:
        assert re.search(r"recall@2 0\.\d{4}", line), line


# --- bad input -----------------------------------------------------------------------


def bad_item(value, *rows):
    frame = X.astype({"item": object})
    frame.iloc[list(rows), 1] = value
    return frame


BAD = {
    "missing user": (
        lambda: make_model().fit(X.assign(user=[None, np.nan] + list(X["user"][2:]))),
        r"Column .user. of X has 2 rows with a missing user id \(NaN.*first at row 0\)",
    ),
    "missing item": (
        lambda: make_model().fit(bad_item(None, 17, 30)),
        r"Column .item. of X has 2 rows with a missing item id \(NaN.*first at row 17\)",
    ),
    "missing item in an array": (
        lambda: make_model().fit(np.array([["a", 1], ["b", None]], dtype=object)),
        r"X has 1 row with a missing item id \(NaN.*first at row 1\)",
    ),
    "missing time": (
        lambda: make_model(timestamp_column="time").fit(
            X.assign(time=[np.nan] * 2 + [1] * 88)
        ),
        r"2 rows with a missing timestamp in column .time. \(NaN.*first at row 0\)",
    ),
    "no such column": (
        lambda: make_model(user_column="uid").fit(X),
        r"user_column='uid' is not a column of X; the columns are "
        r"\['user', 'item', 'time'\]",
    ),
    "one column": (lambda: make_model().fit(X[["user"]]), "1 feature.*at least two"),
    "empty frame": (lambda: make_model().fit(X[:0]), r"0 sample\(s\)"),
    "empty array": (lambda: make_model().fit(np.empty((0, 2))), r"0 sample\(s\)"),
    "y of another length": (
        lambda: make_model().fit(X, np.ones(3)),
        "inconsistent numbers of samples: X has 90 rows, y has 3",
    ),
    "NaN in y": (
        lambda: make_model().fit(X, [1, np.nan] * 45),
        r"y contains NaN: 45 rows \(first at row 1\)",
    ),
    "no positive": (
        lambda: make_model().fit(X, np.zeros(90)),
        r"no row of X is a positive \(y > 0\)",
    ),
    "infinite feature": (
        lambda: make_model(user_table=USERS.assign(age=[np.inf, -np.inf] + [1.0] * 12)).fit(
            X
        ),
        r"'age' has 2 infinite values \(first at row 0\)",
    ),
    "infinite after the encoder": (
        lambda: make_model(
            user_table=USERS[["user", "age"]].assign(age=[1.0, np.nan] + [1.0] * 12),
            user_encoder=FunctionTransformer(),
        ).fit(X),
        r"encoder of user_table returned 1 value.*NaN.*row 1\)",
    ),
    "duplicate ids in a table": (
        lambda: make_model(item_table=pd.concat([ITEMS, ITEMS[:2]])).fit(X),
        r"item_table.*2 rows with a duplicate id in column 'item' \(first at row 11\)",
    ),
    "missing ids in a table": (
        lambda: make_model(item_table=ITEMS.assign(item=[None] + [*range(10)])).fit(X),
        r"item_table.*1 row with a missing id .*row 0",
    ),
    "table without the id column": (
        lambda: make_model(item_table=EntityTable(ITEMS.drop(columns="item"), "item")),
        r"no column 'item'; its columns are \['genre', 'tags', 'title'\]",
    ),
    "frame without the id column": (
        lambda: make_model(item_table=ITEMS.drop(columns="item")).fit(X),
        r"item_table.*duplicate id in column 'genre'",
    ),
    "no field": (
        lambda: make_model(item_id_embedding=False).fit(X),
        "item tower has no field",
    ),
    "no field but an empty table": (
        lambda: make_model(
            user_id_embedding=False, history=None, user_table=USERS[["user"]]
        ).fit(X),
        "user tower has no field",
    ),
    "diverged": (
        lambda: make_model(
            learning_rate=1e30, weight_decay=0.0, normalize=False, max_iter=50
        ).fit(X),
        r"loss became (nan|inf) in epoch \d+.*learning_rate",
    ),
    "decay that diverges": (
        lambda: make_model(learning_rate=0.9, weight_decay=1e6, max_iter=50).fit(X),
        "weight_decay",
    ),
    "metric": (lambda: make_model(validation_metric="ndgc@10").fit(X), "(?i)ndcg"),
    "infinite time": (
        lambda: make_model(user_column=5).fit(X),
        r"user_column=5 is not a column of X; it has 3 feature",
    ),
    "one column for both": (
        lambda: make_model(user_column="item").fit(X),
        "item_column",
    ),
    "hidden layer of no unit": (
        lambda: make_model(hidden_layer_sizes=(8, 0)).fit(X),
        "hidden_layer_sizes",
    ),
    "hidden layer of a negative number of units": (
        lambda: make_model(hidden_layer_sizes=(-1,)).fit(X),
        "hidden_layer_sizes",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("embedding_dim", 0),
        ("embedding_dim", 2.5),
        ("hidden_layer_sizes", "8"),
        ("activation", "sigmoid"),
        ("dropout", 1.0),
        ("temperature", 0),
        ("temperature", -1.0),
        ("sampling_correction", "log"),
        ("learning_rate", 0.0),
        ("lr_schedule", "step"),
        ("weight_decay", -1e-9),
        ("batch_size", 0),
        ("max_iter", 0),
        ("validation_fraction", 0.0),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("user_column", None),
        ("item_column", 1.5),
        ("item_encoder", "onehot"),
        ("early_stopping", "yes"),
        ("random_state", "x"),
    ],
)
def test_bad_parameters(name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        make_model(**{name: value}).fit(X)


@pytest.mark.parametrize("table", ["films.csv", {"item": [1]}, 5, np.eye(2)])
def test_tables_of_another_kind(table):
    with pytest.raises(TypeError, match="item_table must be a DataFrame"):
        make_model(item_table=table).fit(X)


def test_a_table_that_lacks_ids_warns_and_works():
    with pytest.warns(UserWarning, match="item_table lacks 4 of the 9 ids"):
        model = make_model(item_table=ITEMS[:5]).fit(X)
    assert np.isfinite(model.item_embeddings_).all()


def test_unknown_ids_have_answers():
    model = with_features().fit(X)
    strange = pd.DataFrame({"user": ["x", 0, 1e9], "item": [0, "y", None or "z"]})
    assert np.isfinite(model.predict(strange)).all()
    ids, scores = model.recommend(["x", 1e9, ("a",)][:2])
    assert np.isfinite(scores[:, :3]).all()
    assert ids[0].tolist() == ids[1].tolist()


def test_unknown_ids_are_the_mean_of_the_known():
    """Through a linear tower that is the mean of the embeddings."""
    model = make_model(history=None, normalize=False, temperature=1.0).fit(X)
    for tower, vectors in (
        (model.user_tower_, model.user_embeddings_),
        (model.item_tower_, model.item_embeddings_),
    ):
        unknown = tower.transform([-2])[0]
        np.testing.assert_allclose(unknown, vectors.mean(axis=0), atol=1e-6)
    # as is an id whose rows train nothing
    y = (X["user"] != 0).astype(int)
    model = make_model(history=None, normalize=False, temperature=1.0).fit(X, y)
    of_zero, unknown = model.user_tower_.transform([0, -2])
    np.testing.assert_array_equal(of_zero, unknown)


def test_the_smallest_fit():
    two_rows = ([[1, 2], [1, 3]], [["a", "b"], ["a", "c"]])
    for rows in (*two_rows, pd.DataFrame({"u": [1, 1], "i": [2, 3]})):
        model = make_model(hidden_layer_sizes=(3,), batch_norm=True)
        with pytest.warns(UserWarning, match="each item has one row"):
            model.fit(rows)
        assert np.isfinite(model.user_embeddings_).all()
        assert model.recommend(model.user_ids_, n_recommendations=1)[0].tolist() == [[None]]
        with pytest.warns(UserWarning, match="only 1 item of X has a positive row"):
            model.fit(rows[:1])
        assert np.isfinite(model.user_embeddings_).all()
    many = make_model(batch_size=10**6, max_iter=1).fit(X)
    assert np.isfinite(many.loss_curve_).all()
    # batches of two rows and, one of them, of a single row
    pairs = make_model(batch_size=2, hidden_layer_sizes=(3,), batch_norm=True, max_iter=1)
    assert np.isfinite(pairs.fit(X[:-1]).user_embeddings_).all()


def test_a_refit_forgets():
    model = with_features(early_stopping=True).fit(X)
    model.set_params(user_table=None, item_table=None, early_stopping=False)
    model.fit(np.array([["a", "b", 1], ["a", "c", 2], ["d", "b", 3]], dtype=object))
    assert model.item_ids_.tolist() == ["b", "c"]
    assert model.item_encoder_ is None
    assert model.validation_scores_ is None
    assert model.best_validation_score_ is None
    assert not hasattr(model, "feature_names_in_")
    assert model.recommend([0, "a"], n_recommendations=1)[0].tolist()[1] == [None]


def test_a_refit_that_fails_leaves_the_model_as_it_was():
    model = make_model().fit(X)
    expected = model.predict(X)
    model.set_params(learning_rate=1e30, weight_decay=0.0, normalize=False, max_iter=50)
    with pytest.raises(ValueError, match="loss became"):
        model.fit(X[::-1])
    np.testing.assert_array_equal(model.predict(X), expected)
    model.set_params(**make_model().get_params()).fit(X)
    assert same_embeddings(model, make_model().fit(X))


class Interrupts(Recorder):
    """Raises what Ctrl-C does, after the first epoch."""

    def on_fit_task_end(self, estimator, context, **kwargs):
        if context.task_name == "epoch":
            raise KeyboardInterrupt


def test_an_interrupted_refit_leaves_the_model_as_it_was():
    before = torch.get_rng_state()
    model = make_model().fit(X)
    expected = model.predict(X)
    with pytest.raises(KeyboardInterrupt):
        model.set_callbacks(Interrupts()).fit(X[::-1])
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(model.predict(X), expected)


# --- real data -----------------------------------------------------------------------


@pytest.mark.slow
def test_real_ratings():
    data = load_movielens_small()
    X_all = data.interactions
    split = LastInteractionsSplit(
        fraction=0.1, timestamp_column="timestamp", user_column="user_id"
    )
    ((train, test),) = split.split(X_all)
    train, test = X_all.iloc[train], X_all.iloc[test]
    model = TwoTowerRecommender(
        **NAMES,
        item_table=EntityTable(data.item_table, "item_id", features=["genres"]),
        embedding_dim=32,
        max_iter=3,
        random_state=0,
    ).fit(train)
    popular = PopularRecommender(**NAMES).fit(train)
    scorer = make_ranking_scorer(["ndcg@10", "recall@10"])
    found, reference = scorer(model, test), scorer(popular, test)
    assert found["ndcg@10"] > 1.1 * reference["ndcg@10"]
    assert found["recall@10"] > reference["recall@10"]
    # seen films are not recommended, and sequels are neighbours
    top = model.recommend(train[:500], n_recommendations=10, as_frame=True)
    seen = set(zip(train["user_id"], train["item_id"], strict=True))
    assert not any(
        pair in seen for pair in zip(top["user_id"], top["item_id"], strict=True)
    )
    titles = data.item_table.set_index("item_id")["title"]
    similar, _ = model.similar_items([260], n_recommendations=10)  # Star Wars
    assert any("Star Wars" in titles[item] for item in similar[0])


@pytest.mark.parametrize("early_stopping", [False, True])
def test_divergence_in_the_last_step_is_seen(early_stopping):
    model = make_model(
        normalize=False,
        learning_rate=1e20,
        weight_decay=0.0,
        max_iter=1,
        batch_size=512,
        early_stopping=early_stopping,
    )
    with pytest.raises(ValueError, match="in epoch 1: training has diverged"):
        model.fit(X)
    with pytest.raises(NotFittedError):
        model.predict(X)
