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

def seen(**options):
    with joblib.parallel_config("loky", **options):
        found = search.fit(data.interactions).cv_results_
    return {name: [found[f"split{k}_test_{name}"][0] for k in (0, 1)]
            for name in ("ndcg", "pid", "threads")}

data = make_interactions(n_users=40, n_items=30, n_interactions=400, random_state=0)
model = TwoTowerRecommender(max_iter=1, random_state=0)
grid = {"embedding_dim": [8]}
search = GridSearchCV(model, grid, scoring=score, cv=2, n_jobs=2, refit=False)
alone = search.set_params(n_jobs=None).fit(data.interactions).cv_results_
search.set_params(n_jobs=2)
before = torch.get_num_threads()
n_cores = joblib.cpu_count(only_physical_cores=True)
print(json.dumps({
    "alone": [alone[f"split{k}_test_ndcg"][0] for k in (0, 1)],
    "by default": seen(),
    "asked for": seen(inner_max_num_threads=n_cores),
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
    assert told["main"]["pid"] not in told["by default"]["pid"]
    assert told["by default"]["threads"] == 2 * [max(joblib.cpu_count() // 2, 1)]


def test_scores_are_as_in_one_process(told):
    assert told["by default"]["ndcg"] == pytest.approx(told["alone"], abs=1e-3)


def test_threads_of_the_main_process_are_left_alone(told):
    assert told["main"]["after"] == told["main"]["before"]


def test_threads_that_are_asked_for(told):
    """What is above is joblib's doing, not what torch takes anyhow."""
    n_cores = joblib.cpu_count(only_physical_cores=True)  # MKL takes no more
    assert told["asked for"]["threads"] == 2 * [n_cores]
    expected = pytest.approx(told["by default"]["ndcg"], abs=1e-3)
    assert told["asked for"]["ndcg"] == expected
