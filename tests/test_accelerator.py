"""The benchmark of an accelerator, on the CPU and with tiny sizes."""

import json

import pytest
import torch

from benchmarks import _common, accelerator
from tests.helpers import needs_sklearn_1_9

ARGUMENTS = ["--device", "cpu", "--tiny", "--threads", "1"]


@pytest.fixture
def results(monkeypatch, tmp_path):
    """Reads the rows of a part by what was measured."""
    monkeypatch.setattr(_common, "RESULTS", tmp_path)

    def read(part):
        record = json.loads((tmp_path / f"accelerator-{part}.json").read_text())
        assert record["settings"]["device"] and record["versions"]["torch"]
        return {row.pop("measured"): row for row in record["rows"]}

    return read


@pytest.mark.slow
@needs_sklearn_1_9
def test_all_parts(results):
    assert accelerator.main(ARGUMENTS) == 0
    losses = results("losses")
    assert len(losses) == 5
    for row in losses.values():  # the same device twice
        assert row["CPU"] == row["device"] > 0 and row["difference"] == 0
        assert row["as it should be"] is True
    waiting = results("waiting")
    assert list(waiting) == list(losses)
    assert all(row == {"note": "not applicable"} for row in waiting.values())
    for row in results("throughput").values():
        assert row["ratio"] == pytest.approx(row["device"] / row["CPU"]) and row["CPU"] > 0
    dense = results("dense")
    exact, *others = dense.values()
    assert exact["to float32"] == 1 and exact["loss"] > 0
    for name, row in dense.items():
        assert row["share"] == pytest.approx(row["TFLOP/s"] / row["peak TFLOP/s"])
        assert row["TFLOP/s"] == pytest.approx(row["GFLOP"] / row["ms a step"])
        assert row["GFLOP"] == exact["GFLOP"] > 0
        assert row["to float32"] == pytest.approx(1, abs=0.01)
        assert (row["to float32"] != 1) == ("bfloat16" in name)  # it was in use
    assert len(others) == 3 and torch.get_float32_matmul_precision() == "highest"
    warning, error = results("too-large").values()
    assert warning["as it should be"] and "Lower embedding_dim" in warning["note"]
    assert error == {"note": "not applicable"}


@pytest.mark.slow
def test_what_fails_is_reported_and_the_others_are_measured(results, monkeypatch, capsys):
    monkeypatch.setattr(accelerator, "TOLERANCE", -1.0)
    original = accelerator.rate

    def rate(data, *arguments):
        if len(data) <= 600:  # the first of the data sets
            raise RuntimeError("no such kernel")
        return original(data, *arguments)

    monkeypatch.setattr(accelerator, "rate", rate)
    monkeypatch.setattr(accelerator, "dense", lambda sizes, device: iter(()))
    assert accelerator.main(ARGUMENTS) == 1
    assert not any(row["as it should be"] for row in results("losses").values())
    failed, measured = results("throughput").values()
    assert failed == {"as it should be": False, "note": "RuntimeError: no such kernel"}
    assert measured["ratio"] > 0
    assert "no such kernel" in capsys.readouterr().err


def test_what_there_is_no_time_for_is_left_out(results):
    assert accelerator.main([*ARGUMENTS, "--budget", "0"]) == 0
    for part in ("losses", "waiting", "throughput", "dense", "too-large"):
        notes = {row["note"] for row in results(part).values()}
        assert notes == {"skipped: no time is left"}


def test_a_measurement_ends_with_the_budget():
    def measure():
        while True:
            pass

    row = accelerator.measured(measure, "cpu", 0.01)
    assert row == {"note": "stopped: no time is left"}


def test_without_a_device_it_says_what_runs(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    with pytest.raises(SystemExit):
        accelerator.main(["--tiny"])
    assert "--device cpu runs without one" in capsys.readouterr().err
