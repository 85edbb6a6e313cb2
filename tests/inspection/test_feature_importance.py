"""Importance of fields: planted structure, and the same computed by hand."""

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils import check_random_state

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import PopularRecommender
from sktwotower.datasets import make_interactions
from sktwotower.history import PooledHistory
from sktwotower.inspection import feature_importance
from sktwotower.metrics import make_ranking_scorer

DATA = make_interactions(feature_share=1.0, random_state=0)
TRAIN, TEST = DATA.interactions[:3200], DATA.interactions[3200:]
NOISE = np.random.RandomState(0).standard_normal(len(DATA.item_table))
ITEMS = DATA.item_table.assign(noise=NOISE, constant=1.0)
GLOBAL = check_random_state(None)  # NumPy's own generator
COLUMNS = {"user_column": "user_id", "item_column": "item_id"}
TRUE_ITEM_FIELDS = ["item_cat_0", "item_num_1", "item_tags_2"]
USER_FIELDS = ["user_cat_0", "user_num_1", "user_cat_2"]


def fit(X=TRAIN, y=None, **parameters):
    parameters = {"embedding_dim": 16, "random_state": 0, **COLUMNS, **parameters}
    return TwoTowerRecommender(**parameters).fit(X, y)


@pytest.fixture(scope="module")
def by_features():
    """A model whose towers have no ids."""
    return fit(
        user_table=DATA.user_table,
        item_table=ITEMS,
        user_id_embedding=False,
        item_id_embedding=False,
    )


@pytest.fixture(scope="module")
def with_everything():
    return fit(
        user_table=DATA.user_table,
        item_table=ITEMS,
        timestamp_column="timestamp",
        history=PooledHistory(5),
        max_iter=3,
    )


class Roll(np.random.RandomState):
    """Shuffles in which each entity gets the field of a neighbour.

    Parameters
    ----------
    *shifts : int
        Distance of the neighbour in each shuffle; the last one is repeated.
    """

    def __init__(self, *shifts):
        super().__init__(0)
        self.shifts = list(shifts)

    def permutation(self, codes):
        return np.roll(
            codes, self.shifts.pop(0) if len(self.shifts) > 1 else self.shifts[0]
        )


def means(frame):
    return frame.set_index(["side", "field"])["importance_mean"].to_dict()


def ndcg_by_hand(model, users, items, X, k=10):
    """NDCG@k of embeddings over all items, without seen pairs that are not relevant."""
    seen = set(zip(TRAIN["user_id"], TRAIN["item_id"], strict=True))
    values = []
    for user, rows in X.groupby("user_id"):
        relevant = set(rows["item_id"])
        vector = users[list(model.user_ids_).index(user)]
        scores = {
            item: float(vector @ items[i])
            for i, item in enumerate(model.item_ids_)
            if item in relevant or (user, item) not in seen
        }
        best = sorted(scores, key=scores.get, reverse=True)[:k]
        gain = sum(1 / math.log2(r + 2) for r, i in enumerate(best) if i in relevant)
        ideal = sum(1 / math.log2(r + 2) for r in range(min(k, len(relevant))))
        values.append(gain / ideal)
    return float(np.mean(values))


# --- planted structure ---------------------------------------------------------------


def test_noise_has_no_importance(by_features):
    frame = feature_importance(by_features, TEST, n_repeats=3, random_state=0)
    importance = means(frame)
    true = [importance["item", field] for field in TRUE_ITEM_FIELDS]
    true += [importance["user", field] for field in USER_FIELDS]
    assert min(true) > 0.05
    assert (
        abs(importance["item", "noise"]) < 0.03
    )  # not 0, since the model overfits it a bit
    assert importance["item", "constant"] == 0.0  # exactly, since embeddings do not change
    assert len(importance) == 8


def test_ids_are_important_where_features_are_not():
    data = make_interactions(feature_share=0.0, random_state=0)
    model = fit(
        data.interactions[:3200],
        history=None,
        user_table=data.user_table,
        item_table=data.item_table,
    )
    frame = feature_importance(model, data.interactions[3200:], n_repeats=2, random_state=0)
    assert frame["field"].tolist()[:2] == ["id", "id"]
    assert set(frame["side"][:2]) == {"user", "item"}


# --- against the same by hand --------------------------------------------------------


def test_baseline_is_the_score(by_features):
    frame = feature_importance(by_features, TEST, n_repeats=1, random_state=0)
    assert frame.attrs["baseline"] == by_features.score(TEST)
    expected = ndcg_by_hand(
        by_features, by_features.user_embeddings_, by_features.item_embeddings_, TEST
    )
    assert frame.attrs["baseline"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", ["recall@20", "mrr@5", "coverage@3", "map"])
def test_other_metrics(by_features, metric):
    frame = feature_importance(
        by_features, TEST, metric=metric, n_repeats=1, random_state=0
    )
    expected = make_ranking_scorer(metric)(by_features, TEST)
    assert frame.attrs["baseline"] == pytest.approx(expected)


@pytest.mark.parametrize("field", ["item_cat_0", "item_num_1", "item_tags_2"])
@pytest.mark.slow
def test_item_field_by_hand(by_features, field):
    # The catalogue has the items in the order of item_ids_.
    table = ITEMS.set_index("item_id").loc[by_features.item_ids_].reset_index()
    table[field] = np.roll(table[field].to_numpy(), 1)
    items = by_features.item_tower_.transform(table)
    expected = ndcg_by_hand(by_features, by_features.user_embeddings_, items, TEST)
    frame = feature_importance(by_features, TEST, n_repeats=2, random_state=Roll(1))
    drop = frame.attrs["baseline"] - expected
    assert means(frame)["item", field] == pytest.approx(drop, abs=1e-6)
    assert (frame["importance_std"] < 1e-12).all()  # always the same shuffle


def test_user_field_by_hand_among_the_users_of_X(by_features):
    some = TEST[TEST["user_id"] < 60]
    queried = [user for user in by_features.user_ids_ if user in set(some["user_id"])]
    assert len(queried) < len(by_features.user_ids_)
    table = DATA.user_table.set_index("user_id").loc[queried].reset_index()
    table["user_cat_0"] = np.roll(table["user_cat_0"].to_numpy(), 1)
    users = by_features.user_embeddings_.copy()
    rows = [list(by_features.user_ids_).index(user) for user in queried]
    users[rows] = by_features.user_tower_.transform(table)
    expected = ndcg_by_hand(by_features, users, by_features.item_embeddings_, some)
    frame = feature_importance(by_features, some, n_repeats=1, random_state=Roll(1))
    drop = frame.attrs["baseline"] - expected
    assert means(frame)["user", "user_cat_0"] == pytest.approx(drop, abs=1e-6)


def test_ids_and_history_by_hand():
    # Each side has a single field, so a shuffle exchanges whole embeddings.
    model = fit(
        timestamp_column="timestamp", history=PooledHistory(5), user_id_embedding=False
    )
    assert set(TEST["user_id"]) <= set(model.user_ids_)
    queried = np.isin(model.user_ids_, TEST["user_id"])
    users, items = model.user_embeddings_.copy(), model.item_embeddings_
    users[queried] = np.roll(users[queried], 1, axis=0)
    frame = feature_importance(model, TEST, n_repeats=1, random_state=Roll(1))
    baseline = frame.attrs["baseline"]
    by_history = ndcg_by_hand(model, users, items, TEST)
    rolled = np.roll(items, 1, axis=0)
    rolled[:, -1] = items[:, -1]  # popularity is no field
    by_id = ndcg_by_hand(model, model.user_embeddings_, rolled, TEST)
    assert means(frame) == {
        ("user", "history"): pytest.approx(baseline - by_history, abs=1e-6),
        ("item", "id"): pytest.approx(baseline - by_id, abs=1e-6),
    }


# --- which fields --------------------------------------------------------------------


def test_all_fields_of_both_sides(with_everything):
    frame = feature_importance(with_everything, TEST, n_repeats=1, random_state=0)
    assert frame.columns.tolist() == ["side", "field", "importance_mean", "importance_std"]
    expected = {("user", field) for field in ["id", "history", *USER_FIELDS]}
    item_fields = ["id", *TRUE_ITEM_FIELDS, "noise", "constant"]
    expected |= {("item", field) for field in item_fields}
    assert set(means(frame)) == expected
    assert len(frame) == len(expected)
    assert frame["importance_mean"].is_monotonic_decreasing
    assert frame.index.tolist() == list(range(len(frame)))
    assert (frame["importance_std"] == 0).all()


def test_only_ids():
    model = fit(history=None, max_iter=1)
    frame = feature_importance(model, TEST, n_repeats=2, random_state=0)
    assert set(means(frame)) == {("user", "id"), ("item", "id")}


def test_transformers_of_a_column_transformer_are_fields():
    encoder = ColumnTransformer(
        [
            ("kind", OneHotEncoder(), ["item_cat_0"]),
            ("numbers", StandardScaler(), ["item_num_1", "noise"]),
        ]
    )
    pca = make_pipeline(
        ColumnTransformer([("n", "passthrough", ["user_num_1"])]), PCA(n_components=1)
    )
    model = fit(
        user_table=DATA.user_table,
        user_encoder=pca,
        item_table=ITEMS,
        item_encoder=encoder,
        item_id_embedding=False,
        max_iter=1,
    )
    frame = feature_importance(model, TEST, n_repeats=1, random_state=0)
    assert set(means(frame)) == {
        ("user", "id"),
        ("user", "features"),
        ("item", "kind"),
        ("item", "numbers"),
    }


def test_a_wide_dense_field():
    wide = np.random.RandomState(0).standard_normal((len(ITEMS), 20))
    table = pd.DataFrame({"item_id": ITEMS["item_id"], "vector": list(wide)})
    model = fit(item_table=table, item_id_embedding=False)
    frame = feature_importance(model, TEST, n_repeats=1, random_state=Roll(1))
    items = np.roll(model.item_embeddings_, 1, axis=0)
    expected = ndcg_by_hand(model, model.user_embeddings_, items, TEST)
    drop = frame.attrs["baseline"] - expected
    assert means(frame)["item", "vector"] == pytest.approx(drop, abs=1e-6)
    assert drop > 0.05


def test_columns_named_like_other_fields_are_fields_of_their_own():
    table = ITEMS.rename(columns={"item_cat_0": "id", "item_num_1": "history"})
    model = fit(item_table=table, max_iter=1)
    frame = feature_importance(model, TEST, n_repeats=1, random_state=0)
    fields = frame.loc[frame["side"] == "item", "field"]
    assert sorted(fields) == sorted([*table.columns[1:], "id"])


# --- rows and queries ----------------------------------------------------------------


def test_labels_and_weights(by_features):
    rng = np.random.RandomState(0)
    y, weights = rng.randint(0, 2, len(TEST)), rng.randint(0, 3, len(TEST))
    frame = feature_importance(
        by_features, TEST, y, sample_weight=weights, n_repeats=1, random_state=0
    )
    assert frame.attrs["baseline"] == by_features.score(TEST, y, weights)
    # Rows that are not relevant or have no weight have no effect.
    kept = (y > 0) & (weights > 0)
    again = feature_importance(
        by_features, TEST[kept], sample_weight=weights[kept], n_repeats=1, random_state=0
    )
    pd.testing.assert_frame_equal(frame, again)


@pytest.fixture(scope="module")
def with_features_in_X():
    X = TRAIN.merge(DATA.user_table, on="user_id").merge(ITEMS, on="item_id")
    return fit(
        X,
        user_features=USER_FIELDS,
        item_features=TRUE_ITEM_FIELDS,
        item_id_embedding=False,
        max_iter=2,
    )


def test_item_features_in_X_are_those_of_training(with_features_in_X):
    model = with_features_in_X
    late = TEST.merge(DATA.user_table, on="user_id").merge(ITEMS, on="item_id")
    plain = feature_importance(model, late, n_repeats=1, random_state=0)
    assert plain.attrs["baseline"] == model.score(late)
    changed = late.assign(item_cat_0="c1", item_num_1=9.0)
    again = feature_importance(model, changed, n_repeats=1, random_state=0)
    pd.testing.assert_frame_equal(again, plain)
    assert set(means(plain)) == {
        ("user", "id"),
        *(("user", field) for field in USER_FIELDS),
        *(("item", field) for field in TRUE_ITEM_FIELDS),
    }


def test_user_features_in_X_are_read(with_features_in_X):
    model = with_features_in_X
    late = TEST.merge(DATA.user_table, on="user_id")
    plain = feature_importance(model, late, n_repeats=1, random_state=0)
    assert plain.attrs["baseline"] == pytest.approx(model.score(TEST))
    changed = late.assign(user_cat_0="c1")
    constant = feature_importance(model, changed, n_repeats=1, random_state=0)
    assert means(constant)["user", "user_cat_0"] == 0
    assert constant.attrs["baseline"] == model.score(changed)


def test_user_features_in_X_by_hand(with_features_in_X):
    model = with_features_in_X
    late = TEST.merge(DATA.user_table, on="user_id")
    frame = feature_importance(model, late, n_repeats=1, random_state=Roll(1))
    users = DATA.user_table[DATA.user_table["user_id"].isin(TEST["user_id"])]
    users = users.sort_values("user_id")  # one query each, in the order of ids
    users = users.assign(user_cat_0=np.roll(users["user_cat_0"], 1))
    drop = model.score(late) - model.score(TEST.merge(users, on="user_id"))
    assert means(frame)["user", "user_cat_0"] == pytest.approx(drop, abs=1e-6)


def daytimes():
    """In the morning users take the items 0 to 9, in the evening those from 10 to 19."""
    rng = np.random.RandomState(0)
    X = pd.DataFrame({"user_id": rng.randint(0, 60, 1200), "noise": rng.rand(1200)})
    X["daytime"] = rng.choice(["am", "pm"], 1200)
    X["item_id"] = rng.randint(0, 10, 1200) + 10 * (X["daytime"] == "pm")
    repeated = X.duplicated(["user_id", "item_id"]).to_numpy()
    late = np.arange(1200) >= 900
    return X[~late], X[late & ~repeated], X[late & repeated]


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_a_context_that_decides(exclude_seen):
    train, new, repeats = daytimes()
    test = new if exclude_seen else repeats
    model = fit(
        train,
        history=None,
        user_features=["daytime", "noise"],
        mask_known_positives=False,
    )
    options = {"n_repeats": 2, "random_state": 0, "exclude_seen": exclude_seen}
    per_row = make_ranking_scorer("ndcg@10", per_row=True, exclude_seen=exclude_seen)
    frame = feature_importance(model, test, **options)
    importance = means(frame)
    assert importance["user", "daytime"] > 0.1
    assert max(importance["user", "id"], importance["user", "noise"]) < 0.05
    assert frame.attrs["baseline"] == per_row(model, test)
    assert means(feature_importance(model, test, per_row=True, **options)) == importance
    of_users = means(feature_importance(model, test, per_row=False, **options))
    assert of_users["user", "daytime"] < importance["user", "daytime"]


def test_a_context_by_hand():
    """The values of a column of X, each in another row."""
    train, new, _ = daytimes()
    model = fit(train, user_features=["daytime", "noise"], max_iter=3)
    frame = feature_importance(model, new, n_repeats=1, random_state=Roll(1))
    # The queries are in the order of users, items and features.
    rows = new.sort_values(["user_id", "item_id", "daytime", "noise"])
    rolled = rows.assign(daytime=np.roll(rows["daytime"], 1))
    scorer = make_ranking_scorer("ndcg@10", per_row=True)
    drop = scorer(model, new) - scorer(model, rolled)
    assert means(frame)["user", "daytime"] == pytest.approx(drop, abs=1e-6)


def test_metrics_of_rows_shuffle_rows(with_features_in_X):
    model = with_features_in_X
    y = np.random.RandomState(0).randint(0, 2, len(TEST))
    late = TEST.merge(DATA.user_table, on="user_id").merge(ITEMS, on="item_id")
    frame = feature_importance(
        model, late, y, metric="roc_auc", n_repeats=1, random_state=Roll(1)
    )
    scorer = make_ranking_scorer("roc_auc")
    assert frame.attrs["baseline"] == pytest.approx(scorer(model, late, y))
    for side, field in [("user", "user_cat_0"), ("item", "item_cat_0")]:
        rolled = late.assign(**{field: np.roll(late[field], 1)})
        drop = scorer(model, late, y) - scorer(model, rolled, y)
        assert means(frame)[side, field] == pytest.approx(drop, abs=1e-6)
    plain = feature_importance(
        model, TEST, y, metric="roc_auc", n_repeats=1, random_state=0
    )
    assert plain.attrs["baseline"] == pytest.approx(scorer(model, TEST, y))


def test_permutation_importance_says_that_it_cannot(with_features_in_X):
    late = TEST.merge(ITEMS[["item_id", *TRUE_ITEM_FIELDS]], on="item_id")
    model = with_features_in_X
    model.score(late)  # as in training
    swapped = late.assign(item_num_1=late["item_num_1"].to_numpy()[::-1])
    message = r"^X has other values of the item features \['item_num_1'\].*feature_import"
    with pytest.warns(UserWarning, match=message) as found:
        model.score(swapped)
    assert found[0].filename == __file__
    with pytest.warns(UserWarning) as found:
        importance = permutation_importance(
            model, late, None, n_repeats=1, random_state=0
        ).importances_mean
    said = [str(each.message) for each in found]
    for name in TRUE_ITEM_FIELDS:
        assert any(f"of the item features ['{name}'] than" in message for message in said)
    columns = [late.columns.get_loc(name) for name in TRUE_ITEM_FIELDS]
    assert not importance[columns].any()


def test_unknown_users_are_ranked_and_never_shuffled(with_everything):
    cold = TEST.assign(user_id=TEST["user_id"] + 1000)
    frame = feature_importance(with_everything, cold, n_repeats=2, random_state=0)
    assert (frame.loc[frame["side"] == "user", "importance_mean"] == 0).all()
    assert frame.attrs["baseline"] == with_everything.score(cold)
    assert (frame.loc[frame["side"] == "item", "importance_mean"] != 0).any()


def test_added_items_are_shuffled_too(by_features):
    model = pickle.loads(pickle.dumps(by_features))
    model.add_items(ITEMS[:5].assign(item_id=range(500, 505)))
    frame = feature_importance(model, TEST, n_repeats=1, random_state=0)
    assert frame.attrs["baseline"] == pytest.approx(model.score(TEST), abs=0.01)
    assert means(frame)["item", "item_cat_0"] > 0.05


def test_no_user_to_measure(by_features):
    with pytest.warns(UndefinedMetricWarning, match="No user has a relevant item") as seen:
        frame = feature_importance(
            by_features, TEST.assign(item_id=-1), n_repeats=1, random_state=0
        )
    assert len(seen) == 1 and seen[0].filename == __file__
    assert math.isnan(frame.attrs["baseline"])
    assert frame["importance_mean"].isna().all() and len(frame) == 8


# --- seeds and side effects ----------------------------------------------------------


def test_same_seed_same_frame(by_features):
    first, again, other = (
        feature_importance(by_features, TEST, n_repeats=2, random_state=seed)
        for seed in (3, 3, 4)
    )
    pd.testing.assert_frame_equal(first, again)
    assert first.attrs == again.attrs
    assert means(first) != means(other)
    state = np.random.RandomState(3)
    drawn = feature_importance(by_features, TEST, n_repeats=2, random_state=state)
    pd.testing.assert_frame_equal(first, drawn)


def test_mean_and_deviation_over_shuffles_that_fields_share(by_features):
    def importance(*shifts):
        rolls = Roll(*shifts, *shifts)  # of the users, then of the items
        frame = feature_importance(
            by_features, TEST, n_repeats=len(shifts), random_state=rolls
        )
        return frame.set_index(["side", "field"]).sort_index()

    one, two, both = importance(1), importance(2), importance(1, 2)
    drops = np.array([one["importance_mean"], two["importance_mean"]])
    np.testing.assert_allclose(both["importance_mean"], drops.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(both["importance_std"], drops.std(axis=0), atol=1e-12)


@pytest.mark.parametrize("random_state", [None, 0])
def test_nothing_else_changes(with_everything, random_state):
    model = with_everything
    before, attributes = pickle.dumps(model), dict(vars(model))
    users, items = model.user_embeddings_.copy(), model.item_embeddings_.copy()
    scores = model.predict(TEST)
    X = TEST.copy()
    state = pickle.dumps(GLOBAL.get_state()), torch.get_rng_state()
    feature_importance(model, X, n_repeats=1, random_state=random_state)
    assert pickle.dumps(GLOBAL.get_state()) == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])
    pd.testing.assert_frame_equal(X, TEST)
    assert all(vars(model)[name] is value for name, value in attributes.items())
    np.testing.assert_array_equal(model.user_embeddings_, users)
    np.testing.assert_array_equal(model.item_embeddings_, items)
    np.testing.assert_array_equal(model.predict(TEST), scores)
    assert pickle.dumps(model) == before


# --- pipelines and searches ----------------------------------------------------------


def renamed(frame):
    """The columns that the model was fitted on."""
    return frame.rename(columns={"who": "user_id", "what": "item_id"})


def test_pipeline_and_search(by_features):
    expected = feature_importance(by_features, TEST, n_repeats=2, random_state=0)
    names = {"user_id": "who", "item_id": "what"}
    step = FunctionTransformer(renamed)
    pipeline = Pipeline([("names", step), ("model", by_features)])
    frame = feature_importance(
        pipeline, TEST.rename(columns=names), n_repeats=2, random_state=0
    )
    pd.testing.assert_frame_equal(frame, expected)

    search = GridSearchCV(
        make_pipeline(step, by_features),
        {"twotowerrecommender__max_iter": [1]},
        cv=KFold(2),
        scoring=make_ranking_scorer("ndcg@10"),
    ).fit(TRAIN.rename(columns=names))
    frame = feature_importance(
        search, TEST.rename(columns=names), n_repeats=1, random_state=0
    )
    assert frame.attrs["baseline"] == search.score(TEST.rename(columns=names))


# --- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, got",
    [
        (LogisticRegression(), "LogisticRegression"),
        (PopularRecommender(**COLUMNS).fit(TRAIN), "PopularRecommender"),
        (make_pipeline(StandardScaler(), PCA()), "PCA"),
        (GridSearchCV(TwoTowerRecommender(), {}), "GridSearchCV"),
        (TwoTowerRecommender, "the class TwoTowerRecommender"),
        ("model", "str"),
    ],
)
def test_other_models_are_refused(model, got):
    with pytest.raises(
        TypeError, match=rf"needs a fitted TwoTowerRecommender.*got {got}\."
    ):
        feature_importance(model, TEST)


def test_unfitted_models_are_refused():
    with pytest.raises(NotFittedError, match="TwoTowerRecommender"):
        feature_importance(TwoTowerRecommender(), TEST)
    with pytest.raises(NotFittedError):
        feature_importance(
            make_pipeline(FunctionTransformer(), TwoTowerRecommender()), TEST
        )


@pytest.mark.parametrize("n_repeats", [0, -1, 1.5, True, "5", None])
def test_n_repeats_must_be_a_count(by_features, n_repeats):
    with pytest.raises(ValueError, match="n_repeats must be an integer of at least 1; got"):
        feature_importance(by_features, TEST, n_repeats=n_repeats)


def test_bad_metrics_and_rows(by_features):
    with pytest.raises(ValueError, match="did you mean 'ndcg@10'"):
        feature_importance(by_features, TEST, metric="ndgc@10")
    with pytest.raises(TypeError, match="is not a string"):
        feature_importance(by_features, TEST, metric=["ndcg@10"])
    with pytest.raises(ValueError, match="no row of X is relevant"):
        feature_importance(by_features, TEST, np.zeros(len(TEST)))
    with pytest.raises(ValueError, match="X lacks the column 'user_id'"):
        feature_importance(by_features, TEST.drop(columns="user_id"))
