"""The web service of ``examples/app.py``: any request at all, and many at once."""

import http.client
import warnings

import pytest

from tests.helpers import NAMES, example, make_model

for package in ("pyarrow", "safetensors", "skops", "fastapi", "prometheus_client"):
    pytest.importorskip(package)

pytestmark = pytest.mark.slow


def test_no_input_is_an_error_of_the_server(data, tmp_path, monkeypatch):
    reason = "it needs later versions than the oldest that are tested: make test has it"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        schemathesis = pytest.importorskip("schemathesis", reason=reason)
    hypothesis = pytest.importorskip("hypothesis")
    make_model(**NAMES, user_table=data.user_table).fit(data.interactions).save(tmp_path)
    monkeypatch.setenv("MODEL", str(tmp_path))
    app = example("app")
    app.latest.service = app.Service()
    schema = schemathesis.openapi.from_dict(app.app.openapi())
    schema.app = app.app
    n_asked = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        cases = operation.as_strategy()
        print(operation.label)
