"""The callbacks of examples/log_training.py write what the model keeps."""

import sys
import types

import pytest

from tests.helpers import example, make_model, make_X, needs_sklearn_1_9, other_pairs

X = make_X()
VAL = other_pairs(make_X(seed=1), X)
METRICS = ["ndcg@3", "recall@2"]

pytestmark = needs_sklearn_1_9


@pytest.fixture(scope="module")
def recipe():
    return example("log_training")


def fitted(callback, **parameters):
    model = make_model(validation_metric=METRICS, max_iter=3).set_params(**parameters)
    return model.set_callbacks(callback).fit(X, X_val=VAL)


def expected(model):
    scores = {k.replace("@", "_at_"): v for k, v in model.validation_scores_.items()}
    return {"loss": model.loss_curve_} | scores


def test_what_is_logged(recipe):
    class Keeps(recipe.EpochLog):
        logged = []

        def log(self, values, epoch):
            self.logged.append((values, epoch))

    model = fitted(Keeps())
    values = expected(model)
    assert [epoch for _, epoch in Keeps.logged] == [1, 2, 3]
    for n, (logged, _) in enumerate(Keeps.logged):
        assert logged == {name: each[n] for name, each in values.items()}
    Keeps.logged.clear()
    model = fitted(Keeps(), validation_metric="mrr@3")
    assert Keeps.logged[-1][0]["mrr_at_3"] == model.validation_scores_[-1]
    Keeps.logged.clear()
    make_model().set_callbacks(Keeps()).fit(X)
    assert [list(values) for values, _ in Keeps.logged] == [["loss"], ["loss"]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(recipe, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = fitted(recipe.TensorBoardLog(str(tmp_path)))
    events = EventAccumulator(str(tmp_path)).Reload()
    for name, values in expected(model).items():
        found = events.Scalars(name)
        assert [event.step for event in found] == [1, 2, 3]
        assert [event.value for event in found] == pytest.approx(values, rel=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own, which differ from version to version
def test_mlflow(recipe, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "quiet")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with mlflow.start_run() as run:
        model = fitted(recipe.MLflowLog())
    client = mlflow.MlflowClient()
    for name, values in expected(model).items():
        history = client.get_metric_history(run.info.run_id, name)
        assert [one.step for one in history] == [1, 2, 3]
        assert [one.value for one in history] == values
    assert client.get_run(run.info.run_id).data.params == {"embedding_dim": "4"}


def test_the_calls_of_mlflow(recipe, monkeypatch):
    """Without the package: the same calls."""
    calls = []
    mlflow = types.ModuleType("mlflow")
    mlflow.log_params = lambda params: calls.append(params)
    mlflow.log_metrics = lambda metrics, step: calls.append((metrics, step))
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    values = expected(fitted(recipe.MLflowLog()))
    assert calls[0] == {"embedding_dim": 4}
    assert calls[1:] == [
        ({name: each[n] for name, each in values.items()}, n + 1) for n in range(3)
    ]
