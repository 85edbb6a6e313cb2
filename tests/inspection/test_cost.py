"""What a fit takes, against the arrays of a fit, and against counts by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils import check_random_state

from sktwotower import TwoTowerRecommender
from sktwotower.datasets import make_interactions
from sktwotower.history import PooledHistory
from sktwotower.inspection import estimate_cost

DATA = make_interactions(60, 40, 900, random_state=0)
X = DATA.interactions
SIZES = {"n_rows": len(X), "n_users": X["user_id"].nunique()}
SIZES["n_items"] = X["item_id"].nunique()
MANY = {"n_rows": 10**9, "n_users": 10**8, "n_items": 10**7}
COLUMNS = {"user_column": "user_id", "item_column": "item_id"}
SMALL = {**COLUMNS, "embedding_dim": 8, "batch_size": 90, "max_iter": 2, "random_state": 0}
GLOBAL = check_random_state(None)  # NumPy's own generator


def by_id(**parameters):
    return TwoTowerRecommender(**SMALL | {"history": None} | parameters)


def n_bytes(tensors):
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"optimizer": "adagrad", "average": False},
        {"history": PooledHistory(size=5), "user_id_embedding": False},
        {"history": PooledHistory(size=None, dropout=0.5, tied=True)},
        {"user_table": DATA.user_table, "item_table": DATA.item_table},
    ],
    ids=["ids", "adagrad", "history", "tied", "features"],
)
def test_bytes_of_all_rows_are_those_of_a_fit(parameters):
    model = by_id(**parameters)
    sizes = SIZES
    if "item_table" in parameters:
        sizes = SIZES | {"n_users": len(DATA.user_table), "n_items": len(DATA.item_table)}
    memory = estimate_cost(model, X, **sizes).memory
    model.fit(X)
    towers, (_, state) = model._state.towers, model._state.optimizer
    tables = list(towers.embedding_tables())
    assert memory["tables"] == pytest.approx(n_bytes(tables), rel=0.03)
    if "item_table" not in parameters:  # ids without rows have none in the table
        assert memory["tables"] == n_bytes(tables)
        moments = [
            state[name][moment]
            for name, one in towers.named_parameters()
            if any(one is table for table in tables)
            for moment in state[name]
            if moment != "step"
        ]
        assert memory["moments"] == n_bytes(moments)
    assert memory["average"] == model.average * memory["tables"]
    embeddings = model.user_embeddings_, model.item_embeddings_
    unknown = sum(vectors[0].nbytes for vectors in embeddings)
    assert memory["embeddings"] == n_bytes(embeddings) + unknown
    entities = model._state.user.entities, model._state.item.entities
    vocabularies = sum(one.vocabulary.n_bytes() for one in entities)
    assert vocabularies < memory["entities"] < vocabularies + 20_000


def test_products_of_a_step_by_hand():
    dim, n_users, n_items = 8, SIZES["n_users"], SIZES["n_items"]
    model = by_id(batch_size=len(X), negatives="full", hidden_layer_sizes=())
    cost = estimate_cost(model, X, **SIZES)
    # A linear layer of each tower, and the scores: the products, and their two gradients.
    layers = 3 * 2 * dim * dim * (n_users + n_items)
    assert cost.flops == layers + 3 * 2 * dim * n_users * n_items
    assert cost.n_steps == 1


def test_steps_epochs_and_parameters_are_those_of_all_rows():
    cost = estimate_cost(by_id(max_iter="auto"), X, **MANY)
    assert cost.n_steps == -(-(10**9) // 90)
    assert cost.n_epochs == 15
    assert cost.parameters["negatives"] == "in_batch"  # "full" of the sample's few items
    with_history = by_id(history=PooledHistory(size=3), item_id_embedding=False)
    with_history.set_params(item_table=DATA.item_table)
    cost = estimate_cost(with_history, X, **SIZES | {"n_items": 40})
    assert cost.parameters["history"].size == 3


def test_rows_of_zeros_are_trained_only_as_labels():
    y = np.arange(len(X)) % 3 > 0
    for loss, n_rows in (("cross_entropy", 9000), ("softmax", 6000)):
        cost = estimate_cost(by_id(loss=loss), X, y, **SIZES | {"n_rows": 9000})
        assert cost.n_steps == -(-n_rows // 90)


def test_more_of_anything_takes_no_less():
    model = by_id(
        history=PooledHistory(size=3), timestamp_column="timestamp", negatives="in_batch"
    )
    first = estimate_cost(model, X, **SIZES)
    for name, parts in (
        ("n_rows", ["rows"]),
        ("n_users", ["tables", "moments", "average", "embeddings", "entities", "rows"]),
        ("n_items", ["tables", "moments", "average", "embeddings", "entities"]),
    ):
        cost = estimate_cost(model, X, **SIZES | {name: 2 * SIZES[name]})
        grown = cost.memory[cost.memory > first.memory].index.tolist()
        assert sorted(grown) == sorted(parts)
        assert (cost.memory >= first.memory).all()
        assert cost.n_steps == first.n_steps * (2 if name == "n_rows" else 1)
    assert first.disk == 0 < estimate_cost(model, X, **MANY).disk


def test_the_seconds_are_those_of_its_steps(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: 5.0 * next(now))
    cost = estimate_cost(by_id(), X, **SIZES | {"n_rows": 18_000})
    assert cost.seconds == 5.0 * 20


def test_an_index_grows_with_the_items():
    pytest.importorskip("faiss")
    found = [
        estimate_cost(by_id(), X, **SIZES | {"n_items": n}, index=index).index
        for n, index in ((SIZES["n_items"], "flat"), (10 * SIZES["n_items"], "flat"))
    ]
    vectors = 4 * 8 * SIZES["n_items"]
    assert vectors <= found[0] < vectors + 200
    assert found[1] == 10 * found[0]
    with pytest.raises(ValueError, match="index='hsnw'"):
        estimate_cost(by_id(), X, **SIZES, index="hsnw")


def test_the_model_and_the_generators_stay_as_they_are():
    model = by_id(verbose=1)
    state, numbers = torch.get_rng_state(), GLOBAL.get_state()[1].copy()
    estimate_cost(model, X, **SIZES)
    assert not hasattr(model, "n_iter_")
    assert torch.equal(torch.get_rng_state(), state)
    assert (GLOBAL.get_state()[1] == numbers).all()


def test_it_prints_nothing_by_itself_and_a_table_if_asked(capsys):
    cost = estimate_cost(by_id(verbose=1), X, **MANY)
    assert capsys.readouterr().out == ""
    lines = dict(line.rsplit("  ", 1) for line in str(cost).splitlines())
    found = {name.strip(): value.strip() for name, value in lines.items()}
    assert found["memory: tables"] == "3.52 GB"  # 110 million vectors of 8 numbers
    assert found["steps of an epoch"] == "11,111,112"
    assert "temporary files" in found and "search index" not in found
    assert "temporary files" not in str(estimate_cost(by_id(), X, **SIZES))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_rows": 0}, "n_rows must be an integer of at least 1; got 0"),
        ({"n_users": 1e8}, "n_users must be an integer .* got 100000000.0"),
        ({"n_rows": 899}, "n_rows=899 is less than the 900 rows of X"),
        ({"n_users": 59}, "n_users=59 is less than the 60 users that X has"),
        ({"n_items": 901}, "n_items=901 is more than n_rows=900, and without item_table"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        estimate_cost(by_id(), X, **SIZES | sizes)


def test_items_of_a_table_count():
    with pytest.raises(ValueError, match="less than the 40 items that X and item_table"):
        estimate_cost(by_id(item_table=DATA.item_table), X, **SIZES | {"n_items": 39})
    estimate_cost(by_id(item_table=DATA.item_table), X, **SIZES | {"n_items": 10**6})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"batch_size": 91}, "X has 900 rows, fewer than 10 batches of 91.*give 910 rows"),
        ({"history": "auto", "batch_size": "auto"}, "10 batches of 65536"),
        ({"negatives": "full"}, "negatives='full' a step needs at least 9000000"),
        ({"negatives": "mixed", "n_negatives": 41}, "negatives='mixed'.* at least 41"),
    ],
)
def test_a_sample_that_is_too_small_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        estimate_cost(by_id(**parameters), X, **MANY)


def test_other_models_and_wrong_parameters_are_refused():
    with pytest.raises(TypeError, match="estimate_cost needs a TwoTowerRecommender"):
        estimate_cost(DATA, X, **SIZES)
    with pytest.raises(ValueError, match="'embedding_dim' parameter"):
        estimate_cost(by_id(embedding_dim=0), X, **SIZES)
    with pytest.raises(ValueError, match="user_column='uid'"):
        estimate_cost(by_id(user_column="uid"), pd.DataFrame(X), **SIZES)
