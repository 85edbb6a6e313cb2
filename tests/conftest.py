"""Settings and fixtures of the whole test suite."""

import os

# Before NumPy and torch are imported: several processes test at once, a core each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before SciPy is imported: scikit-learn skips its array API checks without it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

from sktwotower.datasets import make_interactions
from sktwotower.utils._sklearn import CallbackSupportMixin

pytest.register_assert_rewrite("tests.helpers")

# Several processes test at once: how long an example takes says nothing.
settings.register_profile("sktwotower", deadline=None)
settings.load_profile("sktwotower")

# On two threads the small batches of the tests take four times as long.
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.suffix == ".rst":  # pages of the user guide fit models
            item.add_marker(pytest.mark.slow)
        if isinstance(item, pytest.DoctestItem) and np.__version__ < "2":
            item.add_marker(pytest.mark.skip("the output of examples is that of NumPy 2"))


@pytest.fixture(autouse=True)
def callbacks_where_there_are_some(monkeypatch):
    """A test that sets callbacks is skipped before scikit-learn 1.9."""
    original = CallbackSupportMixin.set_callbacks

    def set_callbacks(self, *callbacks):
        if callbacks:
            pytest.skip("needs scikit-learn 1.9")
        return original(self)

    if not original.__module__.startswith("sklearn."):
        monkeypatch.setattr(CallbackSupportMixin, "set_callbacks", set_callbacks)


@pytest.fixture(scope="session")
def data():
    """A few users and items, with tables whose features count."""
    return make_interactions(
        n_users=60, n_items=40, n_interactions=900, feature_share=0.7, random_state=0
    )


@pytest.fixture
def four_threads():
    """Four threads of torch, so that a fit takes a second Python thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)
