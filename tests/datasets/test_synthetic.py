"""The generator: its output has the documented structure."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import spearmanr

from sktwotower.datasets import _synthetic, make_interactions


@pytest.fixture(scope="module")
def data():
    return make_interactions(random_state=0)


def probabilities(data):
    """Probability of each item at a user's first draw, by the docstring's formula."""
    return softmax(np.log(data.popularity) + data.affinity / data.temperature, axis=1)


def one_hot(table):
    """Encode a feature table by hand: numbers, 0/1 categories, tags over sqrt(m)."""
    blocks = []
    for column in table.columns[1:]:
        if "num" in column:
            blocks.append(table[column].to_numpy()[:, None])
        else:
            values = table[column].str.get_dummies("|").to_numpy(dtype=float)
            blocks.append(values / np.sqrt(values.sum(axis=1, keepdims=True)))
    return np.column_stack([np.ones(len(table)), *blocks])


def explained_by_features(data):
    """Share of the affinity's variance that a bilinear map of the features explains."""
    users, items = one_hot(data.user_table), one_hot(data.item_table)
    user_projection = users @ np.linalg.pinv(users)
    item_projection = items @ np.linalg.pinv(items)
    fitted = user_projection @ data.affinity @ item_projection
    return 1 - np.var(data.affinity - fitted) / np.var(data.affinity)


def test_shapes_and_columns(data):
    assert data.interactions.shape == (4000, 3)
    assert list(data.interactions) == ["user_id", "item_id", "timestamp"]
    assert data.interactions.dtypes.astype(str).tolist() == [
        "int64",
        "int64",
        "datetime64[s]",
    ]
    assert list(data.user_table) == [
        "user_id",
        "user_cat_0",
        "user_num_1",
        "user_cat_2",
    ]
    assert list(data.item_table) == [
        "item_id",
        "item_cat_0",
        "item_num_1",
        "item_tags_2",
    ]
    assert data.user_table["user_id"].tolist() == list(range(200))
    assert data.item_table["item_id"].tolist() == list(range(100))
    assert data.user_factors.shape == (200, 16)
    assert data.item_factors.shape == (100, 16)
    assert data.popularity.shape == (100,)
    assert data.popularity.sum() == pytest.approx(1)
    assert not data.user_table.isna().any(axis=None)
    assert not data.item_table.isna().any(axis=None)


def test_number_of_features():
    data = make_interactions(
        20, 10, 50, n_user_features=1, n_item_features=5, random_state=0
    )
    assert list(data.user_table) == ["user_id", "user_cat_0"]
    assert list(data.item_table)[1:] == [
        "item_cat_0",
        "item_num_1",
        "item_tags_2",
        "item_cat_3",
        "item_num_4",
    ]
    none = make_interactions(
        20,
        10,
        50,
        n_user_features=0,
        n_item_features=0,
        feature_share=0,
        random_state=0,
    )
    assert list(none.user_table) == ["user_id"]
    assert list(none.item_table) == ["item_id"]
    assert none.affinity.std() == pytest.approx(1)


def test_tags_are_distinct_and_at_most_three(data):
    tags = data.item_table["item_tags_2"].str.split("|")
    assert set(tags.str.len()) == {1, 2, 3}
    assert all(len(set(values)) == len(values) for values in tags)


def test_pairs_are_distinct_and_every_user_is_there(data):
    assert not data.interactions.duplicated(["user_id", "item_id"]).any()
    assert set(data.interactions["user_id"]) == set(range(200))
    assert data.interactions["item_id"].between(0, 99).all()


def test_timestamps_increase_over_about_a_year(data):
    assert (data.interactions["timestamp"].diff().iloc[1:] > pd.Timedelta(0)).all()
    span = np.ptp(data.interactions["timestamp"].to_numpy())
    assert pd.Timedelta(days=330) < span < pd.Timedelta(days=400)


def test_users_are_interleaved_in_time(data):
    # Rows of a user are spread: the mean position of an active user is near the middle.
    position = pd.Series(np.arange(4000)).groupby(data.interactions["user_id"]).mean()
    busiest = data.interactions["user_id"].value_counts().index[:20]
    assert position[busiest].mean() == pytest.approx(2000, rel=0.1)


def test_activity_is_mildly_skewed():
    data = make_interactions(1000, 500, 30_000, random_state=0)
    counts = data.interactions["user_id"].value_counts()
    busiest_tenth = counts.iloc[:100].sum() / 30_000
    assert 0.15 < busiest_tenth < 0.3


def test_affinity_is_the_product_of_the_factors(data):
    np.testing.assert_allclose(data.affinity, data.user_factors @ data.item_factors.T)
    assert data.affinity.mean() == pytest.approx(0, abs=1e-9)
    # Affinities have mean 0 over users and over items; only popularity differs.
    np.testing.assert_allclose(data.affinity.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(data.affinity.mean(axis=1), 0, atol=1e-9)


@pytest.mark.parametrize("feature_share", [0.0, 0.3, 0.5, 1.0])
def test_features_carry_their_share_of_the_variance(feature_share):
    data = make_interactions(400, 300, 400, feature_share=feature_share, random_state=1)
    feature_part = data.user_factors[:, :8] @ data.item_factors[:, :8].T
    private_part = data.user_factors[:, 8:] @ data.item_factors[:, 8:].T
    assert np.var(feature_part) == pytest.approx(feature_share)
    assert np.var(private_part) == pytest.approx(1 - feature_share)
    assert np.var(data.affinity) == pytest.approx(1, abs=0.05)
    # Without the factors: regress the affinity on the feature tables.
    assert explained_by_features(data) == pytest.approx(feature_share, abs=0.03)


def test_equal_features_mean_equal_affinities_when_features_are_all():
    data = make_interactions(
        60, 30, 100, n_user_features=1, feature_share=1.0, random_state=0
    )
    category = data.user_table["user_cat_0"]
    assert category.nunique() < 60
    for _, rows in category.groupby(category).groups.items():
        np.testing.assert_allclose(
            data.affinity[rows],
            data.affinity[rows[:1]].repeat(len(rows), axis=0),
            atol=1e-12,
        )


def test_first_draw_follows_the_formula():
    # One draw per user; at feature_share=1 users of a category have the same distribution.
    n_users = 40_000
    data = make_interactions(
        n_users,
        12,
        n_users,
        n_user_features=1,
        n_item_features=2,
        feature_share=1.0,
        random_state=0,
    )
    expected = probabilities(data)
    taken = data.interactions.sort_values("user_id")["item_id"].to_numpy()
    category = data.user_table["user_cat_0"].to_numpy()
    for value in np.unique(category):
        users = np.flatnonzero(category == value)
        observed = np.bincount(taken[users], minlength=12) / len(users)
        sigma = np.sqrt(expected[users[0]] / len(users))
        assert np.all(np.abs(observed - expected[users[0]]) < 5 * sigma + 1e-3)


def test_earlier_rows_of_a_user_are_better_draws():
    data = make_interactions(500, 50, 10_000, random_state=0)
    rows = data.interactions
    chance = pd.Series(probabilities(data)[rows["user_id"], rows["item_id"]])
    rank = rows.groupby("user_id").cumcount()
    assert chance[rank == 0].mean() > 1.3 * chance[rank == 10].mean()


def test_pairs_of_high_affinity_interact_more(data):
    interacts = np.zeros_like(data.affinity, dtype=bool)
    interacts[data.interactions["user_id"], data.interactions["item_id"]] = True
    low, high = np.quantile(data.affinity, [0.25, 0.75])
    rate_of_high = interacts[data.affinity > high].mean()
    rate_of_low = interacts[data.affinity < low].mean()
    assert rate_of_high > 5 * rate_of_low


def test_popularity_skew_is_visible():
    counts = {}
    for skew in (0.0, 1.5):
        data = make_interactions(
            2000, 100, 20_000, popularity_skew=skew, temperature=2.0, random_state=0
        )
        counts[skew] = pd.Series(np.bincount(data.interactions["item_id"], minlength=100))
        if skew:
            ranked = np.sort(data.popularity)[::-1]
            np.testing.assert_allclose(ranked / ranked[0], np.arange(1, 101) ** -1.5)
            assert spearmanr(counts[skew], data.popularity).statistic > 0.95
            # Popularity does not depend on the id.
            assert abs(spearmanr(np.arange(100), data.popularity).statistic) < 0.3
        else:
            np.testing.assert_allclose(data.popularity, 0.01)
    assert counts[0.0].nlargest(10).sum() < 0.15 * 20_000
    assert counts[1.5].nlargest(10).sum() > 0.5 * 20_000


def test_temperature_weighs_affinity_against_popularity():
    means = []
    for temperature in (0.1, 1.0, 10.0):
        data = make_interactions(
            popularity_skew=0.0, temperature=temperature, random_state=0
        )
        pairs = data.interactions
        means.append(data.affinity[pairs["user_id"], pairs["item_id"]].mean())
    assert means[0] > means[1] > means[2]
    assert means[2] == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("n_interactions", [1, 3, 29, 30, 31, 299, 300])
def test_any_density(n_interactions):
    data = make_interactions(30, 10, n_interactions, random_state=0)
    assert len(data.interactions) == n_interactions
    assert not data.interactions.duplicated(["user_id", "item_id"]).any()
    if n_interactions >= 30:
        assert data.interactions["user_id"].nunique() == 30


@pytest.mark.parametrize("n_users, n_items", [(1, 1), (1, 5), (5, 1)])
def test_smallest_sizes(n_users, n_items):
    data = make_interactions(n_users, n_items, n_users * n_items, random_state=0)
    assert len(data.interactions) == n_users * n_items
    # Centring leaves nothing to compare.
    np.testing.assert_array_equal(data.affinity, 0)


def test_blocks_do_not_change_the_draw(monkeypatch):
    whole = make_interactions(random_state=3)
    monkeypatch.setattr(_synthetic, "_BLOCK_SIZE", 700)  # 7 users at a time
    blocks = make_interactions(random_state=3)
    pd.testing.assert_frame_equal(whole.interactions, blocks.interactions)


def test_no_affinity_matrix_where_it_would_be_large(monkeypatch):
    monkeypatch.setattr(_synthetic, "_MAX_AFFINITY_SIZE", 20_000)
    assert make_interactions(200, 100, 300, random_state=0).affinity.shape == (200, 100)
    assert make_interactions(201, 100, 300, random_state=0).affinity is None


def assert_same(first, second):
    for key in ("interactions", "user_table", "item_table"):
        pd.testing.assert_frame_equal(first[key], second[key])
    for key in ("user_factors", "item_factors", "popularity", "affinity"):
        np.testing.assert_array_equal(first[key], second[key])


def test_same_seed_same_data(data):
    assert_same(data, make_interactions(random_state=0))
    assert_same(
        make_interactions(random_state=np.random.RandomState(5)),
        make_interactions(random_state=np.random.RandomState(5)),
    )
    assert_same(
        make_interactions(random_state=np.random.default_rng(5)),
        make_interactions(random_state=np.random.default_rng(5)),
    )


def test_other_seed_other_data(data):
    assert not data.interactions.equals(make_interactions(random_state=1).interactions)
    assert not make_interactions().interactions.equals(make_interactions().interactions)
    random_state = np.random.RandomState(0)  # goes on between calls
    first, second = (make_interactions(random_state=random_state) for _ in range(2))
    assert not first.interactions.equals(second.interactions)


@pytest.mark.parametrize("random_state", [None, 0])
def test_global_random_state_is_left_alone(random_state):
    before = np.random.get_state()  # noqa: NPY002
    make_interactions(random_state=random_state)
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


@pytest.mark.parametrize("name", ["n_users", "n_items", "n_interactions", "n_factors"])
def test_counts_have_to_be_positive_integers(name):
    with pytest.raises(ValueError, match=f"{name} == 0, must be >= 1"):
        make_interactions(**{name: 0})
    with pytest.raises(TypeError, match=f"{name} must be an instance of int"):
        make_interactions(**{name: 2.5})


@pytest.mark.parametrize(
    "name, value",
    [
        ("n_user_features", -1),
        ("n_item_features", -1),
        ("feature_share", -0.1),
        ("feature_share", 1.1),
        ("feature_share", np.nan),
        ("popularity_skew", -1.0),
        ("popularity_skew", np.inf),
        ("temperature", 0.0),
        ("temperature", np.nan),
    ],
)
def test_values_out_of_range(name, value):
    with pytest.raises(ValueError, match=name):
        make_interactions(**{name: value})


def test_more_interactions_than_pairs():
    message = (
        "n_interactions=21 distinct pairs cannot be drawn from "
        "n_users * n_items = 5 * 4 = 20; ask for fewer."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        make_interactions(5, 4, 21)


@pytest.mark.parametrize("name", ["n_user_features", "n_item_features"])
def test_feature_share_without_features(name):
    with pytest.raises(ValueError, match=f"needs features on both sides, got .*{name}=0"):
        make_interactions(**{name: 0})


def test_random_state_of_a_wrong_kind():
    with pytest.raises(ValueError, match="cannot be used to seed"):
        make_interactions(random_state="seed")


# Too many pairs to score all


def pooled(monkeypatch, *args, **kwargs):
    with monkeypatch.context() as context:
        context.setattr(_synthetic, "_MAX_PAIRS", 0)
        return make_interactions(*args, **kwargs)


def test_a_pool_draws_what_all_pairs_would(monkeypatch):
    """Popularity and affinity of the chosen items, slightly lower with a finite pool."""
    args, kwargs = (1500, 1000, 20_000), dict(random_state=3)
    exact, data = make_interactions(*args, **kwargs), pooled(monkeypatch, *args, **kwargs)
    found = []
    for one in (exact, data):
        users, items = one.interactions["user_id"], one.interactions["item_id"]
        affinity = (one.user_factors[users] * one.item_factors[items]).sum(axis=1)
        counts = np.sort(np.bincount(items, minlength=1000))[::-1]
        popular = counts[:20].sum() / len(items)
        found.append((affinity.mean(), np.log(one.popularity[items]).mean(), popular))
    np.testing.assert_allclose(found[1], found[0], rtol=0.08)
    uniform = np.log(exact.popularity).mean()
    assert found[1][1] - uniform > 0.8 * (found[0][1] - uniform)
    assert not data.interactions.duplicated(["user_id", "item_id"]).any()
    pd.testing.assert_series_equal(
        data.interactions.groupby("user_id").size(),
        exact.interactions.groupby("user_id").size(),
    )
    again = pooled(monkeypatch, *args, **kwargs)
    pd.testing.assert_frame_equal(data.interactions, again.interactions)


def test_a_pool_is_large_enough_for_who_has_everything(monkeypatch):
    data = pooled(monkeypatch, 30, 12, 30 * 12, popularity_skew=4.0, random_state=0)
    assert len(data.interactions.drop_duplicates(["user_id", "item_id"])) == 30 * 12
