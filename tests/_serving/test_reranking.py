"""Diversity, quotas, popularity and temperature of ``recommend``, against plain Python."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer

from sktwotower import EntityTable, load
from sktwotower._serving import recommend as queries
from sktwotower.pipeline import make_pipeline
from tests.helpers import assert_same_answer, make_model, make_X

N_USERS, N_ITEMS, DIM = 15, 30, 4
X = make_X(n_rows=160, n_users=N_USERS, n_items=N_ITEMS)
USERS = list(range(N_USERS))
BRANDS = [["a", "b", "c", None][i % 4] for i in range(N_ITEMS)]
ITEMS = pd.DataFrame(
    {
        "item": range(N_ITEMS),
        "brand": BRANDS,
        "size": np.arange(N_ITEMS) % 3,
        "tags": ["x|y" if i % 2 else "y|z" for i in range(N_ITEMS)],
        "parts": [[i % 2, 5] for i in range(N_ITEMS)],
    }
)


def fitted(**parameters):
    defaults = dict(user_column="user", item_column="item", popularity_prior=1.0)
    return make_model(**defaults | parameters).fit(X)


@pytest.fixture(scope="module")
def model():
    return fitted(item_table=ITEMS, id_dropout=0.2)


@pytest.fixture(scope="module")
def plain():
    return fitted(popularity_prior=None)


def tastes(model):
    vectors = model.item_embeddings_[:, :DIM].astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return dict(zip(model.item_ids_.tolist(), vectors, strict=True))


def by_marginal_relevance(ids, scores, vectors, diversity, k):
    """Plain Python: of the items of one user, best first."""
    ids = [item for item in ids if item is not None]
    relevance = (scores[: len(ids)] - scores[len(ids) - 1]) / np.ptp(scores[: len(ids)])
    chosen = [0]
    while len(chosen) < min(k, len(ids)):
        chosen.append(
            max(
                set(range(len(ids))) - set(chosen),
                key=lambda i: (
                    (1 - diversity) * relevance[i]
                    - diversity * max(vectors[ids[i]] @ vectors[ids[j]] for j in chosen)
                ),
            )
        )
    return [ids[i] for i in chosen], scores[chosen].tolist()


def within_quotas(ids, group_of, limit, k):
    """Plain Python: of ranked items, those that the quota allows."""
    chosen = []
    for item in ids:
        group = None if item is None else group_of[item]
        if item is None or len(chosen) == k:
            break
        if group is None or sum(group_of[other] == group for other in chosen) < limit:
            chosen.append(item)
    return chosen + [None] * (k - len(chosen))


# --- diversity -----------------------------------------------------------------------


def test_zero_is_the_same_and_costs_nothing(model, monkeypatch):
    expected = model.recommend(USERS)
    monkeypatch.setattr(queries, "choose_k", lambda *rest: pytest.fail("re-ranked"))
    found = model.recommend(USERS, diversify=0, max_per_group={}, popularity_weight=0)
    assert found[0].tolist() == expected[0].tolist()
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("name", ["model", "plain"])
@pytest.mark.parametrize("diversity", [0.2, 0.7])
def test_diversify_by_brute_force(name, diversity, request):
    """The pool is the whole catalogue, and popularity is no likeness."""
    model = request.getfixturevalue(name)
    every, exact = model.recommend(USERS, n_recommendations=N_ITEMS)
    found = model.recommend(USERS, n_recommendations=6, diversify=diversity)
    vectors = tastes(model)
    for row in range(N_USERS):
        ids, scores = by_marginal_relevance(every[row], exact[row], vectors, diversity, 6)
        assert found[0][row].tolist() == ids
        np.testing.assert_allclose(found[1][row], scores, atol=1e-6)


def test_the_least_alike(model):
    ids, scores = model.recommend(USERS, n_recommendations=8, diversify=1)
    best, _ = model.recommend(USERS, n_recommendations=1)
    assert (ids[:, 0] == best[:, 0]).all()
    vectors = tastes(model)
    for row in ids:
        alike = [
            max(vectors[row[i]] @ vectors[row[j]] for j in range(i)) for i in range(1, 8)
        ]
        assert alike == sorted(alike)  # each next one is the least alike of what is left
    assert (np.diff(scores, axis=1) > 0).any()  # they are the model's, in another order


def test_an_answer_depends_on_neither_batch_nor_length(model):
    options = dict(diversify=0.4, max_per_group={"brand": 2})
    ids, _ = model.recommend(USERS, n_recommendations=9, **options)
    for user in USERS:
        alone, _ = model.recommend([user], n_recommendations=9, **options)
        assert alone[0].tolist() == ids[user].tolist()
    short, _ = model.recommend(USERS, n_recommendations=4, **options)
    assert short.tolist() == ids[:, :4].tolist()


def test_diversity_with_all_other_arguments(model):
    """Of each user's candidates, without pairs, with a history, as a frame."""
    options = dict(
        candidates={user: [user, *range(20)] for user in USERS},
        exclude_interactions={0: [1, 2], 3: [4]},
        history={user: [5] for user in USERS},
        n_recommendations=N_ITEMS,
    )
    every, exact = model.recommend(USERS, **options)
    options["n_recommendations"] = 5
    frame = model.recommend(USERS, diversify=0.5, as_frame=True, **options)
    assert frame["rank"].tolist() == [1, 2, 3, 4, 5] * N_USERS
    vectors = tastes(model)
    for user, rows in frame.groupby("user"):
        ids, scores = by_marginal_relevance(every[user], exact[user], vectors, 0.5, 5)
        assert rows["item"].tolist() == ids
        np.testing.assert_allclose(rows["score"], scores, atol=1e-6)


# --- quotas --------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
def test_quotas_by_brute_force(model, limit):
    every, exact = model.recommend(USERS, n_recommendations=N_ITEMS)
    ids, scores = model.recommend(
        USERS, n_recommendations=12, max_per_group={"brand": np.int64(limit)}
    )
    group_of = dict(enumerate(BRANDS))
    for row in range(N_USERS):
        assert ids[row].tolist() == within_quotas(every[row], group_of, limit, 12)
        score_of = dict(zip(every[row], exact[row], strict=True))
        known = [score_of.get(item, -np.inf) for item in ids[row]]
        np.testing.assert_allclose(scores[row], known, atol=1e-6)


def test_several_quotas_hold_at_once(model):
    ids, _ = model.recommend(
        USERS, n_recommendations=N_ITEMS, max_per_group={"brand": 2, "size": 3}
    )
    for row in ids:
        items = [item for item in row if item is not None]
        brands = pd.Series([BRANDS[item] for item in items]).value_counts()
        assert brands.max() <= 2
        assert pd.Series(items).mod(3).value_counts().max() <= 3


def test_quotas_of_features_of_the_query_and_of_saved_models(model, tmp_path):
    new = pd.DataFrame({"item": [100, 101, 102, 3], "brand": ["n", "n", None, "n"]})
    options = dict(candidates=new, exclude_seen=False, n_recommendations=4)
    every, _ = model.recommend(USERS, **options)
    ids, _ = model.recommend(USERS, max_per_group={"brand": 1}, **options)
    group_of = {100: "n", 101: "n", 102: None, 3: "n"}
    assert ids.tolist() == [within_quotas(row, group_of, 1, 4) for row in every]
    model.save(tmp_path / "model")
    again = load(tmp_path / "model").recommend(USERS, max_per_group={"brand": 1})
    assert_same_answer(again, model.recommend(USERS, max_per_group={"brand": 1}))


def test_a_column_that_only_groups():
    """A table may have columns that the encoder drops."""
    encoder = make_column_transformer(("passthrough", ["size"]))
    model = fitted(
        item_table=EntityTable(ITEMS, "item", ["size", "brand"]), item_encoder=encoder
    )
    ids, _ = model.recommend(USERS, max_per_group={"brand": 1}, n_recommendations=5)
    assert all(
        pd.Series([BRANDS[item] for item in row]).value_counts().max() == 1 for row in ids
    )


def test_popular_items_for_cold_users(model):
    counts = X["item"].value_counts()
    options = dict(cold_start="popular", n_recommendations=6)
    every, _ = model.recommend([99], cold_start="popular", n_recommendations=N_ITEMS)
    ids, scores = model.recommend([99, 0], max_per_group={"brand": 1}, **options)
    assert ids[0].tolist() == within_quotas(every[0], dict(enumerate(BRANDS)), 1, 6)
    assert scores[0].tolist() == [counts.get(item, 0) for item in ids[0]]
    known, _ = model.recommend([0], max_per_group={"brand": 1}, n_recommendations=6)
    assert ids[1].tolist() == known[0].tolist()
    diverse = model.recommend([99], diversify=0.5, **options)
    expected = by_marginal_relevance(
        every[0], np.array([counts.get(i, 0) for i in every[0]]), tastes(model), 0.5, 6
    )
    assert (diverse[0][0].tolist(), diverse[1][0].tolist()) == expected


# --- popularity ----------------------------------------------------------------------


@pytest.mark.parametrize(("prior", "weight"), [(3.0, 2.0), (0.0, -1.0)])
def test_a_weight_is_added_to_the_prior(model, prior, weight):
    """Training is the same with any prior, which is a weight in serving alone."""
    other = fitted(item_table=ITEMS, id_dropout=0.2, popularity_prior=prior)
    expected = other.recommend(USERS, n_recommendations=N_ITEMS)
    found = model.recommend(USERS, n_recommendations=N_ITEMS, popularity_weight=weight)
    assert_same_answer(found, expected, atol=1e-5)


def test_a_weight_without_a_prior(plain):
    every = plain.recommend(USERS, n_recommendations=N_ITEMS, as_frame=True)
    found = plain.recommend(
        USERS, n_recommendations=N_ITEMS, popularity_weight=1.5, as_frame=True
    )
    logs = np.log1p(X["item"].value_counts())
    added = 1.5 * plain.temperature_ * (logs - logs.mean())
    every["score"] += every["item"].map(added)
    both = every.merge(found, on=["user", "item"])
    assert len(both) == len(found)
    np.testing.assert_allclose(both["score_x"], both["score_y"], atol=1e-6)
    assert found["score"].groupby(found["user"]).is_monotonic_decreasing.all()
    some = {user: [1, 4, 7, 20] for user in USERS}
    few = plain.recommend(USERS, candidates=some, popularity_weight=1.5, as_frame=True)
    both = few.merge(found, on=["user", "item"])
    assert len(both) == len(few) > N_USERS
    np.testing.assert_allclose(both["score_x"], both["score_y"], atol=1e-6)


def test_unknown_items_have_the_mean_popularity(model):
    new = pd.DataFrame({"item": [100, 101], "brand": ["a", "b"]})
    options = dict(candidates=new, n_recommendations=2)
    assert_same_answer(
        model.recommend(USERS, popularity_weight=5.0, **options),
        model.recommend(USERS, **options),
    )


# --- draws ---------------------------------------------------------------------------


def test_draws_at_a_temperature(model):
    n, temperature = 4000, 0.5
    ids, _ = model.recommend(
        [1] * n, n_recommendations=1, sample=True, temperature=temperature, random_state=0
    )
    every, exact = model.recommend([1], n_recommendations=N_ITEMS)
    weights = np.exp(exact[0].astype(float) / temperature)
    for item, probability in zip(every[0], weights / weights.sum(), strict=True):
        error = (probability * (1 - probability) / n) ** 0.5
        assert abs((ids[:, 0] == item).mean() - probability) <= 4.5 * error


def test_temperatures_at_the_extremes(model):
    best = model.recommend(USERS)
    cold = model.recommend(USERS, sample=True, temperature=1e-6, random_state=0)
    assert_same_answer(cold, best, atol=1e-6)
    default, own = (
        model.recommend(USERS, sample=True, random_state=0, temperature=temperature)
        for temperature in (None, model.temperature_)
    )
    assert_same_answer(default, own)


def test_draws_keep_quotas(model):
    options = dict(sample=True, random_state=0, cold_start="popular")
    ids, _ = model.recommend([*USERS, 99], max_per_group={"brand": 1}, **options)
    for row in ids:
        brands = pd.Series([BRANDS[item] for item in row if item is not None])
        assert brands.value_counts().max() == 1


# --- with an index, and in a Pipeline ------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"diversify": 0.5},
        {"max_per_group": {"brand": 1}, "n_recommendations": 8},
        {"popularity_weight": -2.0},
        {"diversify": 0.3, "popularity_weight": 1.0, "max_per_group": {"size": 2}},
    ],
)
def test_an_index_and_a_pipeline_answer_alike(model, options):
    pytest.importorskip("faiss")
    expected = model.recommend(USERS, **options)
    model.build_index("flat")
    try:
        assert_same_answer(model.recommend(USERS, **options), expected, atol=1e-6)
    finally:
        model.build_index(None)
    pipeline = make_pipeline(model)
    assert_same_answer(pipeline.recommend(USERS, **options), expected)


# --- similar items and users are cosines ---------------------------------------------


@pytest.mark.parametrize("prior", [None, 1.0])
def test_cosines_without_normalize(prior):
    model = fitted(normalize=False, temperature=1.0, popularity_prior=prior)
    vectors = model.item_embeddings_
    vectors[3] = 0.0  # has no direction
    unit = vectors[:, :DIM].astype(float)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    cosines = unit @ unit.T
    n_others = len(vectors) - 1
    ids, scores = model.similar_items(model.item_ids_, n_recommendations=n_others)
    places = pd.Index(model.item_ids_).get_indexer(ids.ravel()).reshape(ids.shape)
    np.testing.assert_allclose(
        scores, np.take_along_axis(cosines, places, axis=1), atol=1e-6
    )
    assert (np.diff(scores, axis=1) <= 0).all()
    place = {item: n for n, item in enumerate(model.item_ids_.tolist())}
    for some in ([5, 3, 9], {7: [5, 3, 9]}):
        listed, values = model.similar_items([7], candidates=some, n_recommendations=3)
        known = [cosines[place[7], place[item]] for item in listed[0]]
        np.testing.assert_allclose(values[0], known, atol=1e-6)
    users = model.user_embeddings_[:, :DIM].astype(float)
    users /= np.linalg.norm(users, axis=1, keepdims=True)
    _, alike = model.similar_users(model.user_ids_, n_recommendations=1)
    np.fill_diagonal(closest := users @ users.T, -1)
    np.testing.assert_allclose(alike[:, 0], closest.max(axis=1), atol=1e-6)


# --- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"diversify": 1.01},
            ValueError,
            "diversify .* at least 0 and at most 1; got 1.01",
        ),
        ({"diversify": -0.1}, ValueError, "diversify must be a finite number"),
        ({"diversify": np.nan}, ValueError, "diversify .* got nan"),
        ({"diversify": True}, TypeError, "diversify .* got True"),
        ({"diversify": "high"}, TypeError, "diversify .* got 'high'"),
        ({"diversify": [0.1]}, TypeError, "diversify"),
        ({"diversify": 0.2, "sample": True}, ValueError, "choose one of them"),
        ({"popularity_weight": np.inf}, ValueError, "popularity_weight .* got inf"),
        ({"popularity_weight": None}, TypeError, "popularity_weight .* got None"),
        ({"popularity_weight": 10**400}, ValueError, "popularity_weight"),
        ({"temperature": 1.0}, ValueError, "temperature=1.0 needs sample=True"),
        ({"temperature": 0, "sample": True}, ValueError, "at least 1e-06; got 0"),
        ({"temperature": np.inf, "sample": True}, ValueError, "temperature .* got inf"),
        ({"temperature": "low", "sample": True}, TypeError, "temperature .* got 'low'"),
        ({"max_per_group": 2}, TypeError, "dict of numbers by the name .* got 2"),
        ({"max_per_group": ["brand"]}, TypeError, "dict of numbers"),
        ({"max_per_group": {"brand": 0}}, ValueError, r"\['brand'\] must be .* got 0"),
        ({"max_per_group": {"brand": 1.0}}, ValueError, "an integer of at least 1"),
        ({"max_per_group": {"brand": True}}, ValueError, "got True"),
        (
            {"max_per_group": {"brnad": 1}},
            ValueError,
            r"no feature 'brnad'; .*\['brand', 'size'.*Did you mean 'brand'\?",
        ),
        ({"max_per_group": {"tags": 1}}, ValueError, "'tags' has several values"),
        ({"max_per_group": {"parts": 1}}, ValueError, "'parts' has several values"),
    ],
)
def test_errors(model, options, error, message):
    with pytest.raises(error, match=message):
        model.recommend(USERS, **options)


def test_quotas_without_features(plain):
    with pytest.raises(ValueError, match="needs item features, and the model has none"):
        plain.recommend(USERS, max_per_group={"brand": 2})


def test_nobody_and_nothing(model):
    ids, scores = model.recommend([], diversify=0.5, max_per_group={"brand": 1})
    assert ids.shape == scores.shape == (0, 10)
    options = dict(candidates=[[] for _ in USERS], max_per_group={"brand": 1})
    ids, scores = model.recommend(USERS, diversify=0.5, **options)
    assert (ids == None).all()  # noqa: E711
    assert (scores == -np.inf).all()
