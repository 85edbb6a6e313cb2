"""Shards of a table make it whole, and are refused if they are not those of one table."""

import pytest
import torch

from sktwotower._nn.shards import Shard, whole_table

SIZE = 3


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 10])
def test_the_tables_of_all_shards_make_the_table(n_rows):
    whole = torch.arange(n_rows * 2).view(n_rows, 2)
    shards = [Shard(rank, SIZE) for rank in range(SIZE)]
    tables = [shard.table_of(whole) for shard in shards]
    assert torch.equal(whole_table(tables), whole)
    for shard, table in zip(shards, tables, strict=True):
        rows = torch.arange(n_rows)
        rows = rows[shard.owns(rows) | (rows == 0)]
        assert torch.equal(table[shard.local(rows)], whole[rows])


@pytest.mark.parametrize(
    "cut", [lambda table: table[:2], lambda table: table[:, :1], lambda table: table[:0]]
)
def test_tables_of_other_shapes_are_refused(cut):
    """A single row or column would be the one of all users."""
    whole = torch.arange(20).view(10, 2)
    tables = [Shard(rank, SIZE).table_of(whole) for rank in range(SIZE)]
    tables[1] = cut(tables[1])
    with pytest.raises(ValueError, match=r"shard \d has the shape"):
        whole_table(tables)
