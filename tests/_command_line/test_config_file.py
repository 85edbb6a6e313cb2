"""Configurations of a training: what they make, and what is wrong with a wrong one."""

import json
import sys

import pandas as pd
import pytest

from sktwotower import EntityTable
from sktwotower._command_line.config_file import TrainingOrder
from sktwotower.history import PooledHistory, TransformerHistory
from sktwotower.preprocessing import FeatureEncoder

pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where paths start, with a table."""
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"item": [1, 2], "price": [0.5, 2.0], "colour": ["red", "blue"]})
    table.to_parquet("items.parquet")
    return tmp_path


def parameters(**given):
    return {"data": "x.parquet", "model": "model", "parameters": given}


def read(content):
    if isinstance(content, str):
        pytest.importorskip("yaml")
    name = "c.yaml" if isinstance(content, str) else "c.json"
    with open(name, "w") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))
    return TrainingOrder.read(name)


YAML = """
data: x.parquet
model: model
y: rating
parameters:
  user_column: user
  learning_rate: 1e-3
  tol: -2E+3
  temperature: 1.5e-1
  hidden_layer_sizes: [32, 16]
  history: {TransformerHistory: {size: 50}}
  item_table: items.parquet
  user_encoder: FeatureEncoder
  average: false
  max_grad_norm: null
  validation_metric: ndcg@10
"""


def test_yaml_has_what_python_would_have():
    order = read(YAML)
    assert (order.data, order.model, order.y) == ("x.parquet", "model", "rating")
    assert order.sample_weight is None
    found = dict(order.parameters)
    table = pd.read_parquet("items.parquet")
    pd.testing.assert_frame_equal(found.pop("item_table"), table)
    history, encoder = found.pop("history"), found.pop("user_encoder")
    assert type(history) is TransformerHistory
    assert history.get_params() == TransformerHistory(size=50).get_params()
    assert type(encoder) is FeatureEncoder
    assert found == {
        "user_column": "user",
        "learning_rate": 0.001,
        "tol": -2000.0,
        "temperature": 0.15,
        "hidden_layer_sizes": [32, 16],
        "average": False,
        "max_grad_norm": None,
        "validation_metric": "ndcg@10",
    }


def test_json_says_the_same():
    pytest.importorskip("yaml")
    import yaml

    content = yaml.safe_load(YAML)
    content["parameters"] |= {"learning_rate": 1e-3, "tol": -2e3}
    one, other = (dict(read(text).parameters) for text in (YAML, content))
    assert list(one) == list(other)
    simple = [name for name in one if isinstance(one[name], int | float | str | list)]
    assert len(simple) == 7
    assert all(one[name] == other[name] for name in simple)


def test_objects_are_classes_with_their_parameters():
    table = {"EntityTable": {"frame": "items.parquet", "id_column": "item"}}
    found = read(parameters(item_table=table, history={"PooledHistory": None})).parameters
    assert repr(found["item_table"]) == repr(
        EntityTable(pd.read_parquet("items.parquet"), "item")
    )
    assert found["history"].get_params() == PooledHistory().get_params()


def test_settings_that_are_left_out():
    assert read({"data": "x", "model": "m"}).parameters == {}
    assert read("data: x\nmodel: m\nparameters:\n").parameters == {}


WRONG = {
    "misspelt": (
        parameters(embeding_dim=3),
        "parameters of c.json has 'embeding_dim', which is not a parameter of "
        "TwoTowerRecommender. Did you mean 'embedding_dim'?",
    ),
    "unknown": (parameters(dim=3), "'dim', .* The parameters are user_column, item_col"),
    "misspelt inside": (
        parameters(history={"TransformerHistory": {"sizes": 3}}),
        "TransformerHistory in parameters of c.json has 'sizes', .* mean 'size'?",
    ),
    "without a class": (
        parameters(history={"size": 3}),
        "history of .* is {'size': 3}. Write an object as its class with its parameters, "
        "such as history: {TransformerHistory: {size: 50}}; the classes are PooledHistory",
    ),
    "misspelt class": (
        parameters(history={"TransformerHistry": {}}),
        "Did you mean 'TransformerHistory'?",
    ),
    "two classes": (parameters(history={"PooledHistory": {}, "x": {}}), "Write an object"),
    "without what a class needs": (
        parameters(item_table={"EntityTable": {"frame": "items.parquet"}}),
        "item_table of parameters of c.json: .*'id_column'",
    ),
    "not a mapping": (
        parameters(history={"PooledHistory": 20}),
        "PooledHistory in .* must be names and values; got 20",
    ),
    "in the wrong place": (
        {**parameters(), "embedding_dim": 3},
        "'embedding_dim', which is a parameter of the estimator; put it under 'parameters'",
    ),
    "unknown setting": ({**parameters(), "mode": 1}, "'mode', .* mean 'model'?"),
    "no data": ({"model": "m"}, "c.json lacks 'data', the path of the data"),
    "no text": ({"data": 3, "model": "m"}, "data of c.json must be a text; got 3"),
    "no settings": ([], "c.json has no settings"),
    "parameters are a list": (
        {"data": "x", "model": "m", "parameters": ["embedding_dim"]},
        r"must be names and values; got \['embedding_dim'\]",
    ),
    "key twice": ("data: x\ndata: y\nmodel: m", "c.yaml is no YAML: 'data' is there twice"),
    "no YAML": ("data: [", "c.yaml is no YAML: while parsing"),
    "a command in YAML": ("data: !!python/object/apply:os.getcwd []", "c.yaml is no YAML"),
}


@pytest.mark.parametrize("content, message", WRONG.values(), ids=WRONG)
def test_a_wrong_one_is_refused(content, message):
    with pytest.raises(ValueError, match=message.replace("{", r"\{").replace("?", r"\?")):
        read(content)


def test_a_key_twice_in_json(folder):
    (folder / "c.json").write_text('{"data": "x", "data": "y"}')
    with pytest.raises(ValueError, match=r"c\.json is no JSON: 'data' is there twice"):
        TrainingOrder.read("c.json")


def test_other_names_and_files_that_are_not_there(folder):
    (folder / "c.toml").touch()
    with pytest.raises(ValueError, match=r"must be called \.yaml, \.yml or \.json"):
        TrainingOrder.read("c.toml")
    with pytest.raises(FileNotFoundError, match=r"configuration d\.json does not"):
        TrainingOrder.read("d.json")
    with pytest.raises(FileNotFoundError, match=r"item_table of .*: i\.parquet does not"):
        read(parameters(item_table="i.parquet"))
    with pytest.raises(
        ValueError, match=r"item_table of .*: c\.json cannot be read as Par"
    ):
        read(parameters(item_table="c.json"))


def test_yaml_is_an_extra(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "yaml", None)
    (folder / "c.yml").write_text("data: x")
    with pytest.raises(ImportError, match=r"in YAML needs yaml.*sktwotower\[cli\]"):
        TrainingOrder.read("c.yml")
