"""A search in processes shares the cores: joblib says how, and torch obeys."""

import json
import os
import subprocess
import sys

import joblib
import pytest

# A script, so that torch starts as it does for a user: without a limit here, and in the
# workers with that of joblib. The scorer tells what it finds there after a fit.
SCRIPT = """
import json, os
import joblib, torch
from sklearn.model_selection import GridSearchCV
from sktwotower import TwoTowerRecommender
from sktwotower.datasets import make_interactions

def score(model, X, y=None):
    return {"ndcg": model.score(X), "pid": os.getpid(), "threads": torch.get_num_threads()}

def seen(n_jobs):
    with joblib.parallel_config("loky"):
        found = search.set_params(n_jobs=n_jobs).fit(data.interactions).cv_results_
    return {name: [found[f"split{k}_test_{name}"][0] for k in (0, 1)]
            for name in ("ndcg", "pid", "threads")}

data = make_interactions(n_users=40, n_items=30, n_interactions=400, random_state=0)
model = TwoTowerRecommender(max_iter=1, random_state=0)
grid = {"embedding_dim": [8]}
search = GridSearchCV(model, grid, scoring=score, cv=2, refit=False)
before = torch.get_num_threads()
print(json.dumps({
    "two": seen(2),
    "one": seen(None),
    "main": {"before": before, "after": torch.get_num_threads(), "pid": os.getpid()},
}))
"""
pytestmark = pytest.mark.slow
LIMITS = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}


@pytest.fixture(scope="module")
def told():
    """What the script prints."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={name: value for name, value in os.environ.items() if name not in LIMITS},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_processes_share_the_cores(told):
    """A process alone takes the threads that torch takes: the limit is of joblib."""
    assert told["main"]["pid"] not in told["two"]["pid"]
    assert told["two"]["threads"] == 2 * [max(joblib.cpu_count() // 2, 1)]
    assert told["one"]["threads"] == 2 * [told["main"]["before"]]


def test_scores_are_as_in_one_process(told):
    assert told["two"]["ndcg"] == pytest.approx(told["one"]["ndcg"], abs=1e-3)


def test_threads_of_the_main_process_are_left_alone(told):
    assert told["main"]["after"] == told["main"]["before"]
