"""The model card: what it says, what it leaves out, and that users may change it."""

import json
import re
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler

import sktwotower
from sktwotower import EntityTable, load
from sktwotower.history import PooledHistory
from sktwotower.metrics import make_ranking_scorer, ranking_report
from tests.helpers import make_model

pytest.importorskip("safetensors")
pytest.importorskip("skops")
pytest.importorskip("pyarrow")

X = pd.DataFrame(
    {
        "user": ["Ann Lee", "Ann Lee", "Bob Roe", "Bob Roe", "Cy Fox", "Cy Fox"],
        "item": ["tea-77", "milk-9", "tea-77", "rice-5", "milk-9", "tea-77"],
        "time": pd.to_datetime(["2024-05-01 00:00"] * 3 + ["2024-06-02 10:30"] * 3),
    }
)
Y = [1, 1, 1, 1, 0, 1]
USERS = pd.DataFrame(
    {
        "user": ["Ann Lee", "Bob Roe", "Cy Fox", "Di Ash"],
        "street": ["Elm Road", "Elm Road", "Oak Lane", "Oak Lane"],
    }
)
ITEMS = pd.DataFrame(
    {
        "item": ["tea-77", "milk-9", "rice-5", "oil-3"],
        "kind": ["hot|dry", "wet", "dry", "wet"],
        "price": [3, 1, 2, 9],
    }
)
NAMES = {"user_column": "user", "item_column": "item"}


@pytest.fixture(scope="module")
def model():
    return make_model(
        **NAMES,
        timestamp_column="time",
        user_table=USERS,
        item_table=EntityTable(ITEMS, "item", features=["kind", "price"]),
        history=PooledHistory(size=2),
        loss="bpr",
        learning_rate=0.01,
    ).fit(X, Y)


def card_of(path):
    (file,) = path.glob("*/MODEL_CARD.md")
    return file


def tables(path):
    """The rows of each table of the card by its title, without the lines of the header."""
    found = {}
    for section in card_of(path).read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, content = section.partition("\n\n")
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in content.splitlines()]
        rows = [[cell.strip() for cell in line] for line in lines]
        assert set(rows[1]) == {"---"}
        assert {len(row) for row in rows} == {len(rows[0])}
        found[title] = [rows[0], *rows[2:]]
    return found


def test_it_says_what_the_model_is(model, tmp_path):
    model.save(tmp_path / "model")
    text = card_of(tmp_path / "model").read_text(encoding="utf-8")
    assert text.startswith(
        f"# TwoTowerRecommender\n\nSaved with sktwotower {sktwotower.__version__} (Python "
    )
    found = tables(tmp_path / "model")
    assert list(found) == ["Data", "Features", "Size", "Parameters", "Training"]
    assert found["Data"][1:] == [
        ["rows", "6"],
        ["positives", "5 (83.3%)"],
        ["pairs of user and item", "6"],
        ["times", "2024-05-01 00:00:00 to 2024-06-02 10:30:00"],
        ["users", "4"],
        ["users with rows to train on", "3"],
        ["items", "4"],
        ["items with rows to train on", "3"],
    ]
    assert found["Features"][1:] == [
        ["user", "`id`", ""],
        ["user", "`history`", ""],
        ["user", "`street`", "category, 2 columns"],
        ["item", "`id`", ""],
        ["item", "`kind`", "multi_hot, 3 columns"],
        ["item", "`price`", "number, 1 column"],
    ]
    size = dict(found["Size"][1:])
    n_parameters = sum(p.numel() for p in model._state.towers.parameters())
    assert size["catalogue"] == "3 items"
    assert size["embedding_dim"] == "4"
    assert size["parameters"] == f"{n_parameters:,}"
    files = [file for file in (tmp_path / "model").glob("*/*") if file.suffix != ".md"]
    n_bytes = sum(file.stat().st_size for file in files)
    assert float(size["files"].removesuffix(" MB")) == pytest.approx(
        n_bytes / 1e6, rel=5e-3
    )
    first, last = model.loss_curve_
    assert found["Training"][1:] == [
        ["epochs", "2"],
        ["loss of the first epoch", f"{first:.6g}"],
        ["loss of the last epoch", f"{last:.6g}"],
    ]


def test_parameters_are_those_that_were_given_and_what_auto_became(model, tmp_path):
    model.save(tmp_path / "model")
    header, *rows = tables(tmp_path / "model")["Parameters"]
    assert header == ["parameter", "given", "used in training"]
    shown = {name.strip("`"): (given, used) for name, given, used in rows}
    assert shown["loss"] == ("`'bpr'`", "")
    assert shown["learning_rate"] == ("`0.01`", "`0.01`")
    assert shown["temperature"] == ("`'auto'`", f"`{model.temperature_}`")
    assert shown["negatives"] == ("`'auto'`", f"`{model.negatives_!r}`")
    assert shown["history"] == (
        "`PooledHistory(size=2)`",
        "`PooledHistory(size=2, dropout=0.0, tied=False)`",
    )
    assert shown["item_table"] == ("`EntityTable`", "")
    assert shown["user_table"] == ("`DataFrame`", "")
    assert not {"margin", "verbose", "device", "user_features"} & set(shown)


def test_a_validated_model_says_its_score(tmp_path):
    model = make_model(
        early_stopping=True,
        validation_fraction=0.3,
        validation_metric=["mrr", "ndcg@10"],
        temperature="learned",
    )
    model.fit(X[["user", "item"]]).save(tmp_path / "model")
    found = tables(tmp_path / "model")
    assert found["Training"][-1] == [
        "best `mrr`",
        f"{model.best_validation_score_:.6g}",
    ]
    assert ["`temperature`", "`'learned'`", f"`{model.temperature_:.6g}`"] in [
        *found["Parameters"]
    ]
    assert "times" not in dict(found["Data"][1:])


def test_the_columns_of_other_encoders_are_named(tmp_path):
    parts = [("words", TfidfVectorizer(), "kind"), ("cost", StandardScaler(), ["price"])]
    model = make_model(item_table=ITEMS, item_encoder=ColumnTransformer(parts))
    model.fit(X[["user", "item"]]).save(tmp_path / "model")
    assert tables(tmp_path / "model")["Features"][-2:] == [
        ["item", "`words`", "TfidfVectorizer, 3 columns"],
        ["item", "`cost`", "StandardScaler, 1 column"],
    ]


def test_it_has_neither_ids_nor_values_of_features(model, tmp_path):
    metrics = ranking_report(model, X, Y, metrics="recall@2", random_state=0)
    model.save(tmp_path / "model", metrics=metrics)
    text = card_of(tmp_path / "model").read_text(encoding="utf-8")
    for frame in (X, USERS, ITEMS):
        for value in frame.select_dtypes(exclude=["number", "datetime"]).to_numpy().ravel():
            for word in re.split(r"[ |]", value):
                assert not re.search(rf"\b{word}\b", text), word


# Metrics.


def test_metrics_of_a_scorer_are_in_it(model, tmp_path):
    scores = make_ranking_scorer(["ndcg@2", "coverage@2"])(model, X, Y)
    model.save(tmp_path / "model", metrics=scores)
    assert tables(tmp_path / "model")["Metrics"] == [
        ["metric", "value"],
        *([f"`{name}`", f"{value:.6g}"] for name, value in scores.items()),
    ]


def test_numbers_of_all_kinds_are_metrics(model, tmp_path):
    numbers = {
        "int": (12345, "12,345"),
        "float": (0.5, "0.5"),
        "float32": (np.float32(0.25), "0.25"),
        "int64": (np.int64(3), "3"),
        "nan": (float("nan"), "nan"),
        "fraction": (Fraction(1, 4), "0.25"),
        "a | b\n`c`": (-1, "-1"),
        "nd\ud800cg": (0, "0"),  # UTF-8 has no such name
    }
    model.save(tmp_path / "model", metrics={name: x for name, (x, _) in numbers.items()})
    names = [*list(numbers)[:-2], r"a \| b 'c'", r"nd\ud800cg"]
    assert tables(tmp_path / "model")["Metrics"][1:] == [
        [f"`{name}`", shown]
        for name, (_, shown) in zip(names, numbers.values(), strict=True)
    ]


@pytest.mark.parametrize("form", ["pandas", "polars"])
def test_a_report_is_a_table_of_it(model, tmp_path, form):
    report = ranking_report(model, X, Y, metrics=["ndcg@2", "coverage@2"], random_state=0)
    if form == "polars":
        report = pytest.importorskip("polars").DataFrame(report.to_dict("list"))
    model.save(tmp_path / "model", metrics=report)
    header, first, second = tables(tmp_path / "model")["Metrics"]
    assert [name.strip("`") for name in header] == list(report.columns)
    assert first[:2] == ["`all`", "`ndcg@2`"]
    assert first[2:] == [f"{report[name][0]:.6g}" for name in report.columns[2:]]
    assert second[3:5] == ["nan", "nan"]  # coverage has no interval


def test_a_named_index_of_a_report_is_a_column(model, tmp_path):
    report = pd.DataFrame(
        {"ndcg@10": [0.1, 0.2]}, index=pd.Index(["old", "new"], name="by")
    )
    model.save(tmp_path / "model", metrics=report)
    assert tables(tmp_path / "model")["Metrics"] == [
        ["`by`", "`ndcg@10`"],
        ["`old`", "0.1"],
        ["`new`", "0.2"],
    ]


WRONG = {
    "a list": ([0.1], "metrics must be a dict .* got list"),
    "a number": (0.1, "metrics must be a dict .* got float"),
    "a Series": (pd.Series({"ndcg": 0.1}), "metrics must be a dict .* got Series"),
    "a name": ({1: 0.1}, r"metrics has the name 1; names must be strings"),
    "a string": ({"ndcg": "0.1"}, r"metrics\['ndcg'\] must be a number; got str \(0.1\)"),
    "folds": ({"ndcg": np.ones(2)}, r"metrics\['ndcg'\] must be a number; got ndarray"),
    "a bool": ({"good": True}, r"metrics\['good'\] must be a number; got bool \(True\)"),
    "None": ({"ndcg": None}, r"metrics\['ndcg'\] must be a number; got NoneType"),
    "complex": ({"ndcg": 1j}, r"metrics\['ndcg'\] must be a number; got complex"),
}


@pytest.mark.parametrize("what", WRONG)
def test_other_metrics_are_refused_before_anything_is_written(model, tmp_path, what):
    metrics, message = WRONG[what]
    with pytest.raises(TypeError, match=message):
        model.save(tmp_path / "new" / "model", metrics=metrics)
    assert not list(tmp_path.iterdir())


# The file.


def test_a_card_may_be_changed_or_removed(model, tmp_path):
    path = tmp_path / "model"
    model.save(path)
    file = card_of(path)
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n## Intended use\n\nHomepage.\n")
    for name in ("MODEL_CARD.md~", ".MODEL_CARD.md.swp"):  # of editors
        (file.parent / name).write_text("old", encoding="utf-8")
    assert load(path).recommend(["Ann Lee"])[0].tolist() == (
        model.recommend(["Ann Lee"])[0].tolist()
    )
    file.unlink()
    load(path)
    (file.parent / "README.md").write_text("other", encoding="utf-8")
    with pytest.raises(ValueError, match=r"not in the manifest: \['README.md'"):
        load(path)


def test_load_does_not_open_a_card(model, tmp_path):
    model.save(tmp_path / "model")
    file = card_of(tmp_path / "model")
    file.unlink()
    file.symlink_to("/dev/zero")
    load(tmp_path / "model")


def test_the_manifest_does_not_list_it(model, tmp_path):
    model.save(tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    names = {file.name for file in card_of(tmp_path / "model").parent.iterdir()}
    assert names - set(manifest["files"]) == {"MODEL_CARD.md"}


def test_the_next_save_writes_a_new_one(model, tmp_path):
    path = tmp_path / "model"
    model.save(path, metrics={"ndcg@10": 0.1})
    card_of(path).write_text("mine", encoding="utf-8")
    load(path).save(path)  # a loaded model knows no metrics
    assert list(tables(path)) == ["Data", "Features", "Size", "Parameters", "Training"]
