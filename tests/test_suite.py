"""The suite of benchmarks: how rows are cut, what is measured anew, and the dual EASE."""

from argparse import Namespace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from benchmarks.suite import __main__ as suite
from benchmarks.suite.cells import Cells, markdown
from benchmarks.suite.data import (
    DataSet,
    last_fifth,
    load,
    random_fifth_of_some,
    slice_of_train,
)
from benchmarks.suite.models import (
    Fit,
    Model,
    best_settings,
    climb,
    fit_baseline,
    fit_best_epoch,
    models_of,
)
from benchmarks.suite.picture import STYLES, draw
from benchmarks.suite.scores import Pairs, ScoredItems
from benchmarks.suite.scoring import METRICS, evaluate
from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender, PopularRecommender
from tests.helpers import make_X, needs_sklearn_1_9

# Data sets that need no folder.
HERE = ["ml-latest-small", "retail-first", "retail-repeats", "few-rows"]


def record(n_rows=600, n_users=30, n_items=50, **attributes):
    """A small data set by time, without repeats."""
    rows = make_X(n_rows=n_rows, n_users=n_users, n_items=n_items)
    rows = rows.drop_duplicates(["user", "item"])
    cut = partial(last_fifth, "time", "user")
    return DataSet("few-rows", *cut(rows), cut, "user", "item", "time", **attributes)


@pytest.mark.parametrize("name", HERE)
def test_a_slice_of_train_has_no_test_row(name, tmp_path):
    for one in load(name, tmp_path):
        part = slice_of_train(one)
        assert len(part.train) + len(part.test) == len(one.train)
        together = pd.concat([part.train, part.test]).index
        assert set(together) == set(one.train.index)
        assert part.given() == one.given()


@pytest.mark.parametrize("name", ["ml-latest-small", "retail-first"])
def test_the_last_fifth_of_each_user_is_held_out(name, tmp_path):
    (one,) = load(name, tmp_path)
    for each in (one, slice_of_train(one)):
        earlier = each.train.groupby(each.user_column)[each.timestamp_column].max()
        later = each.test.groupby(each.user_column)[each.timestamp_column].min()
        assert (earlier.loc[later.index] <= later).all()
        assert 0.17 < len(each.test) / (len(each.train) + len(each.test)) < 0.2


def test_first_purchases_have_no_repeats_and_the_last_days_are_28(tmp_path):
    (first,) = load("retail-first", tmp_path)
    (repeats,) = load("retail-repeats", tmp_path)
    pairs = [first.user_column, first.item_column]
    assert not pd.concat([first.train, first.test]).duplicated(pairs).any()
    assert first.exclude_seen and not repeats.exclude_seen
    for each in (repeats, slice_of_train(repeats)):
        assert each.train["time"].max() < each.test["time"].min()
        days = (each.test["time"].max() - each.train["time"].max()).days
        assert 27 <= days <= 29


def test_the_slice_of_a_sequence_is_its_valid_part(tmp_path):
    folder = tmp_path / "data" / "sequences" / "toys"
    folder.mkdir(parents=True)
    rows = pd.DataFrame(
        {"user_id": np.repeat([1, 2], 4), "item_id": range(8), "position": [0, 1, 2, 3] * 2}
    )
    parts = {"train": [0, 1], "valid": [2], "test": [3]}
    for part, positions in parts.items():
        chosen = rows[rows["position"].isin(positions)]
        chosen.to_parquet(folder / f"{part}.parquet")
    items = pd.DataFrame({"item_id": range(8), "attributes": "1|2"})
    items.to_parquet(folder / "items.parquet")
    (one,) = load("toys", tmp_path)
    assert one.test["item_id"].tolist() == [3, 7]
    assert slice_of_train(one).test["item_id"].tolist() == [2, 6]
    assert slice_of_train(one).train["position"].max() == 1


def test_a_fifth_of_the_rows_of_some_users():
    rows = make_X(n_rows=400, n_users=20, n_items=50)
    train, test = random_fifth_of_some(5, "user", rows)
    assert test["user"].nunique() == 5
    assert sorted([*train.index, *test.index]) == list(rows.index)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_other_recommenders_are_measured_as_those_of_the_package(exclude_seen):
    one = record(exclude_seen=exclude_seen)
    ease = EASERecommender(**one.ids, regularization=5.0).fit(one.train)
    pairs = Pairs.of(one)
    order = pd.Index(ease.item_ids_).get_indexer(pairs.item_ids)
    weights = ease.item_weights_[np.ix_(order, order)]
    other = ScoredItems(pairs, lambda rows: pairs.matrix[rows] @ weights)
    assert evaluate(other, one) == pytest.approx(evaluate(ease, one))


def test_an_unknown_item_is_dropped_or_not_found():
    one = record()
    last = one.test.groupby("user").head(1)
    half = np.arange(len(last)) % 2 == 0
    last = last.assign(item=np.where(half, last["item"], -1))
    model = PopularRecommender(**one.ids).fit(one.train)
    dropped, missed = (
        evaluate(
            model,
            DataSet("", one.train, last, one.cut, "user", "item", counts_unknown=counts),
        )
        for counts in (False, True)
    )
    assert missed["ndcg@10"] == pytest.approx(dropped["ndcg@10"] * half.mean())
    assert missed["coverage@10"] == dropped["coverage@10"]


@pytest.mark.parametrize("best", [0, 1, 7, 8, 10, 16])
def test_climbing_finds_the_top_without_trying_everything(best):
    tried = []

    def score(value):
        tried.append(value)
        return -abs(value - best)

    assert climb(tuple(range(17)), score) == best
    assert len(tried) == len(set(tried)) < 10


def test_the_best_settings_are_those_on_the_slices():
    slices = [slice_of_train(record()), slice_of_train(record(n_rows=400))]
    grid = tuple({"regularization": r} for r in (0.01, 1.0, 1000.0))
    model = Model("EASE", partial(fit_baseline, EASERecommender), grid)
    means = [
        np.mean(
            [
                EASERecommender(**part.ids, **one).fit(part.train).score(part.test)
                for part in slices
            ]
        )
        for one in grid
    ]
    assert best_settings(model, slices) == grid[np.argmax(means)]
    assert best_settings(Model("", model.fit), slices) == {}


class Counted:
    """Fits of a model, by seed and settings."""

    def __init__(self):
        self.seeds = []
        self.settings = []

    def __call__(self, one, seed, settings):
        self.seeds.append(seed)
        self.settings.append(settings)
        model = PopularRecommender(**one.ids).fit(one.train)
        return Fit(model, 1.0, {})


def test_a_cell_is_measured_once(tmp_path):
    path = tmp_path / "results.jsonl"
    options = Namespace(seeds=2, shared=tmp_path)
    fixed, random, chosen = Counted(), Counted(), Counted()
    grid = ({"a": 1}, {"a": 2})
    models = [
        Model("fixed", fixed),
        Model("random", random, is_random=True),
        Model("chosen", chosen, grid, is_random=True),
        Model("other", fixed, suits=lambda one: False),
    ]
    for _ in range(2):  # the second time nothing is left
        suite.run("few-rows", "test", models, Cells(path), options)
    assert fixed.seeds == [0] * 4  # one for each fold
    assert random.seeds == [0] * 4 + [1] * 4
    assert chosen.settings == [grid[0]] * 4 + [grid[1]] * 4 + [grid[0]] * 8
    assert len(path.read_text().splitlines()) == 5

    cells = Cells(path)
    suite.forget(cells, ["few-rows"], "test", models[1:2])
    assert [cell["model"] for cell in cells.cells] == ["fixed", "chosen", "chosen"]
    options.seeds = 1
    suite.run("few-rows", "test", models, Cells(path), options)
    assert random.seeds == [0] * 4 + [1] * 4 + [0] * 4
    suite.run("few-rows", "slice", models[2:3], Cells(path), options)
    assert chosen.settings[16:] == [grid[0]] * 4  # chosen before
    cell = Cells(path).cells[-1]
    assert cell["part"] == "slice" and cell["folds"] == 4
    assert set(cell["metrics"]) == set(METRICS) and cell["date"] and cell["commit"]


def test_the_table_has_medians_by_the_reference(tmp_path):
    cells = Cells(tmp_path / "results.jsonl")
    values = {("few-rows", "EASE"): [0.2], ("few-rows", "two-tower"): [0.1, 0.5, 0.22]}
    values |= {("made-2m", "item-kNN"): [0.4], ("made-2m", "two-tower"): [0.3]}
    for (data, model), of_seeds in reversed(values.items()):
        for seed, value in enumerate(of_seeds):
            key = {"data": data, "part": "test", "model": model, "seed": seed}
            metrics = {"metric": "ndcg@10", "metrics": {"ndcg@10": value}}
            cells.add({**key, **metrics, "fit s": 12.3})
    table = cells.frame("test").set_index(["data", "model"])
    assert list(dict.fromkeys(table.index.get_level_values("data"))) == [
        "few-rows",
        "made-2m",
    ]
    assert table.loc[("few-rows", "two-tower"), "ratio"] == pytest.approx(1.1)
    assert table.loc[("made-2m", "two-tower"), "ratio"] == pytest.approx(0.75)
    table = table.reset_index()
    text = markdown(table, ["item-kNN", "EASE", "two-tower"])
    assert "| few-rows | ndcg@10 |  | .2000 1.000 (12 s) | .2200 1.100 (12 s) |" in text
    draw(table, tmp_path / "suite.png")
    assert (tmp_path / "suite.png").stat().st_size > 10_000


def test_the_defaults_are_given_what_the_data_has(tmp_path):
    shop, few = (load(name, tmp_path)[0] for name in ("retail-first", "few-rows"))
    names = ["timestamp_column", "user_table", "item_table", "item_encoder"]
    assert list(shop.given()) == ["user_column", "item_column", *names]
    assert few.has_ids_only and not shop.has_ids_only
    defaults = TwoTowerRecommender().get_params(deep=False)
    model = clone(TwoTowerRecommender(**shop.given())).get_params(deep=False)
    assert {name for name, value in model.items() if value is not defaults[name]} == set(
        shop.given()
    )
    models = {model.name: model for model in models_of(None)}
    assert list(models) == [name for name in STYLES if not name.startswith("implicit")]
    assert models["two-tower"].suits(shop) and not models["two-tower"].suits(few)


@needs_sklearn_1_9
def test_the_best_epoch_is_the_best_of_those_of_the_fit():
    one = record(n_rows=300)
    fit = fit_best_epoch(one, 0, {})
    last = TwoTowerRecommender(**one.given(), random_state=0).fit(one.train)
    best = evaluate(fit.recommender, one)["ndcg@10"]
    assert best >= evaluate(last, one)["ndcg@10"]
    assert 1 <= fit.details["best epoch"] <= last.n_iter_
