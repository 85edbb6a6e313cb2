"""Quality against seconds: what peers keep of their epochs, the table, and the points."""

import sys
from argparse import Namespace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from benchmarks import time_to_quality
from benchmarks._peers import Peer
from benchmarks.peers import protocol
from benchmarks.suite.cells import Cells
from benchmarks.suite.curves import STYLES, draw, summary
from benchmarks.suite.data import DataSet, last_fifth
from benchmarks.suite.scores import Pairs, ScoredItems
from benchmarks.suite.scoring import evaluate
from benchmarks.time_to_quality import Curve, curves_of, of_peer, of_towers, some_users
from sktwotower import EntityTable, TwoTowerRecommender
from tests.helpers import make_X, needs_sklearn_1_9

# A peer whose vectors are popularity after its first two epochs, and its opposite then;
# with the sign -1 it is the other way round.
PEER = f"""
import json, sys
sys.path.insert(0, {protocol.__file__.removesuffix("protocol.py")!r})
import numpy as np
import pandas as pd
from protocol import EACH_EPOCH, Epochs, read_configuration

config = read_configuration(EACH_EPOCH | dict(threads=1, user_table="", sign=1))
counts = pd.read_parquet(config["train"])["item_id"].value_counts().sort_index()
users = pd.read_parquet(config["train"])["user_id"].unique()
assert set(pd.read_parquet(config["user_table"])["user_id"]) == set(users)
epochs = Epochs(config, 3)
for sign in (1, 1, -1):
    items = config["sign"] * sign * counts.to_numpy()[:, None]
    vectors = dict(users=np.ones((len(users) + 1, 1)), items=items)
    ids = dict(user_ids=sorted(users), item_ids=counts.index)
    epochs.end(lambda path: np.savez(path, **vectors, **ids))
json.dump(dict(epochs=epochs.seconds, versions=dict(peer="1.0")), sys.stdout)
"""


def record(n_rows=500):
    """A small data set by time, with strings for users and a table of them."""
    rows = make_X(n_rows=n_rows, n_users=30, n_items=40).drop_duplicates(["user", "item"])
    rows = rows.assign(user="u" + rows["user"].astype(str))
    users = pd.DataFrame({"user": [*rows["user"].unique(), "nobody"]})
    table = EntityTable(users.assign(gender="f"), "user")
    cut = partial(last_fifth, "time", "user")
    return DataSet("few-rows", *cut(rows), cut, "user", "item", "time", user_table=table)


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(protocol, "time", Clock())
    return protocol.time


def run_epochs(clock, epochs, n_epochs, *, seconds=1.0):
    for _ in range(n_epochs):
        clock.now += seconds

        def write(path):
            clock.now += 100.0  # which does not count
            path.touch()

        epochs.end(write)


def test_a_peer_keeps_some_epochs_and_the_last(clock, tmp_path):
    config = protocol.EACH_EPOCH | {"each_epoch": str(tmp_path)}
    epochs = protocol.Epochs(config, 15)
    run_epochs(clock, epochs, 15)
    assert epochs.seconds == {n: n for n in (1, 2, 3, 5, 7, 10, 14, 15)}
    assert {path.stem for path in tmp_path.iterdir()} == set(map(str, epochs.seconds))


def test_a_peer_stops_after_the_epoch_that_exceeds_the_budget(clock, tmp_path):
    config = {"each_epoch": str(tmp_path), "budget": 11.5}
    epochs = protocol.Epochs(config, 15)
    with pytest.raises(protocol.BudgetSpentError):
        run_epochs(clock, epochs, 15)
    assert list(epochs.seconds) == [1, 2, 3, 5, 7, 10, 12]


def test_nothing_is_kept_without_a_folder(clock):
    epochs = protocol.Epochs({**protocol.EACH_EPOCH, "budget": 0.5}, 3)
    run_epochs(clock, epochs, 3)
    assert epochs.seconds == {} and clock.now == 3


def test_a_peer_is_evaluated_after_each_epoch_that_it_keeps(tmp_path):
    script = tmp_path / "peer.py"
    script.write_text(PEER)
    peer = Peer("popularity", sys.executable, script, 1)
    one = record()
    points, fitted = of_peer(peer, one, {"sign": -1})
    epochs, seconds, quality = zip(*points, strict=True)
    assert epochs == (1, 2, 3) and fitted == {"versions": {"peer": "1.0"}}
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    pairs = Pairs.of(one)
    counts = one.train["item"].value_counts()[pairs.item_ids].to_numpy(dtype=float)
    best, worst = (
        evaluate(ScoredItems(pairs, partial(one_for_all, scores)), one)["ndcg@10"]
        for scores in (counts, -counts)
    )
    assert quality == (worst, worst, best) and worst < best


def one_for_all(scores, rows):
    """The same scores for each user."""
    return np.tile(scores, (len(rows), 1))


@needs_sklearn_1_9
def test_the_points_of_two_towers_are_those_of_a_fit():
    one = record(n_rows=300)
    points, fitted = of_towers(one, one.ids)
    plain = TwoTowerRecommender(**one.ids, random_state=0).fit(one.train)
    epochs, seconds, quality = zip(*points, strict=True)
    assert list(epochs) == list(range(1, plain.n_iter_ + 1))
    assert fitted["n_iter_"] == plain.n_iter_
    assert min(np.diff([0, *seconds])) > 0
    assert quality[-1] == evaluate(plain, one)["ndcg@10"]


def test_a_cell_is_measured_once_and_on_a_slice(tmp_path, monkeypatch):
    one = record()
    monkeypatch.setattr(time_to_quality, "load", lambda name, shared: (one,))
    seen = []

    def measure(part, settings):
        seen.append((part, settings))
        return [(1, 0.5, 0.1), (2, 1.0, 0.3)], {"a": 1}

    curves = [
        Curve("EASE", measure, {"regularization": 3}),
        Curve("implicit ALS", measure, {"factors": 3}),
        Curve("two-tower", measure, suits=lambda part: False),
    ]
    chosen, cells = (Cells(tmp_path / f"{name}.jsonl") for name in ("chosen", "cells"))
    chosen.cells = [
        {"data": "few-rows", "model": "EASE", "settings": {"regularization": 9}}
    ]
    options = Namespace(shared=tmp_path, users=20)
    for _ in range(2):
        time_to_quality.run("few-rows", curves, cells, chosen, options)
        cells = Cells(cells.path)
    assert [settings for _, settings in seen] == [{"regularization": 9}, {"factors": 3}]
    assert [cell["quality"] for cell in cells.cells] == [[0.1, 0.3]] * 2
    part = seen[0][0]
    held_out = set(one.train.index) - set(part.train.index)
    assert part.test["user"].nunique() == 20
    assert set(part.test.index) < held_out
    assert len(some_users(one, 1000).test) == len(one.test)


def cell(data, model, seconds, quality):
    """A cell with so many points."""
    named = {"data": data, "model": model, "metric": "ndcg@10"}
    return named | {"seconds": seconds, "quality": quality}


MADE_UP = [
    cell("ml-1m", "two-tower", [1.0, 2.0, 3.0], [0.2, 0.39, 0.38]),
    cell("ml-1m", "EASE", [0.5], [0.4]),
    cell("ml-1m", "RecTools DSSM", [4.0, 5.0], [0.1, 0.15]),
    cell("ml-1m", "LibRecommender TwoTower", [6.0, 7.0], [0.05, 0.2]),
    cell("ml-100k", "two-tower", [0.1], [0.3]),
    cell("ml-100k", "most popular", [0.01], [0.1]),
]


def test_the_table_says_how_soon_others_are_reached():
    table = summary(MADE_UP).set_index(["data", "model"])
    assert [name for name, _ in table.index] == ["ml-100k"] * 2 + ["ml-1m"] * 4
    towers = table.loc[("ml-1m", "two-tower")]
    assert towers["best"] == 0.39 and towers["seconds"] == 2
    assert towers["until 95% of EASE"] == 2
    assert towers["until 95% of a neural peer"] == 1  # the better one has .2
    assert table["until 95% of EASE"].notna().sum() == 2  # the other one is EASE
    reached = table.loc["ml-1m", "until 95% of a neural peer"]
    assert reached.isna().tolist() == [False, False, True, False]
    assert table.loc["ml-100k"].iloc[:, -2:].isna().all(axis=None)  # of no model there


def test_the_picture_is_drawn_from_cells(tmp_path):
    draw(MADE_UP, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_each_model_has_a_style(tmp_path):
    peer = Peer("", tmp_path, tmp_path, 1)
    names = [curve.name for curve in curves_of(peer, peer, peer, 1.0)]
    assert set(names) == set(STYLES)
    assert len(curves_of(None, None, None, 1.0)) == 4
