"""The output in a notebook: the diagram, the lines of verbose, the progress bar."""

import re

import numpy as np
import pytest
import sklearn
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils import estimator_html_repr
from sklearn.utils.fixes import parse_version

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower._training import early_stopping as early_stopping_module
from sktwotower.datasets import make_interactions
from sktwotower.history import PooledHistory
from sktwotower.metrics import make_ranking_scorer
from tests.helpers import needs_sklearn_1_9

DATA = make_interactions(n_users=60, n_items=40, n_interactions=900, random_state=0)
X = DATA.interactions.drop_duplicates(["user_id", "item_id"], ignore_index=True)
COLUMNS = {"user_column": "user_id", "item_column": "item_id"}
ENCODER = make_column_transformer(
    (OneHotEncoder(), ["user_cat_0"]), (StandardScaler(), ["user_num_1"])
)


def make(**parameters):
    parameters = {"embedding_dim": 8, "max_iter": 2, "random_state": 0, **parameters}
    return TwoTowerRecommender(
        **COLUMNS,
        user_table=EntityTable(DATA.user_table, "user_id"),
        item_table=EntityTable(DATA.item_table, "item_id"),
        **parameters,
    )


def shown(model):
    """The diagram, without style and script."""
    html = estimator_html_repr(model)
    html = re.sub("<style>.*?</style>|<script>.*?</script>", "", html, flags=re.DOTALL)
    return html[html.index('class="sk-container"') :]


# --- the diagram ---------------------------------------------------------------------


def test_diagram_before_fit():
    html = shown(make(user_encoder=ENCODER))
    assert html.count('class="sk-parallel-item"') == 2 + 2  # and the ColumnTransformer's
    for text in ("user_encoder: users", "item_encoder: items", "FeatureEncoder"):
        assert f"<div>{text}</div>" in html
    for text in ("OneHotEncoder", "StandardScaler"):
        assert text in html
    assert '<div class="caption">embedding_dim=8</div>' in html
    assert "Not fitted" in html and "parameters," not in html


def test_diagram_after_fit():
    model = make(user_encoder=ENCODER, early_stopping=True, history=PooledHistory(3)).fit(X)
    html = shown(model)
    assert f"<div>user_encoder: {len(model.user_ids_)} users, 4 fields</div>" in html
    assert f"<div>item_encoder: {len(model.item_ids_)} items, 4 fields</div>" in html
    best = f"best ndcg@10 {model.best_validation_score_:.4f}"
    caption = f'<div class="caption">[0-9,]+ parameters, 2 epochs, {best}</div>'
    assert re.search(caption, html)
    assert "user fields: id, history, onehotencoder, standardscaler" in html
    assert "item fields: id, item_cat_0, item_num_1, item_tags_2" in html
    assert "OneHotEncoder" in html and "FeatureEncoder" in html


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.7"),
    reason="needs scikit-learn 1.7",
)
def test_the_names_to_copy_are_those_of_set_params():
    html = shown(make(user_encoder=ENCODER).fit(X))
    assert 'data-param-prefix="user_encoder__' in html
    assert 'data-param-prefix="item_encoder__' in html


def test_number_of_parameters_by_hand():
    model = TwoTowerRecommender(**COLUMNS, history=None, embedding_dim=8, max_iter=1)
    model.fit(X)
    rows = len(model.user_ids_) + len(model.item_ids_) + 2  # with an unknown one each
    linear = 2 * (8 * 8 + 8)
    caption = re.search('class="caption">([0-9,]+) parameters, 1 epoch<', shown(model))
    assert int(caption[1].replace(",", "")) == rows * 8 + linear


def test_diagram_without_features():
    model = TwoTowerRecommender(**COLUMNS, embedding_dim=8, max_iter=1)
    assert shown(model).count("<div>no features</div>") == 2
    html = shown(model.fit(X))
    assert html.count("<div>no features</div>") == 2
    assert f"{len(model.user_ids_)} users, 1 field<" in html
    assert "best" not in html.split('class="caption"')[1].split("</div>")[0]


def test_diagram_of_features_in_X():
    frame = X.merge(DATA.item_table, on="item_id")
    model = TwoTowerRecommender(
        **COLUMNS, item_features=["item_cat_0"], embedding_dim=8, max_iter=1
    )
    assert shown(model).count("<div>FeatureEncoder</div>") == 1
    assert f"{len(DATA.item_table)} items, 2 fields" in shown(model.fit(frame))


def test_diagram_is_escaped():
    table = DATA.item_table.rename(columns={"item_cat_0": "<script>alert(1)</script>"})
    model = TwoTowerRecommender(
        **COLUMNS, item_table=table, validation_metric="ndcg@10", max_iter=1
    ).fit(X)
    html = shown(model)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_diagram_inside_a_pipeline_and_a_search():
    pipeline = make_pipeline(FunctionTransformer(), make())
    assert "user_encoder: users" in shown(pipeline)
    search = GridSearchCV(make(), {"max_iter": [1]}, cv=2).fit(X)
    html = shown(search)
    assert f"{len(DATA.item_table)} items, 4 fields" in html
    assert "parameters, 1 epoch<" in html


def test_diagram_follows_partial_fit():
    model = make().partial_fit(X[:400]).partial_fit(X[400:])
    assert f"{len(model.user_ids_)} users" in shown(model)
    assert "parameters, 2 epochs<" in shown(model)


# --- lines and bars ------------------------------------------------------------------


def test_verbose_is_a_line_an_epoch(capsys):
    model = make(verbose=1, early_stopping=True, max_iter=3).fit(X)
    *lines, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"refit on all rows, epochs: [123]", last)
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == model.n_iter_ == 3
    for n, line in enumerate(epochs):
        assert line.startswith(f"epoch {n + 1}/3  loss {model.loss_curve_[n]:.4f}")
        assert f"ndcg@10 {model.validation_scores_[n]:.4f}" in line
        times = r"\d\.\d s, \d\.\d s left" if n < 2 else r"\d\.\d s"
        assert re.fullmatch(times, line.rpartition("  ")[2])
    assert lines[-3:] == epochs
    features = [line for line in lines if " feature " in line]
    assert features == [
        f"{side} feature {name}: {encoder.kinds_[name]}, {part.stop - part.start} "
        f"column{'s' if part.stop - part.start > 1 else ''}"
        for side, encoder in (("user", model.user_encoder_), ("item", model.item_encoder_))
        for name, part in encoder.output_indices_.items()
    ]
    others = [line for line in lines[:-3] if line not in features]
    assert others[0].startswith("positives: ")  # and then a line for each setting
    assert all(line.startswith("  ") for line in others[1:])
    make().fit(X)
    assert not capsys.readouterr().out


@needs_sklearn_1_9
def test_the_progress_bar_nests_in_a_search(capsys, monkeypatch):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    monkeypatch.setenv("COLUMNS", "200")  # rich shortens longer lines
    search = GridSearchCV(
        make(max_iter=2),
        {"embedding_dim": [4, 8]},
        cv=KFold(2),
        scoring=make_ranking_scorer("ndcg@10"),
    )
    search.set_callbacks(ProgressBar())
    search.fit(X)
    assert search.best_estimator_.n_iter_ == 2
    out = capsys.readouterr().out
    bars = [line for line in out.splitlines() if "TwoTowerRecommender" in line]
    assert len(bars) == 2 * 2 + 1  # one a fit: each candidate and fold, the refit
    # A thread draws the progress, which may be late on a busy machine.
    assert all(line.startswith("  ") for line in bars)
    assert out.startswith("GridSearchCV - fit")


# --- early stopping inside a search --------------------------------------------------


@pytest.mark.parametrize("timestamp_column", [None, "timestamp"])
def test_early_stopping_never_sees_the_test_fold(monkeypatch, timestamp_column):
    folds = list(KFold(3, shuffle=True, random_state=0).split(X))
    validated = []  # once a fit, which has one epoch
    evaluate = early_stopping_module.evaluate

    def recorded(recommender, interactions, *more, **options):
        validated.append(interactions)
        return evaluate(recommender, interactions, *more, **options)

    monkeypatch.setattr(early_stopping_module, "evaluate", recorded)
    search = GridSearchCV(
        make(early_stopping=True, timestamp_column=timestamp_column, max_iter=1),
        {"embedding_dim": [4, 8]},
        cv=folds,
        scoring=make_ranking_scorer("ndcg@10"),
        refit=False,
    ).fit(X)
    assert len(validated) == 2 * 3
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    for held_out, (train, test) in zip(validated, folds * 2, strict=True):
        pairs = set(zip(held_out.users, held_out.items, strict=True))
        assert len(pairs) == len(held_out.users) > 20
        assert pairs <= pairs_of(X.iloc[train])
        assert not pairs & pairs_of(X.iloc[test])


def pairs_of(rows):
    return set(zip(rows["user_id"], rows["item_id"], strict=True))
