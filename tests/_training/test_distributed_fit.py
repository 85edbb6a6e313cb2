"""Two processes train the models that one does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests._training.fit_all import MODELS, fit_models
from tests.helpers import one_thread

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.distributed.is_available(), reason="torch is built without distributed"
    ),
]
SCRIPT = Path(__file__).parent / "fit_all.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of this process alone, and of each of two under torchrun."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with subprocess.Popen(
        [sys.executable, *torchrun, str(SCRIPT), str(folder)],
        env=one_thread(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        alone = fit_models()
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return [alone, *(dict(np.load(folder / f"{rank}.npz")) for rank in (0, 1))]


def test_the_loss_curve_is_the_one_of_one_process(results):
    alone, *ranks = results
    for name in MODELS:
        for rank in ranks:
            np.testing.assert_allclose(
                rank[f"{name}: loss"],
                alone[f"{name}: loss"],
                rtol=1e-4,
                atol=1e-6,
                err_msg=name,
            )


def test_embeddings_are_equal_on_all_ranks(results):
    alone, first, second = results
    embeddings = {name: first[name] for name in first if name != "threads"}
    assert len(embeddings) == 3 * len(MODELS) + 1
    for name, value in embeddings.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
        if not name.startswith("unseeded"):
            np.testing.assert_allclose(value, alone[name], atol=1e-3, err_msg=name)


def test_no_thread_outlives_the_group(results):
    _, *ranks = results
    for rank in ranks:
        # A thread that ends after the interpreter would abort the process.
        assert not [name for name in rank.get("threads", []) if "gloo" in name]
