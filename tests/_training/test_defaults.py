"""What "auto" stands for: facts of the data, the rules, and what fit makes of them."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sktwotower import TwoTowerRecommender, load
from sktwotower._data.histories import InteractionCodes
from sktwotower._training import defaults, facts
from sktwotower._training.configuration import Configuration
from sktwotower._training.defaults import choose
from sktwotower._training.facts import DataFacts
from sktwotower._training.settings import (
    OF_WEIGHTS,
    PooledSettings,
    Settings,
    TransformerSettings,
)
from sktwotower.history import PooledHistory, TransformerHistory
from sktwotower.model_selection import InteractionKFold
from sktwotower.utils import _column_store as column_store
from tests.helpers import make_model, make_X, same_embeddings

X = make_X()
TIMES = {"user_column": "user", "item_column": "item", "timestamp_column": "time"}
FACTS = {
    "n_positives": 10_000,
    "n_negatives": 0,
    "n_users": 500,
    "n_items": 300,
    "n_items_with_rows": 300,
    "rows_per_user": (5.0, 10.0, 30.0),
    "most_rows_of_a_user": 200,
    "most_rows_of_an_item": 900,
    "order": None,
    "rows_per_visit": None,
    "has_user_features": False,
    "has_item_features": False,
}


def facts_of(**facts):
    return DataFacts(**FACTS | facts)


def configured(**parameters):
    parameters = TwoTowerRecommender(**parameters).get_params(deep=False)
    return Configuration.of(parameters, owner="TwoTowerRecommender")


def chosen(parameters=None, before=None, continues=False, **facts):
    """The values alone."""
    choices = choose(
        configured(**parameters or {}), facts_of(**facts), before, continues=continues
    )
    return {name: choice.value for name, choice in choices.items()}


# --- facts -------------------------------------------------------------------------------


def codes_of(users, items, positive=None, times=None):
    n = len(users)
    return InteractionCodes(
        np.array(users, dtype=np.int32),
        np.array(items, dtype=np.int32),
        np.ones(n, dtype=bool) if positive is None else np.array(positive, dtype=bool),
        None if times is None else np.array(times),
    )


def read(interactions, n_users=4, n_items=5):
    return DataFacts.of(
        interactions, n_users, n_items, has_user_features=True, has_item_features=False
    )


def test_facts_by_hand():
    found = read(
        codes_of(
            users=[1, 1, 1, 2, 2, 3, 3],
            items=[1, 2, 3, 1, 2, 1, 5],
            positive=[1, 1, 1, 1, 1, 1, 0],
        )
    )
    assert found == DataFacts(
        n_positives=6,
        n_negatives=1,
        n_users=3,
        n_items=3,
        n_items_with_rows=4,
        rows_per_user=(1.5, 2.0, 2.5),
        most_rows_of_a_user=3,
        most_rows_of_an_item=3,
        order=None,
        rows_per_visit=None,
        has_user_features=True,
        has_item_features=False,
    )


@pytest.mark.parametrize("kind", [np.int64, np.float64, np.int32, np.uint8])
@pytest.mark.parametrize(
    ("times", "order"),
    [
        ([1, 2, 3, 1, 2, 9], 1.0),
        ([3, 2, 1, 2, 1, 9], 1.0),  # in another order of rows
        ([7, 7, 7, 7, 7, 7], 0.0),
        ([1, 1, 1, 2, 2, 3], 0.0),  # it differs between users only
        ([1, 1, 2, 5, 6, 0], 2 / 3),
        ([1, 2, 2, 5, 5, 0], 2 / 3),  # a tie of later rows is a later row
    ],
)
def test_order_is_the_share_of_rows_with_an_earlier_one(times, order, kind):
    rows = codes_of([1, 1, 1, 2, 2, 3], [1] * 6, times=np.array(times, dtype=kind))
    assert read(rows).order == pytest.approx(order)


def test_order_against_brute_force():
    """And explicit negatives, which are in no history, do not count."""
    rng = np.random.RandomState(0)
    for _ in range(50):
        n = rng.randint(5, 40)
        frame = pd.DataFrame(
            {
                "users": rng.randint(1, 5, n),
                "positive": np.arange(n) < 3 + rng.randint(n - 3),
                "times": rng.randint(0, rng.randint(1, 20), n),
            }
        )
        interactions = codes_of(
            frame["users"], np.ones(n), frame["positive"], frame["times"]
        )
        n_later = n_repeated = 0
        for _, rows in frame[frame["positive"]].groupby("users"):
            n_repeated += len(rows) - 1
            n_later += (rows["times"] > rows["times"].min()).sum()
        expected = n_later / n_repeated if n_repeated else 0.0
        assert read(interactions).order == pytest.approx(expected)


@pytest.mark.parametrize(
    ("times", "mean"),
    [
        ([1, 2, 3, 1, 2, 9], 1.0),  # of different users, a time is two
        ([7, 7, 7, 7, 7, 7], 2.0),
        ([1, 1, 2, 5, 6, 0], 6 / 5),
        ([1, 1, 1, 5, 5, 0], 2.0),
    ],
)
def test_rows_per_visit_are_those_of_a_user_at_one_time(times, mean):
    rows = codes_of([1, 1, 1, 2, 2, 3], [1] * 6, times=times)
    assert read(rows).rows_per_visit == pytest.approx(mean)
    negatives = codes_of([1, 1, 2], [2] * 3, positive=[0] * 3, times=times[:3])
    assert read(rows.followed_by(negatives)).rows_per_visit == pytest.approx(mean)


def test_visits_of_very_many_rows_are_those_of_some_users(monkeypatch):
    rng = np.random.RandomState(0)
    rows = codes_of(rng.randint(1, 501, 9000), [1] * 9000, times=rng.randint(0, 20, 9000))
    whole = read(rows, n_users=500).rows_per_visit
    monkeypatch.setattr(facts, "_ROWS_TO_LOOK_AT", 1500)
    some = read(rows, n_users=500).rows_per_visit
    assert some != whole and some == pytest.approx(whole, rel=0.03)


def test_facts_are_those_of_all_blocks(monkeypatch):
    rng = np.random.RandomState(0)
    rows = codes_of(
        rng.randint(1, 5, 40),
        rng.randint(1, 6, 40),
        rng.randint(0, 2, 40),
        rng.randint(0, 9, 40),
    )
    whole = read(rows)
    monkeypatch.setattr(column_store, "ROWS_AT_ONCE", 3)
    assert read(rows) == whole


# --- rules -------------------------------------------------------------------------------

TWENTY = PooledSettings(size=20)
BAG = PooledSettings(size=None, dropout=0.5, tied=True)
PLAIN = {"history": None}
ORDERED = {"history": PooledHistory(20)}
READ = {"history": TransformerHistory()}
TIMED = {"timestamp_column": 2}
IN_ORDER = {"order": 0.5, "rows_per_visit": 2.0, "n_users": 1000, "n_positives": 1_000_000}


@pytest.mark.parametrize(
    ("name", "parameters", "given", "value"),
    [
        ("history", {}, {"order": None}, BAG),
        ("history", {}, {"rows_per_user": (1.0, 1.5, 2.0)}, None),
        ("history", {}, {"n_negatives": 5}, None),
        ("history", {"loss": "bpr"}, {}, None),
        ("history", {"negatives": "random"}, {}, BAG),
        ("history", {"item_id_embedding": False}, {}, None),
        ("history", TIMED, IN_ORDER | {"n_users": 999}, TWENTY),
        ("history", TIMED, IN_ORDER | {"rows_per_visit": 2.1}, TWENTY),
        ("history", TIMED, IN_ORDER | {"n_negatives": 1}, TWENTY),
        ("history", TIMED, IN_ORDER | {"n_positives": 1_000_001}, TWENTY),
        ("history", TIMED, IN_ORDER, TransformerSettings()),
        ("history", TIMED | {"embedding_dim": 32}, IN_ORDER, TransformerSettings()),
        ("history", TIMED | {"embedding_dim": 33}, IN_ORDER, TWENTY),
        ("history", TIMED | {"loss": "bpr"}, IN_ORDER, TWENTY),
        ("history", TIMED | {"normalize": False}, IN_ORDER, TWENTY),
        ("history", TIMED | {"item_id_embedding": False}, IN_ORDER, TWENTY),
        ("history", TIMED, IN_ORDER | {"order": 0.49}, BAG),
        ("history", TIMED, IN_ORDER | {"order": 0.0}, BAG),
        ("history", {"history": None, "timestamp_column": 2}, IN_ORDER, None),
        ("history", {"history": PooledHistory(3)}, {}, PooledSettings(size=3)),
        ("user_id_embedding", {}, {}, False),
        ("user_id_embedding", PLAIN, {}, True),
        ("user_id_embedding", READ, {}, False),
        ("user_id_embedding", {"user_id_embedding": True}, {}, True),
        ("embedding_dim", {}, {}, 256),
        ("embedding_dim", {}, {"n_items": 50_000}, 256),
        ("embedding_dim", {}, {"n_items": 50_001}, 128),
        ("embedding_dim", PLAIN, {}, 64),
        ("embedding_dim", READ, {"order": 1.0, "n_items": 2500}, 64),
        ("embedding_dim", READ, {"order": 1.0, "n_items": 2501}, 128),
        ("embedding_dim", {"embedding_dim": 7}, {}, 7),
        ("hidden_layer_sizes", {}, {}, None),
        ("hidden_layer_sizes", PLAIN, {}, ()),
        ("hidden_layer_sizes", READ, {}, None),
        ("hidden_layer_sizes", {"hidden_layer_sizes": 7}, {}, (7,)),
        ("temperature", {}, {}, 1 / np.log(300)),
        ("temperature", {}, {"n_items": 10}, 0.25),
        ("temperature", {}, {"n_items": 10**9}, 0.05),
        ("temperature", {"normalize": False}, {}, 1.0),
        ("temperature", PLAIN, {}, 0.12),
        ("temperature", PLAIN | {"normalize": False}, {}, 1.0),
        ("temperature", ORDERED, {}, 0.1),
        ("temperature", READ, {}, 1 / np.log(300)),
        ("temperature", ORDERED | {"normalize": False}, {}, 1.0),
        ("temperature", {"temperature": "learned"}, {}, "learned"),
        ("learning_rate", {}, {}, 1e-2),
        ("learning_rate", PLAIN, {}, 5e-3),
        ("learning_rate", READ, {}, 5e-3),
        ("learning_rate", {"learning_rate": 0.5}, {}, 0.5),
        ("max_iter", {}, {"n_positives": 10 * 2048}, 20),
        ("max_iter", {}, {"n_positives": 9 * 2048}, 23),
        ("max_iter", {}, {"n_positives": 20 * 2048}, 10),
        ("max_iter", {}, {"n_positives": 10**6}, 10),
        ("max_iter", {}, {"n_positives": 5 * 2048}, 40),
        ("max_iter", {}, {"n_positives": 2}, 40),
        ("max_iter", {}, {"n_positives": 10**6, "n_items": 40_000}, 20),
        ("max_iter", {}, {"n_positives": 10**6, "n_items": 60_001}, 31),
        ("max_iter", {}, {"n_positives": 10**6, "n_items": 10**6}, 40),
        ("max_iter", PLAIN, {}, 15),
        ("max_iter", READ, {}, 15),
        ("max_iter", {"max_iter": 3}, {}, 3),
        ("batch_size", {}, {}, 2048),
        ("batch_size", {}, {"n_positives": 500 * 2048}, 2048),
        ("batch_size", {}, {"n_positives": 500 * 2048 + 1}, 2049),
        ("batch_size", {}, {"n_positives": 10**7}, 20_000),
        ("batch_size", {}, {"n_positives": 10**9}, 65_536),
        ("batch_size", PLAIN, {}, 512),
        ("batch_size", READ, {}, 2048),
        ("batch_size", {"batch_size": 64}, {}, 64),
        ("negatives", PLAIN, {}, "full"),
        ("negatives", PLAIN, {"n_items": 512}, "full"),
        ("negatives", PLAIN, {"n_items": 513}, "in_batch"),
        ("negatives", PLAIN | {"batch_size": 64}, {}, "in_batch"),
        ("negatives", {"negatives": "mixed"}, {}, "mixed"),
        ("negatives", {}, {"n_items": 8192}, "full"),
        ("negatives", {}, {"n_items": 8193}, "mixed"),
        ("negatives", READ, {"n_items": 8193}, "mixed"),
        ("negatives", {"batch_size": 64}, {"n_items": 8192}, "full"),
        (
            "negatives",
            {"history": PooledHistory(None, dropout=0.5)},
            {"n_items": 8192},
            "full",
        ),
        ("negatives", {"loss": "bpr"}, {}, "unconsumed"),
        ("negatives", {"loss": "max_margin"}, {"n_negatives": 5}, "unconsumed"),
        ("negatives", {"loss": "cross_entropy"}, {}, "unconsumed"),
        ("negatives", {"loss": "cross_entropy"}, {"n_negatives": 5}, "labels"),
        ("n_negatives", {}, {}, 300),
        ("n_negatives", {}, {"n_items": 9999}, 2048),
        ("n_negatives", READ, {"n_items": 9999}, 2048),
        ("n_negatives", {"batch_size": 64}, {"n_items": 9999}, 2048),
        ("n_negatives", PLAIN, {}, 300),
        ("n_negatives", PLAIN, {"n_items": 9999}, 512),
        ("n_negatives", PLAIN | {"batch_size": 64}, {}, 64),
        ("n_negatives", {"loss": "bpr"}, {}, 8),
        ("n_negatives", {"loss": "bpr"}, {"n_items": 5}, 5),
        ("n_negatives", {"n_negatives": 9}, {}, 9),
        ("sampling_correction", {}, {}, "refined"),
        ("sampling_correction", PLAIN, {}, "logq"),
        ("sampling_correction", READ, {}, "logq"),
        ("sampling_correction", TIMED, IN_ORDER | {"n_users": 9}, "logq"),
        ("sampling_correction", {"loss": "bpr"}, {}, "logq"),
        ("sampling_correction", {"sampling_correction": None}, {}, None),
        ("sampling_correction", {"sampling_correction": "logq"}, {}, "logq"),
        ("popularity_prior", {}, {}, 1 + 600 / 10_000),
        ("popularity_prior", {}, {"n_items": 10_000}, 2.03),
        ("popularity_prior", {}, {"n_positives": 3 * 10**8}, 1 + 1e-6),
        ("popularity_prior", PLAIN, {}, None),
        ("popularity_prior", READ, {}, 1.0),
        ("popularity_prior", ORDERED, {}, 1.0),
        ("popularity_prior", ORDERED | {"loss": "bpr"}, {}, None),
        ("popularity_prior", {"popularity_prior": 2.0}, {}, 2.0),
        ("popularity_prior", {"temperature": "learned"}, {}, None),
        ("weight_decay", {}, {}, 0.0),
        ("weight_decay", READ, {}, 0.0),
        # 20 batches: 4 / 20 of an epoch is more than .03, over the learning rate
        ("weight_decay", PLAIN, {}, 0.03 / 5e-3),
        ("weight_decay", PLAIN | {"learning_rate": 1.0}, {}, 0.03),
        ("weight_decay", PLAIN, {"n_positives": 512_000}, 4 / 1000 / 5e-3),
        (
            "weight_decay",
            PLAIN | {"batch_size": 100},
            {"n_positives": 50_000},
            4 / 500 / 5e-3,
        ),
        ("weight_decay", PLAIN | {"optimizer": "adam"}, {}, 0.0),
        ("weight_decay", {"weight_decay": 0.5}, {}, 0.5),
    ],
)
def test_rules(name, parameters, given, value):
    found = chosen(parameters, **given)[name]
    assert found == (pytest.approx(value) if isinstance(value, float) else value)


def test_there_is_a_rule_for_each_setting():
    assert list(defaults.RULES) == list(Settings.__dataclass_fields__)
    assert {*defaults.KEPT, *OF_WEIGHTS} < set(defaults.RULES)
    words = {
        name
        for name, value in TwoTowerRecommender().get_params(deep=False).items()
        if isinstance(value, str) and value == "auto"
    }
    assert words - {"device", "verbose"} == set(defaults.RULES)


def test_what_the_rules_choose_can_be_given():
    """Under all that they may be combined with, and with each other."""
    data = [
        {
            "order": order,
            "rows_per_visit": 1.5,
            "n_positives": n,
            "n_users": 1 + n // 10,
            "n_items": items,
        }
        for order, n, items in product([None, 0.0, 1.0], [2, 500, 10**5, 10**7], [2, 10**5])
    ]
    for loss, negatives, id_embedding, temperature, of_data in product(
        ["softmax", "bpr", "cross_entropy"],
        ["auto", "random"],
        [True, False],
        [0.1, "learned"],
        data,
    ):
        parameters = {
            "loss": loss,
            "negatives": negatives,
            "item_id_embedding": id_embedding,
            "temperature": temperature,
        }
        values = chosen(parameters, **of_data)
        if values["history"] is not None:
            values["history"] = values["history"].as_parameter()
        again = chosen(parameters | values, **of_data)
        assert all(again[name] == values[name] for name in again if name != "history")


def test_what_a_continued_training_keeps():
    before = Settings(
        history=PooledSettings(7),
        user_id_embedding=False,
        embedding_dim=9,
        hidden_layer_sizes=(5,),
        temperature="learned",
        learning_rate=0.5,
        max_iter=3,
        batch_size=17,
        negatives="mixed",
        n_negatives=5,
        sampling_correction="refined",
        popularity_prior=0.5,
        weight_decay=0.25,
    )
    found = chosen(before=before, continues=True, order=1.0)
    kept = {*OF_WEIGHTS, *defaults.KEPT}
    assert {name: found[name] for name in kept} == {
        name: getattr(before, name) for name in kept
    }
    assert (found["negatives"], found["n_negatives"]) == ("in_batch", 17)
    assert found["sampling_correction"] == "logq"
    assert found["weight_decay"] != 0.25
    # another fit from the same weights has their towers, and other data
    found = chosen(before=before, order=1.0)
    assert all(found[name] == getattr(before, name) for name in OF_WEIGHTS)
    assert (found["max_iter"], found["batch_size"]) == (15, 512)
    assert (found["learning_rate"], found["popularity_prior"]) == (5e-3, None)
    # what is given is obeyed
    given = {"batch_size": 9, "popularity_prior": None, "history": PooledHistory(2)}
    found = chosen(given, before=before, continues=True)
    assert found["history"] == PooledSettings(2)
    assert (found["batch_size"], found["popularity_prior"]) == (9, None)


# --- fit ---------------------------------------------------------------------------------


def test_fitted_attributes():
    model = make_model(**TIMES, batch_size="auto", max_iter="auto").fit(X)
    assert repr(model.history_) == "PooledHistory()"
    assert (model.batch_size_, model.max_iter_, model.negatives_) == (512, 15, "full")
    assert (model.temperature_, model.popularity_prior_, model.n_iter_) == (0.1, 1, 15)
    assert model.weight_decay_ == pytest.approx(0.03 / 5e-3)
    given = {
        "history": PooledHistory(20),
        "batch_size": 512,
        "max_iter": 15,
        "negatives": "full",
        "temperature": 0.1,
        "popularity_prior": 1.0,
        "weight_decay": 0.03 / 5e-3,
    }
    same = make_model(**TIMES, **given).fit(X)
    assert same_embeddings(model, same)
    for name, value in given.items():
        assert repr(getattr(same, f"{name}_")) == repr(value)
    model.set_params(batch_size=3, negatives="random", weight_decay=0.0)
    assert (model.batch_size_, model.negatives_) == (512, "full")


def test_fitted_attributes_without_an_order():
    """What the rules choose is what can be given, too."""
    columns = TIMES | {"timestamp_column": None}
    model = TwoTowerRecommender(**columns, random_state=0).fit(X)
    given = {
        "history": PooledHistory(None, dropout=0.5, tied=True),
        "user_id_embedding": False,
        "embedding_dim": 256,
        "hidden_layer_sizes": None,
        "temperature": 0.25,
        "learning_rate": 1e-2,
        "max_iter": 40,
        "batch_size": 2048,
        "negatives": "full",
        "popularity_prior": 1 + 309 / 90,  # 90 rows, 9 items
        "weight_decay": 0.0,
    }
    for name, value in given.items():
        assert repr(getattr(model, f"{name}_")) == repr(value)
    same = TwoTowerRecommender(**columns | given, random_state=0).fit(X)
    assert same_embeddings(model, same)
    plain = TwoTowerRecommender(**columns, history=None, max_iter=1).fit(X)
    assert (plain.embedding_dim_, plain.hidden_layer_sizes_) == (64, ())
    assert plain.user_id_embedding_ and plain.temperature_ == 0.12
    assert plain.learning_rate_ == 5e-3


@pytest.mark.parametrize("timestamp_column", ["time", None])
@pytest.mark.parametrize("how", ["partial_fit", "warm_start", "loaded"])
def test_weights_stay_what_they_were_made_for(timestamp_column, how, tmp_path):
    """Also where the rules would choose otherwise: the parameters stay "auto"."""
    columns = TIMES | {"timestamp_column": timestamp_column}
    given = {
        "history": PooledHistory(3),
        "user_id_embedding": False,
        "embedding_dim": 5,
        "hidden_layer_sizes": (6,),
        "temperature": "learned",
        "learning_rate": 0.01,
    }
    model = make_model(**columns | given).fit(X)
    before = model._state.settings
    if how == "loaded":
        pytest.importorskip("skops")
        model.save(tmp_path / "model")
        model = load(tmp_path / "model")
    model.set_params(**dict.fromkeys(given, "auto"), warm_start=True)
    model = model.fit(X) if how == "warm_start" else model.partial_fit(X)
    now = model._state.settings
    assert all(getattr(now, name) == getattr(before, name) for name in OF_WEIGHTS)
    assert now.learning_rate == (5e-3 if how == "warm_start" else 0.01)
    assert model._state.towers.log_temperature is not None
    with pytest.raises(ValueError, match="embedding_dim cannot change .* 5 and is 6"):
        model.set_params(embedding_dim=6).fit(X)


def test_a_search_over_what_is_auto():
    columns = {"user_column": "user", "item_column": "item"}
    model = make_model(**columns, embedding_dim="auto", max_iter=1)
    assert clone(model).get_params()["embedding_dim"] == "auto"
    grid = {"embedding_dim": ["auto", 3], "learning_rate": ["auto"]}
    cv = InteractionKFold(2)
    search = GridSearchCV(model, grid, cv=cv, error_score="raise").fit(
        X.drop_duplicates(["user", "item"])
    )
    assert search.best_estimator_.embedding_dim_ in (256, 3)


def test_what_goes_together_is_known_when_auto_is_resolved():
    columns = {"user_column": "user", "item_column": "item"}
    model = make_model(**columns, temperature="learned").fit(X)
    model.set_params(temperature="auto", popularity_prior=1.0)
    with pytest.raises(ValueError, match="popularity_prior=1.0 is in units of the temp"):
        model.partial_fit(X)
    with pytest.raises(ValueError, match="learning_rate=0.01 times weight_decay=100"):
        make_model(**columns, weight_decay=100).fit(X)
    make_model(**columns, weight_decay=100, history=None).fit(X)
    with pytest.raises(ValueError, match="The user tower has no field"):
        make_model(**columns, history=None, user_id_embedding=False).fit(X)
    bag = make_model(**columns).fit(X)
    with pytest.raises(ValueError, match="dropout=0.5.* ranks .* loss='bpr'"):
        bag.set_params(loss="bpr", warm_start=True).fit(X)


def test_partial_fit_goes_on_with_what_the_first_call_chose(monkeypatch):
    """As when a rule would choose otherwise for more rows."""
    sizes = {"batch_size": lambda facts, *_: defaults.Choice(facts.n_positives // 3, "")}
    monkeypatch.setattr(defaults, "RULES", defaults.RULES | sizes)
    model = make_model(**TIMES, batch_size="auto").partial_fit(X)
    assert model.batch_size_ == 30
    assert model.partial_fit(X).batch_size_ == 30
    assert model.set_params(batch_size=7).partial_fit(X).batch_size_ == 7
    assert model.set_params(batch_size="auto").partial_fit(X).batch_size_ == 7


def test_verbose_prints_each_setting_and_why(capsys):
    make_model(**TIMES, verbose=1).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:14] == [
        "positives: 90, users: 12, items: 9",
        "  loss='softmax'",
        "  history=PooledHistory(size=20, dropout=0.0, tied=False)  "
        "(auto: the rows of a user have an order in time)",
        "  user_id_embedding=True  (auto)",
        "  embedding_dim=4",
        "  hidden_layer_sizes=()  (auto)",
        "  temperature=0.1  (auto)",
        "  learning_rate=0.005  (auto)",
        "  batch_size=32",
        "  max_iter=2",
        "  negatives='full'  (auto: 9 items are at most batch_size)",
        "  sampling_correction='logq'  (auto)",
        "  popularity_prior=1  (auto)",
        "  weight_decay=6  (auto: for adamw, batches an epoch: 3)",
    ]
    assert lines[14].startswith("epoch 1/2")
    model = make_model(**TIMES, loss="bpr", verbose=1).fit(X, np.arange(90) % 9)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "positives: 80, explicit negatives: 10, users: 12, items: 9"
    assert "  n_negatives=8  (auto: for a row, at most the number of items)" in lines
    model.partial_fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "positives: 170, explicit negatives: 10, users: 12, items: 9"
    assert lines[2].endswith("(auto: as it was fitted)")


# --- bad input ---------------------------------------------------------------------------

CONSTANT = X.assign(time=7)
# Most rows have the time of their user's first one.
TIED = X.assign(time=(np.arange(90) % 5 == 0).astype(int))


@pytest.mark.parametrize("rows", [CONSTANT, TIED], ids=["constant", "ties"])
def test_times_that_are_no_order_count_as_none(rows, capsys):
    """They are what features were last, though."""
    model = make_model(**TIMES, verbose=1).fit(rows)
    assert model.history_.get_params() == {"size": None, "dropout": 0.5, "tied": True}
    assert (
        "  history=PooledHistory(size=None, dropout=0.5, tied=True)  (auto: 'time' is "
        "taken as no order, because most rows have the time of their user's first one)"
    ) in capsys.readouterr().out.splitlines()
    without = make_model(**TIMES | {"timestamp_column": None}).fit(rows)
    assert same_embeddings(model, without)
    given = make_model(**TIMES, history=PooledHistory(size=2)).fit(rows)
    assert given.history_.size == 2
    later = rows[:3].assign(time=9)  # the kind of the times is still known
    assert model.recommend([0, 1], history=later)[0].shape == (2, 10)


def test_a_history_of_a_rule_may_draw_from_rows_with_times():
    """It takes the rows as having no order, where a given one would be refused."""
    model = make_model(**TIMES).fit(CONSTANT)
    without = make_model(
        **TIMES | {"timestamp_column": None},
        history=PooledHistory(size=None, dropout=0.5, tied=True),
    ).fit(CONSTANT)
    assert same_embeddings(model, without)
    later = CONSTANT[:9].assign(time=9, user=99)
    np.testing.assert_array_equal(
        model.recommend([99], history=later)[1], without.recommend([99], history=later)[1]
    )
    model.partial_fit(CONSTANT[:20])
    assert same_embeddings(model, without.partial_fit(CONSTANT[:20]))


FEATURES = pd.DataFrame({"item": range(12), "kind": ["a", "b", "c"] * 4})
ONE_ROW_A_USER = pd.DataFrame({"user": range(12), "item": [0, 1, 2] * 4, "time": range(12)})
ONE_ROW_AN_ITEM = pd.DataFrame(
    {"user": [0, 1, 2] * 4, "item": range(12), "time": range(12)}
)
ONE_ITEM = ONE_ROW_A_USER.assign(item=0)
ONE_ROW = ONE_ITEM[:1]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (
            ONE_ROW_A_USER,
            "each user has one row and there are no features, so that nothing",
        ),
        (ONE_ROW_AN_ITEM, "each item has one row and there are no features"),
        (ONE_ITEM, "only 1 item of X has a positive row"),
        (ONE_ROW, "only 1 item of X has a positive row"),
    ],
)
@pytest.mark.parametrize("history", ["auto", PooledHistory(size=3), None])
def test_data_that_teaches_nothing_is_fitted_with_one_warning(rows, reason, history):
    model = make_model(**TIMES, history=history)
    message = f"The model cannot be better than the most popular items: {reason}"
    with pytest.warns(UserWarning, match=message) as record:
        model.fit(rows)
    assert len(record) == 1 and record[0].filename == __file__
    assert np.isfinite(model.loss_curve_).all()
    assert model.recommend([99])[0][0, 0] in set(rows["item"])
    model.partial_fit(rows)  # says nothing more
    assert np.isfinite(model.user_embeddings_).all()


@pytest.mark.parametrize("rows", [ONE_ROW_A_USER, ONE_ROW_AN_ITEM])
def test_features_may_teach_something(rows):
    make_model(**TIMES, item_table=FEATURES).fit(rows)
    make_model(**TIMES, user_features=["kind"]).fit(rows.assign(kind=["a", "b"] * 6))


def test_one_row_more_may_teach_something():
    shared = pd.DataFrame({"user": [0], "item": [1], "time": [99]})
    make_model(**TIMES).fit(pd.concat([ONE_ROW_A_USER, shared]))
    make_model(**TIMES).fit(pd.concat([ONE_ROW_AN_ITEM, shared]))
    # and what a user turned down
    y = np.r_[np.ones(12), 0]
    make_model(**TIMES, loss="cross_entropy").fit(pd.concat([ONE_ROW_A_USER, shared]), y)
