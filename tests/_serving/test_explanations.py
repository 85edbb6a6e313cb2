"""The parts of a score."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError

from sktwotower import TwoTowerRecommender
from sktwotower._serving import explanations
from sktwotower.datasets import make_interactions
from sktwotower.history import PooledHistory, TransformerHistory
from sktwotower.pipeline import make_pipeline

DATA = make_interactions(60, 40, 900, random_state=0)
X = DATA.interactions
PAIRS = X[["user_id", "item_id"]].drop_duplicates()[:40]
ORDERED = dict(timestamp_column="timestamp")
TOWERS = {
    "linear": dict(hidden_layer_sizes=(), history=None),
    "long vectors": dict(hidden_layer_sizes=(), normalize=False, temperature=1.0),
    "sums": dict(hidden_layer_sizes=None, history=PooledHistory(5)),
    "tied history, popularity": dict(
        hidden_layer_sizes=None,
        history=PooledHistory(100, dropout=0.5, tied=True),
        user_id_embedding=False,
        popularity_prior=1.0,
    ),
    "hidden layers": dict(
        hidden_layer_sizes=(16, 8),
        batch_norm=True,
        dropout=0.2,
        history=PooledHistory(5),
        **ORDERED,
    ),
    "sequences": dict(hidden_layer_sizes=(), history=TransformerHistory(size=5), **ORDERED),
    "sequences, hidden layers": dict(
        hidden_layer_sizes=(8,), history=TransformerHistory(size=5), **ORDERED
    ),
}


def fitted(**parameters):
    defaults = dict(embedding_dim=8, max_iter=3, random_state=0)
    return TwoTowerRecommender(
        user_column="user_id",
        item_column="item_id",
        user_table=DATA.user_table,
        item_table=DATA.item_table,
        **defaults | parameters,
    ).fit(X)


@pytest.fixture(scope="module", params=TOWERS)
def model(request):
    return fitted(**TOWERS[request.param])


def sums(parts, pairs):
    """Sum of the parts of each pair and side, by side."""
    found = parts.groupby(["user_id", "item_id", "side"])["contribution"].sum()
    index = pd.MultiIndex.from_frame(pairs)
    return {side: found.xs(side, level="side").reindex(index) for side in ("user", "item")}


def test_parts_add_up_to_the_score(model):
    users = model.user_embeddings_[pd.Index(model.user_ids_).get_indexer(PAIRS["user_id"])]
    items = model.item_embeddings_[pd.Index(model.item_ids_).get_indexer(PAIRS["item_id"])]
    scores = (users * items).sum(axis=1)
    parts = model.explain(PAIRS["user_id"], PAIRS["item_id"])
    assert parts.columns.tolist() == ["user_id", "item_id", "side", "field", "contribution"]
    for by_pair in sums(parts, PAIRS).values():
        np.testing.assert_allclose(by_pair, scores, atol=1e-5)


def test_items_add_up_to_the_history(model):
    parts = model.explain(PAIRS["user_id"], PAIRS["item_id"])
    of_field = parts[(parts["side"] == "user") & (parts["field"] == "history")]
    of_items = parts[parts["side"] == "history"]
    assert of_field.empty == of_items.empty == (model.history_ is None)
    if model.history_ is None:
        return
    by = ["user_id", "item_id"]
    totals = of_items.groupby(by)["contribution"].sum()
    expected = of_field.set_index(by)["contribution"]
    np.testing.assert_allclose(totals.reindex(expected.index), expected, atol=1e-5)
    # Each item once, and those that the user had.
    items = of_items[of_items["field"] != "remainder"]
    assert not items.duplicated([*by, "field"]).any()
    had = set(zip(X["user_id"], X["item_id"], strict=True))
    assert set(zip(items["user_id"], items["field"], strict=True)) <= had


def test_pairs_have_parts_of_their_own(model, monkeypatch):
    together = model.explain(PAIRS["user_id"], PAIRS["item_id"])
    alone = model.explain(PAIRS["user_id"].iloc[7], PAIRS["item_id"].iloc[7])
    rows = (together["user_id"] == alone["user_id"][0]) & (
        together["item_id"] == alone["item_id"][0]
    )
    pd.testing.assert_frame_equal(together[rows].reset_index(drop=True), alone, atol=1e-6)
    monkeypatch.setattr(explanations, "_BLOCK", 7)
    with torch.inference_mode():
        blocks = model.explain(PAIRS["user_id"], PAIRS["item_id"])
    pd.testing.assert_frame_equal(blocks, together, atol=1e-6)


def test_linear_parts_by_hand():
    """Sums over the other side's fields, from the weights."""
    model = fitted(hidden_layer_sizes=(), history=None, popularity_prior=None)
    user, item = PAIRS.iloc[0]
    vectors, lengths = {}, {}
    for side, one in (("user", user), ("item", item)):
        tower = model._state.tower(side)
        row = torch.tensor([getattr(model, f"{side}_ids_").tolist().index(one) + 1])
        fields = tower.fields(model._state.side(side).entities.rows(with_id=True).take(row))
        weight, bias = (parameter.detach() for parameter in tower.mlp.output.parameters())
        of_fields = [
            weight[:, 8 * n : 8 * n + 8] @ vector
            for n, vector in enumerate(fields.detach()[0])
        ]
        vectors[side] = torch.stack([*of_fields, bias]).numpy()
        lengths[side] = np.linalg.norm(vectors[side].sum(axis=0))
    table = vectors["user"] @ vectors["item"].T / lengths["user"] / lengths["item"]
    parts = model.explain(user, item).set_index("side")["contribution"]
    np.testing.assert_allclose(parts["user"], table.sum(axis=1), atol=1e-6)
    np.testing.assert_allclose(parts["item"], table.sum(axis=0), atol=1e-6)


def test_integrated_gradients_against_differences():
    """Directional differences at the middles of 400 pieces of the path."""
    model = fitted(hidden_layer_sizes=(8,), activation="tanh", history=None)
    user, item = PAIRS.iloc[0]
    rows, tower = (
        model._state.user.entities.rows(with_id=True),
        model._state.towers.user_tower,
    )
    code = model.user_ids_.tolist().index(user) + 1
    with torch.no_grad():
        start, end = tower.fields(rows.take(torch.tensor([0, code]))).double()
        tower = tower.double()
        other = torch.from_numpy(
            model.item_embeddings_[model.item_ids_.tolist().index(item)]
        ).double()[:8]

        def scores(fields):
            return torch.nn.functional.normalize(tower.combine(fields)) @ other

        middles = start + (torch.arange(400) + 0.5)[:, None, None] / 400 * (end - start)
        expected = []
        for field in range(len(end)):
            step = torch.zeros_like(end)
            step[field] = 1e-4 * (end - start)[field]
            expected.append((scores(middles + step) - scores(middles - step)).mean() / 2e-4)
        remainder = scores(start[None]).item()
    tower.float()
    parts = model.explain(user, item).query("side == 'user'").set_index("field")
    found = parts["contribution"].drop(["remainder", "popularity"], errors="ignore")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # The score of the unknown user.
    assert parts["contribution"]["remainder"] == pytest.approx(remainder, abs=1e-5)


def planted(**parameters):
    """Users of a team like items of the team; a colour says nothing."""
    rng = np.random.default_rng(0)
    users = pd.DataFrame({"user": np.arange(80), "team": np.arange(80) % 2})
    items = pd.DataFrame({"item": np.arange(60), "team": np.arange(60) % 2})
    for frame in (users, items):
        frame["team"] = frame["team"].map({0: "red team", 1: "blue team"})
        frame["colour"] = rng.choice(["green", "grey", "pink"], len(frame))
    user = np.repeat(np.arange(80), 8)
    item = rng.integers(0, 30, len(user)) * 2 + user % 2
    rows = pd.DataFrame({"user": user, "item": item})
    parameters = dict(hidden_layer_sizes=(), id_dropout=0.3) | parameters
    return TwoTowerRecommender(
        user_table=users, item_table=items, random_state=0, **parameters
    ).fit(rows)


@pytest.mark.parametrize("hidden_layer_sizes", [(), (16,)])
def test_the_part_that_decides_is_the_largest(hidden_layer_sizes):
    model = planted(hidden_layer_sizes=hidden_layer_sizes, history=None, max_iter=15)
    users = np.arange(20)
    for sign, items in ((1, users + 20), (-1, users + 21)):  # of one team, of two
        parts = model.explain(users, items)
        parts = parts[~parts["field"].isin(["intercept", "remainder", "popularity"])]
        means = parts.groupby(["side", "field"])["contribution"].mean()
        for side in ("user", "item"):
            assert (means[side] * sign).idxmax() == "team"
            assert means[side].abs().idxmax() == "team"


def test_the_item_of_the_history_that_decides_is_the_largest():
    """A new user with one item of a group of three, and one that all users have."""
    rows = [(u, f"{'abc'[u % 3]}{k}") for u in range(60) for k in range(3)]
    rows = pd.DataFrame([*rows, *((u, "all") for u in range(60))], columns=["user", "item"])
    model = TwoTowerRecommender(
        history=PooledHistory(5), user_id_embedding=False, random_state=0
    ).fit(rows)
    with pytest.warns(UserWarning, match="1 of 1 user ids of user_ids are not known users"):
        parts = model.explain("new", ["b0", "c0"], history={"new": ["b1", "all"]})
    of_items = parts[parts["side"] == "history"]
    values = of_items.set_index(["item", "field"])["contribution"]
    assert values["b0", "b1"] > values["b0", "all"] > values["c0", "b1"]


def test_unknown_users_and_items_are_explained_as_the_unknown_one():
    model = planted(history=None, max_iter=2)
    with pytest.warns(UserWarning) as caught:
        parts = model.explain(["nobody"], ["nothing"])
    messages = [str(warning.message) for warning in caught]
    for side in ("user", "item"):
        assert any(f"are explained as the unknown {side}" in text for text in messages)
    for side in ("user", "item"):
        total = parts.loc[parts["side"] == side, "contribution"].sum()
        assert total == pytest.approx(
            float(model._state.user.unknown @ model._state.item.unknown), abs=1e-5
        )


def test_features_of_a_query_replace_those_of_training():
    model = planted(history=None, max_iter=2)
    changed = pd.DataFrame({"user": [0], "team": ["blue team"], "colour": ["pink"]})
    parts = model.explain(changed, [3, 4])
    vector = model.user_tower_.transform(changed)[0]
    expected = [
        vector @ model.item_embeddings_[list(model.item_ids_).index(i)] for i in (3, 4)
    ]
    for side in ("user", "item"):
        totals = parts[parts["side"] == side].groupby("item")["contribution"].sum()
        np.testing.assert_allclose(totals[[3, 4]], expected, atol=1e-5)


def test_a_pipeline_transforms_rows_and_forwards():
    rows = X[["user_id", "item_id"]].assign(fan=X["user_id"] % 2 == 0, other=1)
    kept = make_column_transformer(
        ("passthrough", ["user_id", "item_id", "fan"]), verbose_feature_names_out=False
    ).set_output(transform="pandas")
    model = TwoTowerRecommender(
        user_column="user_id",
        item_column="item_id",
        user_features=["fan"],
        max_iter=2,
        random_state=0,
    )
    pipeline = make_pipeline(kept, model).fit(rows)
    user = rows[["user_id", "fan"]].head(1)
    found = pipeline.explain(user, [X["item_id"][0]])
    expected = pipeline[-1].explain(user, [X["item_id"][0]])
    pd.testing.assert_frame_equal(found, expected)
    assert "fan" in found["field"].tolist()


def test_what_is_refused():
    model = planted(history=None, max_iter=1)
    with pytest.raises(ValueError, match="user_ids has 2 users and item_ids 3 items"):
        model.explain([1, 2], [1, 2, 3])
    assert model.explain([], []).empty
    with pytest.raises(NotFittedError):
        TwoTowerRecommender().explain([1], [1])
    named = X[["user_id", "item_id"]].set_axis(["side", "item"], axis=1)
    other = TwoTowerRecommender(max_iter=1, random_state=0).fit(named)
    with pytest.raises(ValueError, match="two columns 'side'.*Rename that column of X"):
        other.explain([X["user_id"][0]], [X["item_id"][0]])
