"""When a fit in a notebook shows a progress bar."""

import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline

from sktwotower.metrics import make_ranking_scorer
from sktwotower.utils import _notebook
from tests.helpers import make_model, make_X, needs_sklearn_1_9, same_embeddings

X = make_X().drop_duplicates(["user", "item"], ignore_index=True)


@pytest.fixture
def bars(monkeypatch):
    """As in a notebook; the names of the estimators for which a bar was set up."""
    started = []

    class ProgressBar:
        max_propagation_depth = 1

        def setup(self, estimator, context):
            started.append(context.estimator_name)

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            started[-1] += "."

        def teardown(self, estimator, context):
            started[-1] += " done"

    monkeypatch.setattr(_notebook, "is_notebook", lambda: True)
    monkeypatch.setattr(_notebook, "ProgressBar", ProgressBar)
    return started


pytestmark = needs_sklearn_1_9


def test_a_fit_shows_a_bar(bars):
    model = make_model(max_iter=3)
    fitted = model.fit(X)
    assert bars == ["TwoTowerRecommender.... done"]  # three epochs and the fit
    assert not hasattr(fitted, "_skl_callbacks")
    assert same_embeddings(fitted, make_model(max_iter=3, verbose=0).fit(X))
    fitted.partial_fit(X)
    assert len(bars) == 1


def test_a_bar_beside_other_callbacks(bars):
    class Count:
        n_epochs = 0

        def setup(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            self.n_epochs += context.task_name == "epoch"

        def teardown(self, estimator, context):
            pass

    count = Count()
    model = make_model().set_callbacks(count).fit(X)
    assert len(bars) == 1
    assert count.n_epochs == 2
    assert model._skl_callbacks == [count]

    class TqdmProgress(Count):
        pass

    make_model().set_callbacks(TqdmProgress()).fit(X)
    assert len(bars) == 1


@pytest.mark.parametrize("verbose", [0, 1, False, True])
def test_verbose_decides(bars, verbose):
    make_model(verbose=verbose).fit(X)
    assert not bars


def test_a_fit_that_is_refused_takes_its_bar_along(bars):
    model = make_model(learning_rate=1e30, weight_decay=0.0, normalize=False)
    with pytest.raises(ValueError, match="diverge"):
        model.fit(X)
    assert bars[0].endswith("done")
    assert not hasattr(model, "_skl_callbacks")


def in_a_pipeline():
    make_pipeline(make_model()).fit(X)


def in_a_search():
    grid = {"temperature": [0.1, 0.2]}
    GridSearchCV(make_model(), grid, cv=KFold(2)).fit(X)


def in_cross_validation():
    scoring = make_ranking_scorer("ndcg@3", exclude_seen=False)
    cross_validate(make_model(), X, cv=KFold(2), scoring=scoring)


def in_a_study():
    optuna = types.ModuleType("optuna.study")
    exec("def optimize(objective):\n    return objective()", optuna.__dict__)
    optuna.optimize(lambda: make_model().fit(X))


def in_a_thread():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(make_model().fit, X).result()


@pytest.mark.parametrize(
    "fits", [in_a_pipeline, in_a_search, in_cross_validation, in_a_study, in_a_thread]
)
def test_one_fit_of_many_shows_none(bars, fits):
    fits()
    assert not bars


def test_nothing_outside_a_notebook(monkeypatch, capsys):
    assert not _notebook.is_notebook()
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    assert not _notebook.is_notebook()  # there is no shell
    make_model().fit(X)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("lacking", ["rich", "ipywidgets"])
def test_nothing_without_the_packages(monkeypatch, lacking):
    rich = types.ModuleType("rich")
    rich.get_console = lambda: types.SimpleNamespace(is_jupyter=True)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "rich", rich)
    there = {"rich", "ipywidgets"}
    monkeypatch.setattr(_notebook, "find_spec", lambda name: name in there or None)
    assert _notebook.is_notebook()
    there.remove(lacking)
    assert not _notebook.is_notebook()


@pytest.mark.slow
def test_in_a_kernel():
    nbclient = pytest.importorskip("nbclient")
    for package in ("ipykernel", "ipywidgets", "rich"):
        pytest.importorskip(package)
    import nbformat

    cells = [
        "from sktwotower import TwoTowerRecommender\n"
        "X = [[u, i] for u in range(6) for i in range(5) if (u + i) % 2]\n"
        "model = TwoTowerRecommender(max_iter=3, random_state=0).fit(X);",
        "model.set_params(verbose=0).fit(X);",
    ]
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    shown, silent = (cell.outputs for cell in notebook.cells)
    assert any("widget-view" in kind for output in shown for kind in output.get("data", {}))
    assert not [output for output in shown if output.get("name") == "stderr"]
    assert not silent
