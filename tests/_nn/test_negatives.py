"""The probability that an item is in a batch: counted, exact and at its extremes."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from sktwotower._nn.batches import InBatchSampler
from sktwotower._nn.negatives import in_batch_log_q


def exact_q(n, n_rows, batch_size):
    """In rationals, from the definition."""
    if n_rows - n < batch_size:
        return Fraction(1)
    absent = Fraction(1)
    for k in range(n):
        absent *= 1 - Fraction(batch_size, n_rows - k)
    return 1 - absent


def test_all_batches_enumerated():
    items = np.array([0, 0, 0, 1, 1, 2, 4])  # item 3 has no row
    for batch_size in range(1, 8):
        batches = list(combinations(items, batch_size))
        frequency = [np.mean([item in batch for batch in batches]) for item in range(5)]
        q = in_batch_log_q(torch.tensor([3, 2, 1, 0, 1]), batch_size).exp()
        np.testing.assert_allclose(q, frequency, rtol=1e-6)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20).filter(any), st.data())
@settings(max_examples=100, deadline=None)
def test_against_scipy_and_rationals(counts, data):
    n_rows = sum(counts)
    batch_size = data.draw(st.integers(1, n_rows))
    q = in_batch_log_q(torch.tensor(counts), batch_size).double().exp().numpy()
    by_scipy = 1 - hypergeom.pmf(0, n_rows, np.array(counts), batch_size)
    np.testing.assert_allclose(q, by_scipy, rtol=1e-5, atol=1e-7)
    exact = [float(exact_q(n, n_rows, batch_size)) for n in counts]
    np.testing.assert_allclose(q, exact, rtol=1e-6)


def test_counted_in_the_sampler():
    """Where it is used: frequencies of candidates over many epochs."""
    rng = np.random.RandomState(0)
    items = torch.from_numpy(rng.zipf(1.5, size=100).clip(max=20))
    sampler = InBatchSampler(
        torch.arange(100),
        items,
        None,
        batch_size=8,
        corrected=True,
        mask_known_positives=False,
    )
    generator = torch.Generator().manual_seed(0)
    seen, said = {}, {}
    n_epochs = 400
    for _ in range(n_epochs):
        for batch in sampler.epoch(generator):
            for item, log_q in zip(
                batch.item_rows.tolist(), batch.log_q.tolist(), strict=True
            ):
                key = (len(batch), item)
                seen[key] = seen.get(key, 0) + 1
                said[key] = math.exp(log_q)
    sizes = [len(part) for part in torch.arange(100).tensor_split(13)]
    for (size, item), times in seen.items():
        n_batches = n_epochs * sizes.count(size)
        q = said[size, item]
        deviation = math.sqrt(q * (1 - q) / n_batches)
        assert abs(times / n_batches - q) < 4.5 * deviation + 1e-9, (size, item)


def test_extremes():
    counts = torch.tensor([5, 0, 1, 4])
    whole = in_batch_log_q(counts, 10)  # b = N: everything that has a row is there
    assert whole.tolist() == [0.0, -math.inf, 0.0, 0.0]
    one = in_batch_log_q(counts, 1)  # b = 1: the frequency
    np.testing.assert_allclose(one.exp(), [0.5, 0.0, 0.1, 0.4], rtol=1e-6)
    # Six rows of others: a batch of seven cannot miss the item with four.
    assert in_batch_log_q(counts, 7)[3] == 0.0
    assert in_batch_log_q(counts, 6)[3] < 0.0
    assert in_batch_log_q(torch.tensor([1]), 1).tolist() == [0.0]


def test_result_is_float32_and_monotone():
    counts = torch.arange(1, 200)
    log_q = in_batch_log_q(counts, 64)
    assert log_q.dtype == torch.float32
    assert (log_q.diff() > 0).all()
    assert (log_q <= 0).all()


@pytest.mark.parametrize("batch_size", [1, 64, 8192, 1_000_000])
def test_accurate_for_a_hundred_million_rows(batch_size):
    n_rows = 100_000_000
    some = [1, 2, 3, 10, 1000]
    counts = torch.tensor([*some, n_rows // 50])
    # The rest are rows of one large item, whose own q is 1.
    counts = torch.cat([counts, (n_rows - counts.sum())[None]])
    # arange over the largest count would be 780 MB: split the rest into many items.
    rest = int(counts[-1])
    parts = torch.full((100,), rest // 100)
    parts[0] += rest - int(parts.sum())
    counts = torch.cat([counts[:-1], parts])
    assert int(counts.sum()) == n_rows
    log_q = in_batch_log_q(counts, batch_size).double()
    for n, value in zip(some, log_q.tolist(), strict=False):
        exact = float(exact_q(n, n_rows, batch_size))
        assert value == pytest.approx(math.log(exact), abs=2e-6)
    # 1 - (1 - p)^b where b << N
    p = counts.double() / n_rows
    approximation = torch.log(-torch.expm1(batch_size * torch.log1p(-p)))
    if batch_size <= 8192:
        torch.testing.assert_close(log_q, approximation, rtol=1e-3, atol=1e-3)


def test_counts_are_not_changed():
    counts = torch.tensor([3, 2, 1])
    in_batch_log_q(counts, 2)
    assert counts.tolist() == [3, 2, 1]
