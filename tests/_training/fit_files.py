"""Fits models from files and from frames, in each process of a group of torchrun."""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist

import sktwotower
from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower._data import row_shares
from sktwotower._nn.distributed import RankError
from sktwotower._training import model_making
from sktwotower._training.early_stopping import Validation
from sktwotower._training.fit import Fit
from sktwotower.history import PooledHistory, TransformerHistory
from sktwotower.metrics import make_ranking_scorer

N, GROUP = 600, 50
BY_TIME = {"timestamp_column": "when"}
# What ranks compute together differs: "auto", labels, weights, held-out rows, rows to
# validate on, histories, popularity, features of users and of items, tables.
MODELS = {
    "auto": BY_TIME,
    "labels": {"y": "rating", "loss": "cross_entropy", "user_features": ["city"]},
    "negatives": {
        "y": "rating",
        "history": PooledHistory(3),
        "weight_decay": 0.0,  # rows without an interaction stay
        **BY_TIME,
    },
    "ids": {"user_id_embedding": True, "history": None, "negatives": "in_batch"},
    "held-out rows": {"early_stopping": True, "y": "rating", "popularity_prior": 1.0},
    "latest rows": {
        "early_stopping": True,
        "refit": False,
        "sample_weight": "weight",
        "user_features": ["city", "price"],
        "item_features": ["price", "kind"],
        "history": TransformerHistory(size=4, n_layers=1),
        **BY_TIME,
    },
    "other rows": {
        "X_val": "valid.parquet",
        "y": "rating",
        "validation_metric": ["ndcg@3", "coverage@3", "novelty@3", "roc_auc", "roc_gauc"],
        "user_features": ["city"],
        "item_features": ["price"],
        "history": PooledHistory(3),
        **BY_TIME,
    },
    "tables": {
        "user_table": EntityTable(
            pd.DataFrame({"user": [f"user {i}" for i in range(80)], "size": np.arange(80)}),
            "user",
        ),
        "item_features": "rating",
        "id_dropout": 0.1,
    },
}


def make_rows():
    """Rows of which the last row groups have users, items and weights of their own."""
    rng = np.random.default_rng(0)
    users = rng.integers(40, size=N) + (np.arange(N) > 500) * 30
    items = rng.integers(30, size=N) + np.arange(N) // 100
    return pd.DataFrame(
        {
            "user": [f"user {i}" for i in users],
            "item": items,
            "kind": np.where(np.arange(N) == 60, "new", "old"),  # it changes once
            "when": pd.to_datetime(rng.integers(0, 500, N), unit="h"),
            "city": pd.Categorical(rng.choice(["rome", "oslo", None], N)),
            "price": rng.normal(size=N).round(1),
            "rating": rng.integers(0, 6, N),
            "weight": np.where(np.arange(N) < GROUP, 0.0, rng.integers(0, 3, N) / 2),
        }
    )


def make(**parameters):
    """A model that is not fitted."""
    defaults = dict(embedding_dim=4, max_iter=1, batch_size=64, random_state=0)
    return TwoTowerRecommender(
        user_column="user", item_column="item", **defaults | parameters
    )


def fit(X, name, X_val=None):
    """A model, of which the last rows are added later."""
    columns = "y", "sample_weight", "X_val"
    model = make(**{key: x for key, x in MODELS[name].items() if key not in columns})
    for part in X:
        add(model, part, name, X_val)
    return model


def add(model, part, name, X_val=None):
    """Fit a model, or go on with it."""
    y, weights = (MODELS[name].get(role) for role in ("y", "sample_weight"))
    columns = [column_of(part, y), column_of(part, weights)]
    if hasattr(model, "_state"):
        return model.partial_fit(part, *columns)
    if X_val is None:
        return model.fit(part, *columns)
    return model.fit(part, *columns, X_val=X_val, y_val=column_of(X_val, y))


def column_of(X, name):
    """A column, as fit takes it."""
    return X[name] if isinstance(X, pd.DataFrame) and name is not None else name


def described(model):
    """What a model is, as arrays."""
    state, rows = model._state, model._state.interactions
    times = [] if rows.times is None else [rows.times]
    past = [] if state.past is None else [state.past.histories.items]
    return [
        model.user_ids_,
        model.item_ids_,
        np.array([str(state.settings)]),
        np.array([str(state.roles.times), str(state.item.entities.varying)]),
        np.array(model.loss_curve_),
        np.array(state.log.validation_scores),
        model.user_embeddings_,
        model.item_embeddings_,
        *map(np.asarray, model.recommend(model.user_ids_[:20], 5)),
        *(
            moments.numpy()
            for state_of in state.optimizer[1].values()
            for moments in state_of.values()
        ),
        state.seen.indices,
        *(np.asarray(c) for c in (rows.users, rows.items, rows.positive)),
        *times,
        *past,
    ]


def compare(folder, names):
    """Raise AssertionError if models of files differ from those of frames."""
    files = [folder / "rows.parquet", folder / "more.parquet"]
    frames = [pd.read_parquet(file) for file in files]
    for name in names:
        X_val, frame = MODELS[name].get("X_val"), None
        if X_val is not None:
            X_val = folder / X_val
            frame = pd.read_parquet(X_val)
        first = fit(files[:1], name, X_val)
        first.save(folder / "first")
        # A process goes on with the users of its shard, as they were saved.
        shard = sktwotower.load(folder / "first", shard=dist.get_rank())
        assert_same(described(first), described(shard), name)
        model = add(shard, files[1], name)
        whole = fit(frames, name, frame)
        if frame is not None:
            assert_scores(first, fit(frames[:1], name), frame, name)
        assert_own_users(model, whole)
        model.save(folder / "model")
        assert_same(described(sktwotower.load(folder / "model")), described(whole), name)


def assert_same(one, other, name):
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        assert a.dtype == b.dtype, (name, i)
        np.testing.assert_array_equal(a, b, err_msg=f"{name} {i}")


def assert_own_users(model, whole):
    """The model of a shard answers for its users as the one of all does."""
    own = model.user_ids_
    others = np.setdiff1d(whole.user_ids_, own)
    assert len(own) and len(others)
    for one, other in zip(model.recommend(own, 5), whole.recommend(own, 5), strict=True):
        np.testing.assert_array_equal(one, other)
    for cold in ("mean", "popular"):
        one, other = (
            each.recommend(["new"], 5, cold_start=cold)[1] for each in (model, whole)
        )
        np.testing.assert_allclose(one, other, rtol=1e-5)
    with pytest.raises(ValueError, match=f"1 of 2 user ids, such as '{others[0]}'"):
        model.recommend([own[0], others[0]])


def assert_scores(model, whole, X_val, name):
    """The scores of a validation, which each process has, are those of all users."""
    score = make_ranking_scorer(MODELS[name]["validation_metric"])
    expected = score(whole, X_val, X_val[MODELS[name]["y"]])
    assert list(expected) == MODELS[name]["validation_metric"]
    for metric, (found,) in model.validation_scores_.items():
        assert found == pytest.approx(expected[metric], rel=1e-12)


def stop_early(folder):
    """A validation has the users of its process, and the best epoch is the model."""
    parameters = dict(learning_rate=0.5, lr_schedule="constant", history=PooledHistory(3))
    X, X_val, states, weights = folder / "rows.parquet", folder / "valid.parquet", [], {}
    score, finish = Validation.score, Fit.finish

    def scored(validation, state):
        states.append(state)
        return score(validation, state)  # users of other shards would be refused

    def finished(fit, *refit_rows):
        weights.update(fit.best_weights)
        return finish(fit, *refit_rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validation, "score", scored)
        patch.setattr(Fit, "finish", finished)
        model = make(max_iter=9, early_stopping=True, n_iter_no_change=2, **parameters)
        model.fit(X, X_val=X_val)
    best = int(np.argmax(model.validation_scores_)) + 1
    assert best < model.n_iter_
    for state in states:
        assert state.users.ids.tolist() == model.user_ids_.tolist()
        assert len(state.user.embeddings) == len(model.user_ids_)
        assert (state.seen != model.seen_).nnz == 0
        assert len(state.interactions) == len(model._state.interactions)
    n_own = len(model.item_ids_) // dist.get_world_size() + 1
    assert len(weights["item_tower.id_table"]) <= n_own
    by_hand = make(max_iter=best, **parameters).fit(X)
    np.testing.assert_array_equal(model.user_embeddings_, by_hand.user_embeddings_)
    np.testing.assert_array_equal(model.item_embeddings_, by_hand.item_embeddings_)
    refitted = make(max_iter=3, early_stopping=True, **parameters).fit(X)
    assert len(refitted.loss_curve_) == 3


def validate_training_rows(folder):
    """A note of a part of the training rows comes from all processes, or from none."""
    X = folder / "rows.parquet"
    rows, ids = pd.read_parquet(X), [None] * dist.get_world_size()
    dist.all_gather_object(ids, make().fit(X).user_ids_)
    for X_val, n_notes in ((rows, 0), (rows[rows["user"].isin(ids[0])], 1)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            make().fit(X, X_val=X_val)
        notes = [one for one in caught if "All relevant pairs of" in str(one.message)]
        assert len(notes) == n_notes


def refuse_the_shard_of_another(folder):
    """All processes raise an error where one has loaded the shard of another."""
    model = sktwotower.load(folder / "model", shard=0)
    own = dist.get_rank() == 0
    error, message = (RankError, "have failed") if own else (ValueError, "of shard 0 of")
    for call in (
        lambda: model.partial_fit(folder / "more.parquet"),
        lambda: model.save(folder / "another"),
    ):
        with pytest.raises(error, match=message):
            call()


def fit_one_user(folder):
    """A model of which one process has no user, to train or to validate."""
    model = fit([folder / "one.parquet"], "ids", folder / "one.parquet")
    assert 0 < model.best_validation_score_ <= 1
    items, _ = model.recommend(["new"], 5)
    assert items.shape == (1, 5) and len(model.user_ids_) == (dist.get_rank() == 1)
    model.save(folder / "one")
    whole = sktwotower.load(folder / "one")
    np.testing.assert_array_equal(items, whole.recommend(["new"], 5)[0])
    assert len(whole.user_ids_) == 1


def save_an_added_item(folder):
    """A model with an item that no process has seen in a row."""
    model = fit([folder / "rows.parquet"], "tables")
    model.add_items(pd.DataFrame({"item": [1000], "rating": [3]}))
    model.save(folder / "added")
    shard = sktwotower.load(folder / "added", shard=dist.get_rank())
    assert_same(described(model), described(shard), "added")


def fail_alone(folder):
    """What one process alone finds is an error of all, which do not wait for it."""
    model = fit([folder / "one.parquet"], "ids")
    is_first = dist.get_rank() == 0
    metrics, error = ({"ndcg": "high"}, TypeError) if is_first else (None, RankError)
    with pytest.raises(error):
        model.save(folder / "one", metrics=metrics)

    def diverge(*_):
        raise ValueError("not finite")

    with pytest.MonkeyPatch.context() as patch:
        if is_first:
            patch.setattr(model_making, "embedded_side", diverge)
        with pytest.raises(ValueError if is_first else RankError):
            fit([folder / "one.parquet"], "ids")


def message_of(path):
    """What a fit says of a file."""
    try:
        fit([path], "auto")
    except ValueError as error:
        return str(error)
    return "nothing"


def main():
    torch.set_num_threads(1)
    row_shares._BLOCK = 32
    dist.init_process_group("gloo")
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    if dist.get_rank() == 0:
        rows = make_rows()
        rows[:500].to_parquet(folder / "rows.parquet", row_group_size=GROUP)
        rows[450:].to_parquet(folder / "more.parquet", row_group_size=GROUP)
        valid = rows[::3].assign(item=rows["item"][::3] + 5)
        valid.loc[::30, "user"] = "nobody"
        valid.to_parquet(folder / "valid.parquet", row_group_size=GROUP)
        one = rows[rows["user"] == rows["user"][0]]
        one.to_parquet(folder / "one.parquet", row_group_size=2)
        bad = rows.assign(user=rows["user"].where(rows.index != 570))
        bad.to_parquet(folder / "bad.parquet", row_group_size=GROUP)
    dist.barrier()
    compare(folder, names)
    stop_early(folder)
    validate_training_rows(folder)
    fit_one_user(folder)
    save_an_added_item(folder)
    refuse_the_shard_of_another(folder)
    fail_alone(folder)
    message = message_of(folder / "bad.parquet")
    (folder / f"{os.environ['RANK']}.txt").write_text(message)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
