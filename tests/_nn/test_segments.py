"""Segments end to end equal a plain loop."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sktwotower._nn.segments import distinct, segment_positions


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=20))
def test_against_a_loop(segments):
    expected = [start + i for start, length in segments for i in range(length)]
    starts = torch.tensor([start for start, _ in segments], dtype=torch.int64)
    lengths = torch.tensor([length for _, length in segments], dtype=torch.int64)
    assert segment_positions(starts, lengths).tolist() == expected


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(41, 2000))
def test_distinct_is_unique(codes, n):
    """By marks and by sorting."""
    for dtype in (torch.int32, torch.int64):
        given_codes = torch.tensor(codes, dtype=dtype)
        found, positions = distinct(given_codes, n)
        expected, inverse = given_codes.unique(return_inverse=True)
        assert torch.equal(found, expected) and found.dtype == dtype
        assert torch.equal(positions, inverse)
