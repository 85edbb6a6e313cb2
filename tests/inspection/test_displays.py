"""The Displays draw what was computed, and have no side effects."""

import importlib
import re
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import sktwotower.inspection
from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import EASERecommender, PopularRecommender
from sktwotower.datasets import make_interactions
from sktwotower.history import TransformerHistory
from sktwotower.inspection import (
    AttentionDisplay,
    EmbeddingDisplay,
    ExplanationDisplay,
    PopularityBiasDisplay,
    RankingCurve,
    RankingCurveDisplay,
    SearchResultsDisplay,
    TrainingCurveDisplay,
)
from sktwotower.inspection._search_results import _suits_logarithm
from sktwotower.metrics import make_ranking_scorer

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")

DATA = make_interactions(
    n_users=60, n_items=40, n_interactions=900, feature_share=1.0, random_state=0
)
TRAIN, TEST = DATA.interactions[:700], DATA.interactions[700:]
COLUMNS = {"user_column": "user_id", "item_column": "item_id"}
DISPLAYS = [
    AttentionDisplay,
    ExplanationDisplay,
    TrainingCurveDisplay,
    RankingCurveDisplay,
    EmbeddingDisplay,
    PopularityBiasDisplay,
    SearchResultsDisplay,
]


def fit(X=TRAIN, **parameters):
    parameters = {"embedding_dim": 8, "max_iter": 3, "random_state": 0, **parameters}
    return TwoTowerRecommender(**COLUMNS, **parameters).fit(X)


@pytest.fixture(scope="module")
def model():
    return fit(item_table=DATA.item_table)


@pytest.fixture(scope="module")
def ordered():
    X = TRAIN.assign(at=np.arange(len(TRAIN)))
    return fit(X, timestamp_column="at", history=TransformerHistory(size=6))


@pytest.fixture(scope="module")
def popular():
    return PopularRecommender(**COLUMNS).fit(TRAIN)


@pytest.fixture(scope="module")
def validated():
    return fit(early_stopping=True, validation_metric="recall@5", max_iter=4)


@pytest.fixture(scope="module")
def search():
    return GridSearchCV(
        EASERecommender(**COLUMNS), {"regularization": [1.0, 10.0, 300.0]}, cv=3
    ).fit(TRAIN)


@pytest.fixture(autouse=True)
def tidy():
    """Close figures, and check that settings and the global generator do not change."""
    settings = dict(matplotlib.rcParams)
    state = np.random.mtrand._rand.get_state()[1].copy()
    plt.close("all")  # figures of doctests
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == settings
    np.testing.assert_array_equal(np.random.mtrand._rand.get_state()[1], state)


@pytest.fixture
def draw(model, validated, search, ordered):
    """A function that draws a Display of a class on the given axes."""

    def on(cls, ax=None):
        if cls is TrainingCurveDisplay:
            return cls.from_estimator(validated, ax=ax)
        if cls is EmbeddingDisplay:
            return cls.from_estimator(model, color_by="item_cat_0", ax=ax)
        if cls is AttentionDisplay:
            return cls.from_estimator(ordered, TRAIN["user_id"].iloc[0], ax=ax)
        if cls is ExplanationDisplay:
            return cls.from_estimator(model, *TRAIN[["user_id", "item_id"]].iloc[0], ax=ax)
        if cls is SearchResultsDisplay:
            return cls.from_estimator(search, ax=ax)
        return cls.from_estimator(model, TEST, ax=ax)

    return on


# --- all Displays --------------------------------------------------------------------


@pytest.mark.parametrize("cls", DISPLAYS)
@pytest.mark.slow
def test_new_figure_or_given_axes(cls, draw):
    display = draw(cls)
    assert len(plt.get_fignums()) == 1
    assert display.figure_ is display.ax_.figure is plt.gcf()
    display.figure_.canvas.draw()
    figure, (left, right) = plt.subplots(1, 2)
    assert draw(cls, right).ax_ is right
    assert display.plot(right) is display and display.figure_ is figure
    assert not left.has_data() and right.has_data()
    assert len(plt.get_fignums()) == 2
    assert display.plot().ax_ is not right
    assert len(plt.get_fignums()) == 3


@pytest.mark.parametrize("cls", DISPLAYS)
def test_every_axis_has_a_label(cls, draw):
    display = draw(cls)
    assert all(ax.get_xlabel() or ax is not display.ax_ for ax in display.figure_.axes)
    assert display.ax_.get_ylabel()


TITLES = {
    AttentionDisplay: "Attention to the history",
    ExplanationDisplay: r"User \S+, item \S+\nscore -?\d\.\d\d",
    TrainingCurveDisplay: "Training and validation",
    RankingCurveDisplay: "ndcg by length of the list",
    EmbeddingDisplay: "Item vectors by item_cat_0",
    PopularityBiasDisplay: "Popular items, consumed and recommended",
    SearchResultsDisplay: "Candidates of the search: score",
}


@pytest.mark.parametrize("cls", DISPLAYS)
def test_every_picture_has_a_title(cls, draw):
    display = draw(cls)
    assert re.fullmatch(TITLES[cls], display.ax_.get_title())
    for place in ("left", "center", "right"):  # a title of the axes stays
        _, ax = plt.subplots()
        ax.set_title("mine", loc=place)
        display.plot(ax)
        titles = {at: ax.get_title(at) for at in ("left", "center", "right")}
        assert titles == {"left": "", "center": "", "right": ""} | {place: "mine"}


def test_titles_of_less():
    assert TrainingCurveDisplay([2.0, 1.0]).plot().ax_.get_title() == "Training loss"
    points = EmbeddingDisplay([[0, 1], [1, 0]], ["a", "b"]).plot()
    assert points.ax_.get_title() == "Item vectors in two dimensions"
    parts = pd.DataFrame({"side": ["user"], "field": ["id"], "contribution": [0.5]})
    assert ExplanationDisplay(parts).plot().ax_.get_title() == "Parts of the score 0.50"
    heads = AttentionDisplay(["tea"], np.full((1, 2, 2, 2), 0.5)).plot(kind="heads")
    assert heads.ax_.get_title() == "Attention of each head to the history"


@pytest.mark.parametrize("cls", DISPLAYS)
def test_without_matplotlib(cls, draw, monkeypatch):
    display = draw(cls)
    plt.close("all")
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    message = rf"{cls.__name__}\.from_.* needs matplotlib.*sktwotower\[plot\]"
    with pytest.raises(ImportError, match=message):
        draw(cls)
    with pytest.raises(ImportError, match=rf"{cls.__name__}\.plot needs matplotlib"):
        display.plot()


def test_matplotlib_is_imported_late(monkeypatch):
    monkeypatch.setattr(sktwotower, "inspection", sktwotower.inspection)  # put back later
    for name in list(sys.modules):
        if name.startswith("sktwotower.inspection"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # any import of it fails
    assert importlib.import_module("sktwotower.inspection") is sktwotower.inspection


@pytest.mark.parametrize("cls", DISPLAYS)
def test_no_figure_is_left_when_drawing_fails(cls, draw, monkeypatch):
    display = draw(cls)
    plt.close("all")
    axes = matplotlib.axes.Axes

    def fails(*args, **kwargs):
        raise RuntimeError("cannot draw")

    for name in ("plot", "scatter", "errorbar", "barh"):
        monkeypatch.setattr(axes, name, fails)
    with pytest.raises(RuntimeError, match="cannot draw"):
        display.plot()
    assert not plt.get_fignums()


@pytest.mark.parametrize("cls", DISPLAYS)
def test_ax_must_be_axes(cls, draw):
    _, both = plt.subplots(2)
    with pytest.raises(TypeError, match="ax must be Matplotlib Axes or None; got ndarray"):
        draw(cls, both)


@pytest.mark.parametrize("cls", DISPLAYS)
@pytest.mark.parametrize("wrong", [LogisticRegression(), TwoTowerRecommender, "model"])
def test_other_models_are_refused(cls, wrong):
    X = (
        ()
        if cls in (TrainingCurveDisplay, EmbeddingDisplay, SearchResultsDisplay)
        else (TEST,)
    )
    X = ("ann", "tea") if cls is ExplanationDisplay else X
    error = (TypeError, NotFittedError) if cls is TrainingCurveDisplay else TypeError
    with pytest.raises(error):
        cls.from_estimator(wrong, *X)
    assert not plt.get_fignums()


@pytest.mark.parametrize("cls", DISPLAYS)
def test_unfitted_models_are_refused(cls):
    if cls is SearchResultsDisplay:
        with pytest.raises(NotFittedError):
            cls.from_estimator(GridSearchCV(TwoTowerRecommender(), {}))
        return
    X = () if cls in (TrainingCurveDisplay, EmbeddingDisplay) else (TEST,)
    X = ("ann",) if cls is AttentionDisplay else X
    X = ("ann", "tea") if cls is ExplanationDisplay else X
    for unfitted in (
        TwoTowerRecommender(),
        make_pipeline(FunctionTransformer(), TwoTowerRecommender()),
    ):
        with pytest.raises(NotFittedError, match="TwoTowerRecommender"):
            cls.from_estimator(unfitted, *X)
    if hasattr(cls, "from_estimators"):
        with pytest.raises(NotFittedError):
            cls.from_estimators([TwoTowerRecommender()], *X)


# --- training ------------------------------------------------------------------------


def test_training_curve(validated):
    display = TrainingCurveDisplay.from_estimator(validated, loss_kwargs={"color": "red"})
    epochs = np.arange(1, validated.n_iter_ + 1)
    np.testing.assert_array_equal(display.loss_line_.get_xdata(), epochs)
    np.testing.assert_array_equal(display.loss_line_.get_ydata(), validated.loss_curve_)
    line = display.validation_line_
    np.testing.assert_array_equal(line.get_xdata(), epochs)
    np.testing.assert_array_equal(line.get_ydata(), validated.validation_scores_)
    assert display.validation_ax_ is not display.ax_
    assert display.validation_ax_.get_ylabel() == "validation recall@5"
    assert display.best_.get_ydata() == [validated.best_validation_score_]
    best = int(np.argmax(validated.validation_scores_)) + 1
    assert display.best_.get_xdata() == [best]
    assert display.best_.get_label().endswith(f"after epoch {best}")
    assert display.loss_line_.get_color() == "red"
    assert display.ax_.yaxis.label.get_color() == "red"
    assert display.ax_.get_xlabel() == "epoch"


def test_training_curve_without_validation(model):
    display = TrainingCurveDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.loss_line_.get_ydata(), model.loss_curve_)
    assert display.validation_ax_ is display.validation_line_ is display.best_ is None
    assert display.figure_.axes == [display.ax_]


def test_training_curve_of_a_search_and_a_pipeline(validated):
    pipeline = make_pipeline(FunctionTransformer(), TwoTowerRecommender(**COLUMNS))
    grid = {"twotowerrecommender__max_iter": [2]}
    found = GridSearchCV(pipeline, grid, cv=2).fit(TRAIN)
    display = TrainingCurveDisplay.from_estimator(found)
    loss = found.best_estimator_[-1].loss_curve_
    np.testing.assert_array_equal(display.loss_line_.get_ydata(), loss)


def test_training_curve_of_one_of_several_metrics(validated):
    names = ["recall@5", "ndcg@10"]
    model = clone(validated).set_params(validation_metric=names).fit(TRAIN)
    scores = model.validation_scores_
    for metric, expected in ((None, "recall@5"), ("ndcg@10", "ndcg@10")):
        display = TrainingCurveDisplay.from_estimator(model, metric=metric)
        assert display.validation_ax_.get_ylabel() == f"validation {expected}"
        line = display.validation_line_
        np.testing.assert_array_equal(line.get_ydata(), scores[expected])
        assert display.best_.get_ydata() == [max(scores[expected])]
    plt.close("all")
    with pytest.raises(
        ValueError, match="'mrr': the model was validated on 'recall@5', 'n"
    ):
        TrainingCurveDisplay.from_estimator(model, metric="mrr")


def test_training_curve_refuses(popular):
    with pytest.raises(TypeError, match="keeps its loss_curve_; got PopularRecommender"):
        TrainingCurveDisplay.from_estimator(popular)
    with pytest.raises(ValueError, match="loss has 2 epochs and validation_scores has 1"):
        TrainingCurveDisplay([1.0, 0.5], validation_scores=[0.1]).plot()
    assert not plt.get_fignums()


# --- ranking -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric",
    [
        "ndcg",
        "recall",
        "precision",
        "map",
        "mrr",
        "hit_rate",
        "novelty",
        "coverage",
        "gini",
    ],
)
def test_ranking_curve_is_what_the_scorer_says(model, popular, metric):
    models = {"towers": model, "popular": popular}
    k = [1, 3, 10, 60]
    display = RankingCurveDisplay.from_estimators(models, TEST, metric=metric, k=k)
    scorer = make_ranking_scorer([f"{metric}@{cut}" for cut in k])
    for name, fitted in models.items():
        expected = list(scorer(fitted, TEST).values())
        np.testing.assert_allclose(display.curves[name].mean, expected, rtol=1e-12)
        line = display.lines_[name]
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_xdata(), k)
        np.testing.assert_array_equal(line.get_ydata(), display.curves[name].mean)
    assert display.ax_.get_ylabel() == f"{metric}@k"
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["towers", "popular"]
    assert set(display.bands_) == (set() if metric in ("coverage", "gini") else set(models))


def test_ranking_curve_band_by_hand(popular):
    k = 5
    display = RankingCurveDisplay.from_estimator(
        popular, TEST, metric="hit_rate", k=[k], confidence_level=0.9
    )
    seen = set(zip(TRAIN["user_id"], TRAIN["item_id"], strict=True))
    order = sorted(
        range(len(popular.item_ids_)), key=lambda i: (-popular.item_counts_[i], i)
    )
    hits = []
    for user, rows in TEST.groupby("user_id"):
        relevant = set(rows["item_id"]) & set(popular.item_ids_)
        if relevant:
            ids = [popular.item_ids_[i] for i in order]
            allowed = [i for i in ids if i in relevant or (user, i) not in seen]
            hits.append(bool(relevant & set(allowed[:k])))
    curve = display.curves["PopularRecommender"]
    half = 1.6448536 * np.std(hits, ddof=1) / np.sqrt(len(hits))
    assert curve.n_users == len(hits)
    assert curve.mean == pytest.approx(np.mean(hits))
    assert curve.upper - curve.mean == pytest.approx(half)
    assert curve.mean - curve.lower == pytest.approx(half)
    assert display.ax_.get_legend().get_title().get_text() == "mean, 90 % interval"


def test_ranking_curve_draws_the_band(model):
    display = RankingCurveDisplay.from_estimator(model, TEST, name="m", k=4)
    vertices = display.bands_["m"].get_paths()[0].vertices
    curve = display.curves["m"]
    np.testing.assert_array_equal(display.k, [1, 2, 3, 4])
    for bound in (curve.lower, curve.upper):
        for x, y in zip(display.k, bound, strict=True):
            assert np.isclose(vertices, (x, y)).all(axis=1).any()


def test_ranking_curve_ranks_once(popular):
    class Counting:
        n_calls = 0

        def recommend(self, X, **options):
            self.n_calls += 1
            return popular.recommend(X, **options)

        def seen_items(self, user_ids):
            return [[] for _ in user_ids]  # none of TEST

    models = [Counting(), Counting()]
    X = TEST[["user_id", "item_id"]]
    RankingCurveDisplay.from_estimators(models, X, k=20)
    assert [model.n_calls for model in models] == [1, 1]


def test_ranking_curve_labels_and_weights(model):
    rng = np.random.RandomState(0)
    y, weights = rng.randint(0, 2, len(TEST)), rng.randint(0, 3, len(TEST))
    display = RankingCurveDisplay.from_estimator(
        model, TEST, y, sample_weight=weights, metric="recall", k=[7]
    )
    expected = make_ranking_scorer("recall@7")(model, TEST, y, weights)
    assert display.curves["TwoTowerRecommender"].mean[0] == pytest.approx(expected)
    # The scale of the weights does not matter.
    again = RankingCurveDisplay.from_estimator(
        model, TEST, y, sample_weight=weights * 2, metric="recall", k=[7]
    )
    curve = display.curves["TwoTowerRecommender"]
    assert again.curves["TwoTowerRecommender"].upper == pytest.approx(curve.upper)


def test_ranking_curve_of_a_pipeline_a_search_and_an_external_estimator(popular):
    class External:
        def recommend(self, X, *, n_recommendations, exclude_seen):
            return popular.recommend(
                X, n_recommendations=n_recommendations, exclude_seen=exclude_seen
            )

    rename = FunctionTransformer(lambda X: X.rename(columns={"who": "user_id"}))
    pipeline = make_pipeline(rename, popular)
    X = TEST.rename(columns={"user_id": "who"})
    one = RankingCurveDisplay.from_estimator(pipeline, X, k=5, name="x")
    two = RankingCurveDisplay.from_estimator(popular, TEST, k=5, name="x")
    np.testing.assert_array_equal(one.curves["x"].mean, two.curves["x"].mean)
    fresh = TEST[~_among(TEST, TRAIN)]
    three = RankingCurveDisplay.from_estimator(
        External(), fresh[["user_id", "item_id"]], k=5
    )
    two = RankingCurveDisplay.from_estimator(popular, fresh, k=5, name="External")
    assert fresh["item_id"].isin(popular.item_ids_).all()
    np.testing.assert_allclose(three.curves["External"].mean, two.curves["External"].mean)


def _among(X, others):
    pairs = set(zip(others["user_id"], others["item_id"], strict=True))
    return np.array([p in pairs for p in zip(X["user_id"], X["item_id"], strict=True)])


def test_names_of_a_list(model, popular):
    display = RankingCurveDisplay.from_estimators([model, popular, model], TEST, k=2)
    assert list(display.lines_) == [
        "TwoTowerRecommender 1",
        "PopularRecommender",
        "TwoTowerRecommender 2",
    ]


@pytest.mark.parametrize("k", [0, -3, [1, 0], []])
def test_k_is_at_least_1(model, k):
    with pytest.raises(ValueError, match="k must be at least 1; got"):
        RankingCurveDisplay.from_estimator(model, TEST, k=k)


@pytest.mark.parametrize("k", [1.5, [1.0, 2.0], True, "10", [[1, 2]], None])
def test_k_is_whole(model, k):
    with pytest.raises(TypeError, match="k must be an integer or a list of integers"):
        RankingCurveDisplay.from_estimator(model, TEST, k=k)


def test_ranking_curve_refuses(model):
    draw = RankingCurveDisplay.from_estimator
    with pytest.raises(ValueError, match="did you mean 'ndcg"):
        draw(model, TEST, metric="ndgc")
    with pytest.raises(ValueError, match="has a cut-off, which k gives here: write 'ndcg'"):
        draw(model, TEST, metric="ndcg@10")
    with pytest.raises(ValueError, match="'auc' has no k, and so no curve; .* ndcg, rec"):
        draw(model, TEST, metric="auc")
    with pytest.raises(TypeError, match="is not a string"):
        draw(model, TEST, metric=3)
    with pytest.raises(ValueError, match="confidence_level must be between 0 and 1"):
        draw(model, TEST, confidence_level=1.0)
    with pytest.raises(ValueError, match="no row of X is relevant"):
        draw(model, TEST, np.zeros(len(TEST)))
    with pytest.raises(ValueError, match="none of the relevant items of X is in the cata"):
        draw(model, TEST.assign(item_id=-1))
    with pytest.raises(ValueError, match="models is empty"):
        RankingCurveDisplay.from_estimators({}, TEST)
    with pytest.raises(TypeError, match="dict of names to models, or a list of models"):
        RankingCurveDisplay.from_estimators(model, TEST)
    assert not plt.get_fignums()


def test_one_user_has_no_band(model):
    user = TEST["user_id"].iloc[0]
    display = RankingCurveDisplay.from_estimator(model, TEST[TEST["user_id"] == user], k=3)
    assert not display.bands_
    assert display.curves["TwoTowerRecommender"].n_users == 1


# --- embeddings ----------------------------------------------------------------------


def test_embedding_is_the_pca_of_the_vectors(model):
    display = EmbeddingDisplay.from_estimator(model, color_by="item_cat_0")
    vectors = model.item_embeddings_[:, :-1].astype(float)  # popularity is the last
    pca = PCA(2, svd_solver="full").fit(vectors)
    order = [list(model.item_ids_).index(i) for i in display.item_ids]
    expected = pca.transform(vectors[order])
    np.testing.assert_allclose(display.points, expected, atol=1e-6)
    assert f"({pca.explained_variance_ratio_[0]:.1%})" in display.ax_.get_xlabel()
    kinds = DATA.item_table.set_index("item_id")["item_cat_0"].reindex(display.item_ids)
    assert list(display.colors) == list(kinds)
    for kind, scatter in display.scatters_.items():
        here = (kinds == kind).to_numpy()
        np.testing.assert_array_equal(scatter.get_offsets(), display.points[here])
        assert scatter.get_label() == kind
    assert set(display.scatters_) == set(kinds)
    assert display.ax_.get_legend().get_title().get_text() == "item_cat_0"


def test_embedding_coloured_by_numbers(model):
    display = EmbeddingDisplay.from_estimator(model, color_by="item_num_1")
    numbers = DATA.item_table.set_index("item_id")["item_num_1"].loc[display.item_ids]
    np.testing.assert_array_equal(display.scatters_[None].get_array(), numbers)
    assert display.colorbar_.ax.get_ylabel() == "item_num_1"


def embedding_coloured_by(values, **scatter_kwargs):
    points = np.random.RandomState(0).uniform(size=(len(values), 2))
    return EmbeddingDisplay(points, range(len(values)), colors=values).plot(
        **scatter_kwargs
    )


YEARS = np.arange(1990.0, 2001).repeat(9)  # 99 items


@pytest.mark.parametrize(
    ("values", "expected", "extend"),
    [
        (YEARS, (1990, 2000), "neither"),
        ([*YEARS, 1900], (1990, 2000), "min"),
        ([*YEARS, 9999], (1990, 2000), "max"),
        ([*YEARS, 1900, 9999, np.nan], (1990, 2000), "both"),
        ([*YEARS, 1985], (1985, 2000), "neither"),  # half as far as the others reach
        ([4, 5, 5, 6, 7, 10_000], (4, 7), "max"),  # 2 % of few values are none
        ([5] * 99 + [10_000], (5, 10_000), "neither"),  # there is no range between
        ([3], (2.7, 3.3), "neither"),  # Matplotlib's range of one number
        ([0] * 5 + [9] * 95, (0, 9), "neither"),  # 5 % are no outliers
    ],
)
def test_colours_leave_out_outliers(values, expected, extend):
    display = embedding_coloured_by(values)
    scatter = display.scatters_[None]
    assert scatter.get_clim() == pytest.approx(expected)
    assert display.colorbar_.extend == extend
    known = np.asarray(values)[np.isfinite(values)]
    np.testing.assert_array_equal(scatter.get_array(), known)  # all of them are drawn


def test_colours_have_the_range_that_is_given():
    values = [*YEARS, 1900, np.nan]
    display = embedding_coloured_by(values, vmin=1950)
    assert display.scatters_[None].get_clim() == (1950, 2000)
    assert display.colorbar_.extend == "neither"
    norm = matplotlib.colors.Normalize(1800, 2100)
    assert embedding_coloured_by(values, norm=norm).scatters_[None].norm is norm
    embedding_coloured_by(["a", "b"], vmin=0, cmap="magma")  # as before: no numbers


def test_embedding_coloured_by_an_array_or_a_series(model):
    values = np.arange(len(model.item_ids_)) * 1.5
    display = EmbeddingDisplay.from_estimator(model, color_by=values)
    np.testing.assert_array_equal(np.sort(display.scatters_[None].get_array()), values)
    series = pd.Series(values, index=model.item_ids_, name="mine").sample(
        frac=1, random_state=0
    )
    again = EmbeddingDisplay.from_estimator(model, color_by=series[:-3])
    shown = dict(zip(again.item_ids, again.colors, strict=True))
    assert all(np.isnan(shown[i]) for i in series.index[-3:])
    assert all(shown[i] == series[i] for i in series.index[:-3])
    assert len(again.scatters_["missing"].get_offsets()) == 3
    assert again.color_name == "mine"


def test_embedding_colours_by_another_column_of_the_table():
    table = DATA.item_table.assign(title=[f"t{i % 3}" for i in range(40)])
    model = fit(item_table=EntityTable(table, "item_id", features=["item_num_1"]))
    display = EmbeddingDisplay.from_estimator(model, color_by="title")
    titles = table.set_index("item_id")["title"].loc[display.item_ids]
    assert list(display.colors) == list(titles)


def test_embedding_colours_by_features_in_X():
    X = TRAIN.merge(DATA.item_table, on="item_id")
    model = fit(X, item_features=["item_cat_0"])
    display = EmbeddingDisplay.from_estimator(model, color_by="item_cat_0")
    kinds = DATA.item_table.set_index("item_id")["item_cat_0"].loc[display.item_ids]
    assert list(display.colors) == list(kinds)


def test_embedding_colours_by_lists_and_positions(model):
    n = len(model.item_ids_)
    lists = [["a", "b"] if i % 2 else ["c"] for i in range(n)]
    display = EmbeddingDisplay.from_estimator(model, color_by=lists)
    assert set(display.scatters_) == {"a", "c"}
    X = TRAIN.merge(DATA.item_table, on="item_id")[["user_id", "item_id", "item_num_1"]]
    by_position = TwoTowerRecommender(
        item_features=[2], embedding_dim=8, max_iter=1, random_state=0
    ).fit(X.to_numpy())
    display = EmbeddingDisplay.from_estimator(by_position, color_by="x2")
    numbers = DATA.item_table.set_index("item_id")["item_num_1"].loc[display.item_ids]
    np.testing.assert_allclose(display.scatters_[None].get_array(), numbers)


def test_embedding_groups(model):
    n = len(model.item_ids_)
    values = np.array([f"g{i % 12}|x" if i else None for i in range(n)], dtype=object)
    display = EmbeddingDisplay.from_estimator(model, color_by=values)
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert len(legend) == 10 and legend[-2:] == ["other", "missing"]
    assert all(name.startswith("g") and "|" not in name for name in legend[:-2])
    drawn = sum(len(scatter.get_offsets()) for scatter in display.scatters_.values())
    assert drawn == n
    colors = {tuple(s.get_facecolor()[0]) for s in display.scatters_.values()}
    assert len(colors) == 10
    flags = EmbeddingDisplay.from_estimator(model, color_by=np.arange(n) % 2 == 0)
    assert set(flags.scatters_) == {True, False}


def test_embedding_samples(model):
    few = EmbeddingDisplay.from_estimator(model, max_items=7)
    every = EmbeddingDisplay.from_estimator(model)
    assert few.points.shape == (7, 2) and len(set(few.item_ids)) == 7
    place = [list(every.item_ids).index(i) for i in few.item_ids]
    np.testing.assert_array_equal(few.points, every.points[place])
    again = EmbeddingDisplay.from_estimator(model, max_items=7)
    np.testing.assert_array_equal(few.item_ids, again.item_ids)
    EmbeddingDisplay.from_estimator(model, max_items=7, random_state=None)


def test_embedding_draws_the_catalogue_alone():
    known = TRAIN["item_id"].unique()[:30]
    X = TRAIN[TRAIN["item_id"].isin(known)]
    model = fit(X, item_table=DATA.item_table)
    assert len(model.item_ids_) > 30
    display = EmbeddingDisplay.from_estimator(model)
    assert set(display.item_ids) == set(known)


def test_embedding_refuses(model, popular):
    draw = EmbeddingDisplay.from_estimator
    with pytest.raises(TypeError, match="item_embeddings_; got PopularRecommender"):
        draw(popular)
    with pytest.raises(ValueError, match="'colour' is not a feature.*'item_cat_0'"):
        draw(model, color_by="colour")
    with pytest.raises(ValueError, match="there are none: pass an array"):
        draw(fit(), color_by="colour")
    with pytest.raises(TypeError, match="name of a feature or one value an item; got 3"):
        draw(model, color_by=3)
    with pytest.raises(ValueError, match="color_by has 2 values for"):
        draw(model, color_by=[1, 2])
    with pytest.raises(ValueError, match="none of the item ids in its index"):
        draw(model, color_by=pd.Series([1, 2], index=["x", "y"]))
    with pytest.raises(ValueError, match="repeats item ids"):
        draw(model, color_by=pd.Series([1, 2], index=[1, 1]))
    for max_items in (0, 1.5, True):
        with pytest.raises(ValueError, match="max_items must be an integer of at least 1"):
            draw(model, max_items=max_items)
    with pytest.raises(ValueError, match="A plane needs two items and two dimensions"):
        draw(fit(embedding_dim=1, normalize=False, temperature=1.0, max_iter=1))
    assert not plt.get_fignums()


# --- popularity ----------------------------------------------------------------------


def shares_by_hand(model, k):
    counts = TRAIN["item_id"].value_counts()
    users = TRAIN["user_id"].unique()
    items, _ = model.recommend(users, n_recommendations=k)
    found = pd.Series([i for row in items for i in row if i is not None]).value_counts()
    frame = pd.DataFrame({"count": counts, "found": found}).reindex(
        counts.index.union(model.item_ids_)
    )
    frame = frame.fillna(0).sort_values("count", ascending=False)
    frame["found"] = frame.groupby("count")["found"].transform("mean")
    return frame["count"] / frame["count"].sum(), frame["found"] / frame["found"].sum()


def test_popularity_curve_by_hand(model, popular):
    models = {"towers": model, "popular": popular}
    display = PopularityBiasDisplay.from_estimators(models, TRAIN, n_recommendations=4)
    for name, fitted in models.items():
        consumed, recommended = shares_by_hand(fitted, 4)
        drawn = [0, *np.cumsum(recommended)]
        assert display.artists_[name].get_ydata() == pytest.approx(drawn)
        assert display.artists_["consumed"].get_ydata() == pytest.approx(
            [0, *np.cumsum(consumed)]
        )
        assert display.artists_[name].get_label() == f"{name}, top 4"
    assert display.artists_["popular"].get_xdata()[[0, -1]].tolist() == [0, 1]
    # With seen items, all users get the same four items.
    plain = PopularityBiasDisplay.from_estimator(
        popular, TRAIN, n_recommendations=4, exclude_seen=False, name="x"
    )
    gap = np.cumsum(plain.recommended["x"]) - np.cumsum(plain.consumed)
    assert gap.min() > -1e-9 and gap.max() > 0.3


def test_popularity_is_of_the_items_that_can_be_recommended():
    few = TRAIN[TRAIN["item_id"].isin(TRAIN["item_id"].unique()[:10])]
    model = fit(few, item_table=DATA.item_table, id_dropout=0.0, max_iter=1)
    assert len(model.item_ids_) > 10
    display = PopularityBiasDisplay.from_estimator(model, few, name="x")
    assert len(display.consumed) == len(display.recommended["x"]) == 10


def test_popularity_bars_add_up(model):
    display = PopularityBiasDisplay.from_estimator(model, TRAIN, kind="bar", n_groups=4)
    for name, share in {"consumed": display.consumed, **display.recommended}.items():
        heights = [bar.get_height() for bar in display.artists_[name]]
        assert len(heights) == 4 and sum(heights) == pytest.approx(1)
        quarter = len(share) // 4
        assert len(share) % 4 == 0
        assert heights[0] == pytest.approx(np.sum(share[:quarter]))


def test_popularity_does_not_depend_on_the_order_of_rows(popular):
    one = PopularityBiasDisplay.from_estimator(popular, TRAIN)
    two = PopularityBiasDisplay.from_estimator(popular, TRAIN[::-1])
    np.testing.assert_allclose(one.consumed, two.consumed)
    np.testing.assert_allclose(*(list(d.recommended.values())[0] for d in (one, two)))


def test_popularity_counts_positives_and_external_estimators(popular):
    class External:
        def recommend(self, X, *, n_recommendations, exclude_seen):
            found, _ = popular.recommend(
                X, n_recommendations=n_recommendations, exclude_seen=exclude_seen
            )
            return found

    y = np.arange(len(TRAIN)) % 2
    X = TRAIN[["user_id", "item_id"]]
    one = PopularityBiasDisplay.from_estimator(popular, X, y, name="x")
    two = PopularityBiasDisplay.from_estimator(popular, X[y > 0], name="x")
    np.testing.assert_array_equal(one.consumed, two.consumed)
    three = PopularityBiasDisplay.from_estimator(External(), X[y > 0], name="x")
    np.testing.assert_allclose(three.recommended["x"], two.recommended["x"])


def test_popularity_refuses(model):
    draw = PopularityBiasDisplay.from_estimator
    for n in (0, 2.5, True):
        with pytest.raises(ValueError, match="n_recommendations must be an integer of at"):
            draw(model, TRAIN, n_recommendations=n)
    with pytest.raises(ValueError, match="kind='pie' is unknown; it is 'curve' or 'bar'"):
        draw(model, TRAIN, kind="pie")
    with pytest.raises(ValueError, match="n_groups must be"):
        draw(model, TRAIN, n_groups=0)
    with pytest.raises(ValueError, match="no row of X is relevant"):
        draw(model, TRAIN, np.zeros(len(TRAIN)))
    everything = pd.DataFrame({"user_id": [1] * 3, "item_id": [1, 2, 3]})
    with pytest.raises(ValueError, match="recommends nothing to the users of X"):
        draw(PopularRecommender(**COLUMNS).fit(everything), everything)
    assert not plt.get_fignums()


# --- searches ------------------------------------------------------------------------


def results(params, means, stds=None, **more):
    """The attributes of a fitted search that the Display reads."""
    names = sorted({name for each in params for name in each})
    table = {"params": params, **more}
    for name in names:
        column = np.ma.masked_all(len(params), dtype=object)
        for row, each in enumerate(params):
            if name in each:
                column[row] = each[name]
        table[f"param_{name}"] = column
    table.setdefault("mean_test_score", np.array(means, dtype=float))
    table.setdefault("std_test_score", np.array(stds or [0.1] * len(means)))
    return SimpleNamespace(cv_results_=table, fit=None, refit=True)


def test_search_over_one_parameter(search):
    display = SearchResultsDisplay.from_estimator(search)
    line, _, (bars,) = display.errorbar_.lines
    means = search.cv_results_["mean_test_score"]
    stds = search.cv_results_["std_test_score"]
    np.testing.assert_array_equal(line.get_xdata(), [1.0, 10.0, 300.0])
    np.testing.assert_array_equal(line.get_ydata(), means)
    for segment, mean, std in zip(bars.get_segments(), means, stds, strict=True):
        np.testing.assert_allclose(segment[:, 1], [mean - std, mean + std])
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_xlabel() == "regularization"
    assert display.best_.get_xdata() == [search.best_params_["regularization"]]
    assert display.best_.get_label() == f"best: {search.best_score_:.4g}"


def test_search_over_two_parameters():
    params = [{"b": b, "a": a} for a in (0.1, 0.2) for b in ("x", None, (8, 4))]
    means = [0.1, 0.2, 0.3, 0.4, 0.6, 0.5]
    display = SearchResultsDisplay.from_estimator(results(params, means))
    grid = np.array(means).reshape(2, 3).T  # rows: b, columns: a
    np.testing.assert_array_equal(display.image_.get_array(), grid)
    assert display.ax_.get_xlabel() == "a" and display.ax_.get_ylabel() == "b"
    labels = [[t.get_text() for t in ticks] for ticks in _tick_labels(display.ax_)]
    assert labels == [["0.1", "0.2"], ["x", "None", "(8, 4)"]]
    written = [float(text.get_text()) for text in display.texts_]
    np.testing.assert_allclose(written, grid.ravel())
    assert np.mean(display.best_.get_xdata()[:-1]) == 1
    assert np.mean(display.best_.get_ydata()[:-1]) == 1
    assert display.colorbar_.ax.get_ylabel() == "mean score"


def _tick_labels(ax):
    return ax.get_xticklabels(), ax.get_yticklabels()


def test_search_without_a_grid():
    rng = np.random.RandomState(0)
    params = [{"a": a, "b": 10.0**b} for a, b in rng.uniform(size=(8, 2)) * 3]
    means = rng.uniform(size=8)
    display = SearchResultsDisplay.from_estimator(results(params, means))
    assert display.image_ is None
    points = {(x, y): z for (x, y), z in zip(*_scattered(display), strict=True)}
    assert points == {(p["a"], p["b"]): m for p, m in zip(params, means, strict=True)}
    assert display.ax_.get_yscale() == "log" and display.ax_.get_xscale() == "linear"
    best = params[int(np.argmax(means))]
    assert display.best_.get_xdata() == [best["a"]]


def _scattered(display):
    return map(tuple, display.scatter_.get_offsets().tolist()), display.scatter_.get_array()


def drawn_over(values):
    scores = np.linspace(0, 1, len(values))
    return SearchResultsDisplay([values], scores, scores, params=["a"]).plot()


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.06, 0.12, 0.24], "log"),
        ([16, 32, 64, 128], "log"),
        ([1, 5, 20], "log"),
        ([0.003, 0.1], "log"),
        ([1, 500, 1000], "log"),  # a factor of 1,000
        ([1, 500, 999], "linear"),
        ([10, 20, 30, 40], "linear"),
        ([1, 2], "linear"),
        ([0, 0.1, 1, 10], "linear"),
        ([-1, 1, 100], "linear"),
        ([1, 10, np.inf], "linear"),
        ([3, 3], "linear"),
    ],
)
def test_search_over_a_range_has_its_scale(values, scale):
    assert drawn_over(values).ax_.get_xscale() == scale


@pytest.mark.parametrize("n_candidates", [30, 60])
def test_search_over_random_draws_has_their_scale(n_candidates):
    rng = np.random.RandomState(0)
    for _ in range(20):
        uniform = rng.uniform(0.01, 1, n_candidates)  # up to a factor of 100
        assert not _suits_logarithm(np.sort(uniform))
        draws = loguniform(1e-4, 1e-2).rvs(n_candidates, random_state=rng)
        assert _suits_logarithm(np.sort(draws))


def test_ticks_of_a_logarithmic_axis():
    def ticks(values):
        display = drawn_over(values)
        low, high = display.ax_.get_xlim()
        labels = display.ax_.get_xticklabels()
        shown = [t.get_text() for t in labels if low <= t.get_position()[0] <= high]
        minor = display.ax_.get_xticklabels(minor=True)
        return shown, [text.get_text() for text in minor if text.get_text()]

    assert ticks([128, 16, 32, 64]) == (["16", "32", "64", "128"], [])
    assert ticks([0.004, 0.0042, 0.013, 0.03, 0.05]) == (
        ["0.005", "0.01", "0.02", "0.05"],
        [],
    )
    shown, _ = ticks([1e-6, 1.1e-6, 1e-4, 1e-2])
    assert all("10^{" in text for text in shown)


def test_search_has_the_best_over_the_other_parameters():
    params = [{"a": a, "b": b, "c": c} for a in (1, 2) for b in (1, 2) for c in (1, 2)]
    search = results(params, np.arange(8) / 10, [i / 100 for i in range(8)])
    with pytest.raises(ValueError, match="varied 3 parameters: a, b, c. Choose one or two"):
        SearchResultsDisplay.from_estimator(search)
    display = SearchResultsDisplay.from_estimator(search, params="a")
    np.testing.assert_array_equal(display.mean_scores, [0.3, 0.7])
    np.testing.assert_array_equal(display.std_scores, [0.03, 0.07])
    both = SearchResultsDisplay.from_estimator(search, params=["b", "a"])
    np.testing.assert_array_equal(both.image_.get_array(), [[0.1, 0.3], [0.5, 0.7]])


def test_search_over_names_has_no_line_between_them():
    params = [{"loss": name} for name in ("softmax", "bpr")] + [{}]
    display = SearchResultsDisplay.from_estimator(results(params, [0.3, 0.2, 0.1]))
    line = display.errorbar_.lines[0]
    assert line.get_linestyle() == "None"
    labels = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert labels == ["softmax", "bpr", "not set"]


def test_search_chooses_its_metric():
    params = [{"a": 1}, {"a": 2}]
    search = results(
        params,
        [0, 0],
        **{
            "mean_test_recall@5": np.array([0.1, 0.2]),
            "std_test_recall@5": np.array([0.0, 0.0]),
        },
    )
    search.refit = "recall@5"
    display = SearchResultsDisplay.from_estimator(search)
    assert display.ax_.get_ylabel() == "mean recall@5"
    np.testing.assert_array_equal(display.mean_scores, [0.1, 0.2])
    with pytest.raises(ValueError, match="'map@5' was not measured; the search has recall"):
        SearchResultsDisplay.from_estimator(search, metric="map@5")


def test_search_names_the_score_after_the_scorer():
    search = GridSearchCV(
        PopularRecommender(**COLUMNS),
        {"item_column": ["item_id"]},
        scoring=make_ranking_scorer("recall@5"),
        cv=2,
    ).fit(TRAIN)
    display = SearchResultsDisplay.from_estimator(search)
    assert display.ax_.get_ylabel() == "mean recall@5"


def test_search_leaves_out_failures():
    params = [{"a": a} for a in (1, 2, 3)]
    display = SearchResultsDisplay.from_estimator(results(params, [0.1, np.nan, 0.3]))
    np.testing.assert_array_equal(display.errorbar_.lines[0].get_xdata(), [1, 3])
    with pytest.raises(ValueError, match="no candidate has a score"):
        SearchResultsDisplay.from_estimator(results(params, [np.nan] * 3))


def test_a_halving_search_shows_the_last_iteration_of_each_candidate():
    search = HalvingGridSearchCV(
        EASERecommender(**COLUMNS),
        {"regularization": [1.0, 10.0, 300.0]},
        cv=KFold(2, shuffle=True, random_state=0),
        min_resources=200,
        random_state=0,
    ).fit(TRAIN)
    display = SearchResultsDisplay.from_estimator(search)
    table = pd.DataFrame(search.cv_results_)
    last = table.sort_values("iter").groupby("param_regularization").last()
    assert len(last) == 3 and table["iter"].max() > 0
    x, y = display.errorbar_.lines[0].get_data()
    np.testing.assert_array_equal(x, list(last.index))
    np.testing.assert_array_equal(y, last["mean_test_score"])


def test_search_refuses(search):
    draw = SearchResultsDisplay.from_estimator
    with pytest.raises(ValueError, match="'alpha' was not searched; .* regularization"):
        draw(search, params="alpha")
    with pytest.raises(ValueError, match="one or two different names"):
        draw(search, params=[])
    with pytest.raises(TypeError, match="needs a fitted search.*; got LogisticRegression"):
        draw(LogisticRegression())
    with pytest.raises(ValueError, match="One or two parameters can be drawn"):
        SearchResultsDisplay([[1]] * 3, [0.1], [0.0], params=["a", "b", "c"]).plot()
    assert not plt.get_fignums()


def test_displays_of_numbers_alone():
    """Each Display can be made without a model."""
    curve = RankingCurve(np.array([0.1]), np.array([0.0]), np.array([0.2]), 5)
    RankingCurveDisplay([1], {"a": curve}, "ndcg").plot()
    EmbeddingDisplay([[0, 1], [1, 0]], ["a", "b"]).plot(s=3)
    PopularityBiasDisplay([0.7, 0.3], {"a": [0.9, 0.1]}).plot(kind="bar", n_groups=2)
    SearchResultsDisplay([[1, 2]], [0.1, 0.2], [0.0, 0.0], params=["a"]).plot()
    TrainingCurveDisplay([2.0, 1.0], validation_scores=[0.1, 0.2]).plot()


# --- attention -----------------------------------------------------------------------


def test_attention_rollout_by_hand():
    """Two layers of one and of two heads, by the formula."""
    first = np.array([[1.0, 0.0], [0.25, 0.75]])
    heads = np.array([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.9, 0.1]]])
    display = AttentionDisplay(["tea"], [[first, first], heads]).plot()
    # The last row of .5 (A_2 + I) .5 (A_1 + I): (.35, .65) times [[1, 0], [.125, .875]].
    np.testing.assert_allclose(display.weights_, [0.35 + 0.65 * 0.125, 0.65 * 0.875])


def test_attention_of_the_items_that_are_read(ordered):
    user = TRAIN["user_id"].mode()[0]
    items = TRAIN["item_id"][TRAIN["user_id"] == user].tolist()
    display = AttentionDisplay.from_estimator(ordered, user)
    assert display.items == items[-6:]  # size=6
    assert display.weights_.sum() == pytest.approx(1)
    assert np.shape(display.attention) == (2, 2, 7, 7)
    np.testing.assert_allclose(
        [bar.get_width() for bar in display.artist_], display.weights_, rtol=1e-6
    )
    more = TRAIN["item_id"].iloc[[3]].tolist()
    longer = AttentionDisplay.from_estimator(ordered, user, history={user: more})
    assert longer.items == [*items[-5:], *more]
    new = AttentionDisplay.from_estimator(ordered, -1, history={-1: more})
    assert new.items == more


def test_attention_of_the_latest_items_is_drawn(ordered):
    user = TRAIN["user_id"].mode()[0]
    labels = {item: f"the {item}" for item in TRAIN["item_id"][::2]}
    display = AttentionDisplay.from_estimator(ordered, user, labels=labels, n_items=2)
    ticks = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert ticks == ["start", "4 earlier", *map(str, display.items[-2:])]
    widths = [bar.get_width() for bar in display.artist_]
    np.testing.assert_allclose(widths[1], display.weights_[1:-2].sum(), rtol=1e-6)
    assert any(str(item).startswith("the ") for item in display.items)
    display.plot(kind="heads", n_items=2)
    image = np.asarray(display.artist_.get_array())
    np.testing.assert_allclose(image.sum(0), np.ones(4), rtol=1e-6)
    expected = np.asarray(display.attention)[:, :, -1].reshape(4, -1)
    np.testing.assert_allclose(image[-2:], expected.T[-2:], rtol=1e-6)


def test_attention_needs_a_transformer_and_a_history(model, ordered):
    with pytest.raises(ValueError, match="needs a model with history=TransformerHistory"):
        AttentionDisplay.from_estimator(model, TRAIN["user_id"].iloc[0])
    with pytest.raises(ValueError, match="user -1 has no known item"):
        AttentionDisplay.from_estimator(ordered, -1)
    for several in ([-1], TRAIN["user_id"], TRAIN):
        with pytest.raises(TypeError, match="draws one user: user_id must be an id; got"):
            AttentionDisplay.from_estimator(ordered, several)
    with pytest.raises(ValueError, match="kind='line' is unknown; it is 'bar' or 'heads'"):
        AttentionDisplay.from_estimator(ordered, -1, kind="line")
    with pytest.raises(ValueError, match="n_items must be an integer of at least 1; got 0"):
        AttentionDisplay.from_estimator(ordered, -1, n_items=0)


# --- explanations --------------------------------------------------------------------


def test_largest_parts_are_drawn_and_the_others_added_up():
    parts = pd.DataFrame(
        {
            "side": ["user"] * 3 + ["history"] * 2,
            "field": ["id", "team", "history", "tea", "rum"],
            "contribution": [0.1, -0.5, 0.3, 0.2, 0.1],
        }
    )
    display = ExplanationDisplay(parts, title="User ann, item gin").plot(n_parts=2)
    assert display.score_ == pytest.approx(-0.1)
    assert display.ax_.get_title() == "User ann, item gin\nscore -0.10"
    widths = {
        side: [bar.get_width() for bar in bars] for side, bars in display.artists_.items()
    }
    assert widths == {"user": [-0.5, 0.3, pytest.approx(0.1)], "history": [0.2, 0.1]}
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["team", "history", "1 other", "tea", "rum"]


def test_explanation_of_a_pair(ordered):
    user, item = TRAIN[["user_id", "item_id"]].iloc[0]
    labels = {item: f"the {item}" for item in TRAIN["item_id"]}
    display = ExplanationDisplay.from_estimator(ordered, user, item, labels=labels)
    pd.testing.assert_series_equal(
        display.parts["contribution"], ordered.explain(user, item)["contribution"]
    )
    of_items = display.parts["field"][display.parts["side"] == "history"]
    assert all(name == "remainder" or name.startswith("the ") for name in of_items)
    assert f"item the {item}" in display.ax_.get_title()
    more = ExplanationDisplay.from_estimator(ordered, user, item, history={user: [item]})
    assert item in more.parts["field"].tolist()
    with pytest.raises(TypeError, match="draws one pair: item_id must be an id; got list"):
        ExplanationDisplay.from_estimator(ordered, user, [item])
    with pytest.raises(ValueError, match="n_parts must be an integer of at least 1; got 0"):
        ExplanationDisplay.from_estimator(ordered, user, item, n_parts=0)
