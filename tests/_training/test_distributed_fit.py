"""Two processes train what one would."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch is built without distributed"
)
SCRIPT = Path(__file__).parent / "fit_all.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of a process alone, and of each of two under torchrun."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for command in ([], torchrun):
        subprocess.run(
            [sys.executable, *command, str(SCRIPT), str(folder)],
            check=True,
            timeout=300,
            capture_output=True,
        )
    return [dict(np.load(folder / f"{name}.npz")) for name in ("alone", 0, 1)]


def test_the_loss_curve_is_that_of_one_process(results):
    alone, *ranks = results
    names = [name for name in alone if name.endswith(": loss")]
    assert len(names) == 22
    for name in names:
        for rank in ranks:
            np.testing.assert_allclose(
                rank[name], alone[name], rtol=1e-4, atol=1e-6, err_msg=name
            )


def test_embeddings_are_equal_on_all_ranks(results):
    alone, first, second = results
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
        if not name.startswith("unseeded"):
            np.testing.assert_allclose(value, alone[name], atol=1e-3, err_msg=name)
