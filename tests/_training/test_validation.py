"""Validation on one metric or several: what decides, what is kept, what is refused."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from sktwotower import load
from sktwotower.metrics import make_ranking_scorer
from tests.helpers import make_model, make_X, other_pairs, same_embeddings

X = make_X()
VAL = other_pairs(make_X(seed=1), X)
Y_VAL = np.random.RandomState(0).randint(0, 2, len(VAL))
NAMES = ["recall@3", "ndcg@10", "roc_gauc", "coverage@5"]


def test_all_metrics_of_each_epoch_are_kept(tmp_path):
    model = make_model(validation_metric=NAMES, max_iter=3)
    model.fit(X, X_val=VAL, y_val=Y_VAL)
    scores = model.validation_scores_
    assert list(scores) == NAMES
    assert [len(each) for each in scores.values()] == [3] * 4
    found = make_ranking_scorer(NAMES)(model, VAL, Y_VAL)
    assert {name: each[-1] for name, each in scores.items()} == found
    for name in NAMES:
        alone = clone(model).set_params(validation_metric=name)
        assert alone.fit(X, X_val=VAL, y_val=Y_VAL).validation_scores_ == scores[name]
    assert model.best_validation_score_ == max(scores["recall@3"])
    assert f"best recall@3 {model.best_validation_score_:.4f}" in model._repr_html_()
    pytest.importorskip("skops")
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.validation_scores_ == scores
    assert loaded.validation_metric == NAMES
    assert loaded.set_params(validation_metric="mrr").validation_scores_ == scores


@pytest.mark.parametrize("first", ["ndcg@3", "coverage@3"])
def test_the_first_metric_decides(first):
    options = dict(early_stopping=True, max_iter=8, n_iter_no_change=2, tol=0.0)
    others = [name for name in ("ndcg@3", "coverage@3") if name != first]
    one = make_model(**options, validation_metric=first).fit(X)
    several = make_model(**options, validation_metric=(first, *others)).fit(X)
    assert several.n_iter_ == one.n_iter_
    assert several.validation_scores_[first] == one.validation_scores_
    assert same_embeddings(one, several)


def test_a_list_of_one_gives_a_dict():
    model = make_model(validation_metric=["ndcg@3"]).fit(X, X_val=VAL)
    assert list(model.validation_scores_) == ["ndcg@3"]
    assert make_model(validation_metric=["ndcg@3"]).fit(X).validation_scores_ is None


def test_verbose_prints_all(capsys):
    model = make_model(validation_metric=["ndcg@3", "mrr@3"], verbose=1)
    scores = model.fit(X, X_val=VAL).validation_scores_
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("epoch")]
    for n, line in enumerate(lines):
        values = "  ".join(f"{name} {each[n]:.4f}" for name, each in scores.items())
        assert f"  {values}  " in line


# --- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "error", "message"),
    [
        ("log_loss", ValueError, "validation_metric='log_loss' is .* mean 'neg_log_loss'"),
        (["ndcg@3", "recal@5"], ValueError, "validation_metric='recal@5' .*'recall@5'"),
        ([], ValueError, r"validation_metric=\[\] must name at least one"),
        (["auc", "auc"], ValueError, "must name at least one metric, and each once"),
        (["auc", 3], TypeError, "validation_metric=3 is not a string"),
        ({"auc": "auc"}, ValueError, "'validation_metric' parameter"),
        (None, ValueError, "'validation_metric' parameter"),
    ],
)
def test_what_is_no_metric(metric, error, message):
    with pytest.raises(error, match=message):
        make_model(validation_metric=metric).fit(X)


@pytest.mark.parametrize("metric", ["roc_gauc", ["ndcg@3", "roc_auc"]])
def test_metrics_of_rows_need_both_classes(metric):
    model = make_model(validation_metric=metric, early_stopping=True)
    model.set_params(validation_fraction=0.3)
    with pytest.raises(ValueError, match="early stopping holds out positives .*sample_neg"):
        model.fit(X, np.arange(90) % 9 > 0)
    with pytest.raises(ValueError, match="X_val has only positives .*sample_negatives"):
        model.fit(X, X_val=VAL)


def test_no_user_of_both_classes():
    labels = VAL["user"].to_numpy() % 2
    with pytest.raises(ValueError, match="no user of X_val has rows of both classes"):
        make_model(validation_metric="roc_gauc").fit(X, X_val=VAL, y_val=labels)


def test_a_metric_that_is_not_defined_cannot_decide():
    """One item in the catalogue: there is no other one to rank it against."""
    one = pd.DataFrame({"user": [0, 1, 2], "item": [7, 7, 7], "time": [0, 1, 2]})
    new = pd.DataFrame({"user": [9], "item": [7], "time": [3]})
    model = make_model(validation_metric=["auc", "ndcg@3"], early_stopping=True)
    with pytest.warns(UserWarning):
        with pytest.raises(ValueError, match="'auc', which decides when to stop, is not"):
            model.fit(one, X_val=new)
        scores = clone(model).set_params(early_stopping=False).fit(one, X_val=new)
    assert np.isnan(scores.validation_scores_["auc"]).all()
