"""The history field: bags of past items, gathered without a loop."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._nn.history_rows import HistoryRows
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.towers import Tower

N_ITEMS = 5


def entity_rows(n, with_id=True):
    return EntityRows(
        id_codes=torch.arange(n) if with_id else None,
        n_ids=n,
        pointers=torch.zeros(n, 1, dtype=torch.int64),
        columns=torch.zeros(0, dtype=torch.int64),
        values=torch.zeros(0),
        field_widths=(),
    )


def tower_of(rows):
    return Tower(
        rows,
        embedding_dim=2,
        hidden_layer_sizes=(),
        activation="relu",
        batch_norm=False,
        dropout=0.0,
        normalize=False,
        n_history_items=N_ITEMS,
        generator=torch.Generator().manual_seed(0),
    )


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_field_is_the_sum_over_the_root_of_the_number(data):
    items = data.draw(st.lists(st.integers(0, N_ITEMS - 1), max_size=12))
    n_rows = data.draw(st.integers(1, 5))
    bounds = st.integers(0, len(items))
    windows = [sorted((data.draw(bounds), data.draw(bounds))) for _ in range(n_rows)]
    left_out = data.draw(st.lists(st.integers(1, 4), min_size=n_rows, max_size=n_rows))
    rows = HistoryRows(
        entity_rows(3),
        torch.randint(3, (n_rows,)),
        torch.tensor(items, dtype=torch.int64),
        torch.tensor([start for start, _ in windows]),
        torch.tensor([end for _, end in windows]),
        torch.tensor(left_out),
    )
    tower = tower_of(rows.rows)
    order = torch.randperm(n_rows)
    fields = tower.fields(rows.take(order))
    assert fields.shape == (n_rows, 2, 2)  # the id, then the history
    for place, row in enumerate(order.tolist()):
        start, end = windows[row]
        bag = [item for item in items[start:end] if item and item != left_out[row]]
        expected = torch.zeros(2)
        if bag:
            expected = tower.history_table[bag].sum(0) / len(bag) ** 0.5
        torch.testing.assert_close(fields[place, 1], expected)
        torch.testing.assert_close(fields[place, 0], tower.id_table[rows.row_of[row]])


def test_a_tower_of_history_alone():
    rows = HistoryRows(
        entity_rows(2, with_id=False),
        torch.tensor([0, 1]),
        torch.tensor([1, 2]),
        torch.tensor([0, 2]),
        torch.tensor([2, 2]),
    )
    tower = tower_of(rows.rows)
    assert tower.id_table is None
    embedded = tower.embed(rows)
    bias = tower.mlp[-1].bias.detach()
    torch.testing.assert_close(embedded[1], bias)  # no history, and nothing else
    assert not torch.allclose(embedded[0], bias)


def test_id_dropout_drops_its_share_in_training_alone():
    rows = entity_rows(4)
    tower = Tower(
        rows,
        embedding_dim=2,
        hidden_layer_sizes=(),
        activation="relu",
        batch_norm=False,
        dropout=0.0,
        normalize=False,
        id_dropout=0.3,
        generator=torch.Generator().manual_seed(0),
    )
    batch = rows.take(torch.full((20_000,), 2))
    generator = torch.Generator().manual_seed(1)
    fields = tower.fields(batch, None, generator)[:, 0]
    dropped = (fields == tower.id_table[0]).all(dim=1)
    assert abs(dropped.float().mean().item() - 0.3) < 0.015
    assert (fields[~dropped] == tower.id_table[2]).all()
    # A mask of self-supervision says itself which ids are hidden.
    masked = tower.fields(batch, torch.tensor([False]), generator)[:, 0]
    assert (masked == tower.id_table[2]).all()
    tower.eval()
    assert (tower.fields(batch)[:, 0] == tower.id_table[2]).all()
    before = tower.id_table[0].clone()
    tower.set_unknown_id()  # it is trained, so it stays
    assert torch.equal(tower.id_table[0], before)
