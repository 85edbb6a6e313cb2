"""Segments end to end equal a plain loop."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sktwotower._nn.segments import segment_positions


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=20))
def test_against_a_loop(segments):
    expected = [start + i for start, length in segments for i in range(length)]
    starts = torch.tensor([start for start, _ in segments], dtype=torch.int64)
    lengths = torch.tensor([length for _, length in segments], dtype=torch.int64)
    assert segment_positions(starts, lengths).tolist() == expected
