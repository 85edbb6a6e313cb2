"""Facts of the data, from the rows of one process or of several."""

import numpy as np
import pytest

from sktwotower._data.histories import InteractionCodes
from sktwotower._data.row_shares import OwnRows
from sktwotower._training.facts import DataFacts
from tests._nn.thread_ranks import on_ranks


@pytest.mark.parametrize("times", [None, np.int64, np.float64])
@pytest.mark.parametrize("users_of_last", [0, 1, 5])
def test_facts_of_shares_are_those_of_all_rows(times, users_of_last):
    """Each rank has the rows of its users; the last one may have none."""
    rng = np.random.default_rng(0)
    n, n_users = 200, 20
    users = rng.integers(1, n_users + 1, n).astype(np.int32)
    # Those of the last rank have many rows of one time, the others one.
    is_last = users <= users_of_last
    moments = None
    if times is not None:
        moments = (np.arange(n) // np.where(is_last, 90, 1)).astype(times)
    items = rng.integers(1, 9, n).astype(np.int32)
    rows = InteractionCodes(users, items, rng.random(n) < 0.7, moments)
    flags = {"has_user_features": False, "has_item_features": True}

    def call(ranks):
        own = rows.take(is_last if ranks.rank == 1 else ~is_last)
        share = OwnRows.after_those_before(len(own), ranks)
        return DataFacts.of(own, n_users, 9, **flags, share=share)

    assert on_ranks(2, call) == [DataFacts.of(rows, n_users, 9, **flags)] * 2
