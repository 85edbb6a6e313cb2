"""A field is a row of a dense matrix product; the rest of a tower by its definition."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._nn import inputs
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.layers import BatchNorm
from sktwotower._nn.towers import Tower

NO_ROWS = torch.zeros(0, dtype=torch.int64)


def entity_rows(blocks, id_codes=None, n_ids=0):
    """EntityRows of dense matrices that are stored sparsely, one a field."""
    columns, values, pointers = [], [], []
    for row in range(len(blocks[0])):
        start, ends = 0, [len(columns)]
        for block in blocks:
            (filled,) = np.nonzero(block[row])
            columns += (start + filled).tolist()
            values += block[row, filled].tolist()
            start += block.shape[1]
            ends.append(len(columns))
        pointers.append(ends)
    return EntityRows(
        id_codes=None if id_codes is None else torch.tensor(id_codes),
        n_ids=n_ids,
        pointers=torch.tensor(pointers, dtype=torch.int64),
        columns=torch.tensor(columns, dtype=torch.int64),
        values=torch.tensor(values, dtype=torch.float32),
        field_widths=tuple(block.shape[1] for block in blocks),
    )


def only_ids(codes, n_ids):
    return EntityRows(
        id_codes=torch.tensor(codes),
        n_ids=n_ids,
        pointers=torch.zeros(len(codes), 1, dtype=torch.int64),
        columns=NO_ROWS,
        values=torch.zeros(0),
        field_widths=(),
    )


def make_tower(rows, seed=0, **options):
    defaults = dict(
        embedding_dim=3,
        hidden_layer_sizes=(),
        activation="relu",
        batch_norm=False,
        dropout=0.0,
        normalize=False,
    )
    generator = torch.Generator().manual_seed(seed)
    return Tower(rows, **defaults | options, generator=generator)


def random_blocks(rng, n_rows, widths, density):
    return [
        sp.random(n_rows, width, density, random_state=rng, data_rvs=rng.randn)
        .toarray()
        .astype(np.float32)
        for width in widths
    ]


@given(
    st.integers(0, 10_000),
    st.integers(1, 8),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_fields_are_matrix_products(seed, n_rows, widths, density, data):
    rng = np.random.RandomState(seed)
    blocks = random_blocks(rng, n_rows, widths, density)
    tower_rows = entity_rows(blocks, id_codes=rng.randint(0, 4, n_rows).tolist(), n_ids=4)
    tower = make_tower(tower_rows)
    # any rows, repeated ones too, in any order
    taken = data.draw(st.lists(st.integers(0, n_rows - 1), max_size=12))
    rows = torch.tensor(taken, dtype=torch.int64)
    if not taken:
        return
    fields = tower.fields(tower_rows.take(rows)).detach().numpy()
    assert fields.shape == (len(taken), 1 + len(widths), 3)
    codes = tower_rows.id_codes[rows].numpy()
    np.testing.assert_array_equal(fields[:, 0], tower.id_table.detach().numpy()[codes])
    start = 0
    for position, block in enumerate(blocks, start=1):
        stop = start + block.shape[1]
        vectors = tower.column_table.detach().numpy()[start:stop]
        np.testing.assert_allclose(
            fields[:, position], block[taken] @ vectors, rtol=1e-4, atol=1e-5
        )
        start = stop


def test_dense_blocks_equal_sparse_ones():
    rng = np.random.RandomState(0)
    blocks = random_blocks(rng, 6, [3, 4], 0.7)
    sparse_rows = entity_rows(blocks)
    dense_rows = EntityRows(
        id_codes=None,
        n_ids=0,
        pointers=torch.zeros(6, 1, dtype=torch.int64),
        columns=NO_ROWS,
        values=torch.zeros(0),
        field_widths=(),
        dense=tuple(map(torch.from_numpy, blocks)),
    )
    assert sparse_rows.n_fields == dense_rows.n_fields == 2
    sparse, dense = make_tower(sparse_rows), make_tower(dense_rows)
    with torch.no_grad():
        dense.dense_tables[0].copy_(sparse.column_table[:3])
        dense.dense_tables[1].copy_(sparse.column_table[3:])
        dense.mlp.load_state_dict(sparse.mlp.state_dict())
    rows = torch.tensor([5, 0, 0, 3])
    torch.testing.assert_close(dense(dense_rows.take(rows)), sparse(sparse_rows.take(rows)))
    torch.testing.assert_close(dense.embed(dense_rows), sparse.embed(sparse_rows))


def test_take_of_empty_and_repeated_rows():
    block = np.array([[0, 0], [1, 2], [0, 0], [0, 3]], dtype=np.float32)
    rows = entity_rows([block, block[:, ::-1].copy()])
    batch = rows.take(torch.tensor([2, 1, 1, 0, 3]))
    assert batch.columns.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 1, 2]
    assert batch.values.tolist() == [1, 2, 2, 1, 1, 2, 2, 1, 3, 3]
    assert batch.offsets.tolist() == [0, 0, 0, 2, 4, 6, 8, 8, 8, 9]
    empty = rows.take(torch.tensor([0, 2]))
    fields = make_tower(rows).fields(empty)
    assert (fields == 0).all()


def test_all_rows_empty_can_be_trained():
    rows = entity_rows([np.zeros((3, 2), dtype=np.float32)])
    tower = make_tower(rows)
    tower(rows.take(torch.arange(3))).sum().backward()
    assert (tower.column_table.grad == 0).all()


def test_gradient_of_fields():
    rng = np.random.RandomState(0)
    (block,) = random_blocks(rng, 5, [4], 0.6)
    rows = entity_rows([block])
    tower = make_tower(rows)
    taken = torch.tensor([0, 3, 3, 1])
    upstream = torch.randn(4, 1, 3)
    tower.fields(rows.take(taken)).backward(upstream)
    expected = block[taken].T @ upstream[:, 0].numpy()
    np.testing.assert_allclose(tower.column_table.grad, expected, rtol=1e-4, atol=1e-5)


def test_gradcheck_through_the_tower():
    rng = np.random.RandomState(0)
    blocks = random_blocks(rng, 4, [3], 0.8)
    rows = entity_rows(blocks, id_codes=[1, 2, 0, 1], n_ids=3)
    tower = make_tower(rows, hidden_layer_sizes=(4,), activation="tanh", normalize=True)
    tower.double()
    batch = rows.take(torch.tensor([0, 1, 2, 3, 1]))
    batch = type(batch)(
        batch.id_codes, batch.columns, batch.values.double(), batch.offsets, batch.dense
    )
    names = [name for name, _ in tower.named_parameters()]

    def forward(*parameters):
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(tower, values, (batch,))

    assert torch.autograd.gradcheck(forward, tuple(tower.parameters()))


def rows_of_all_kinds(seed=0):
    """An id, two sparse fields and two dense ones."""
    rng = np.random.RandomState(seed)
    rows = entity_rows(
        random_blocks(rng, 6, [3, 4], 0.7), id_codes=[1, 2, 0, 3, 4, 1], n_ids=5
    )
    dense = tuple(map(torch.from_numpy, random_blocks(rng, 6, [2, 3], 1.0)))
    return replace(rows, dense=dense)


@given(st.lists(st.booleans(), min_size=5, max_size=5), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_a_masked_field_is_zero_and_a_masked_id_unknown(hidden, seed):
    rows = rows_of_all_kinds(seed)
    tower = make_tower(rows)
    batch = rows.take(torch.tensor([0, 3, 3, 5]))
    found, plain = tower.fields(batch, torch.tensor(hidden)), tower.fields(batch)
    for field in range(5):
        expected = plain[:, field]
        if hidden[field]:
            expected = tower.id_table[0].expand(4, -1) if field == 0 else 0 * expected
        torch.testing.assert_close(found[:, field], expected)


def test_a_mask_of_nothing_is_no_mask():
    rows = rows_of_all_kinds()
    tower = make_tower(rows, hidden_layer_sizes=(4,)).eval()
    batch, nothing = rows.take(torch.arange(6)), torch.zeros(5, dtype=torch.bool)
    assert torch.equal(tower(batch, mask=nothing), tower(batch))
    assert not nothing.any()


def test_a_mask_without_an_id():
    """The first entry is then a field like the others."""
    rows = entity_rows(random_blocks(np.random.RandomState(0), 4, [3, 2], 1.0))
    tower = make_tower(rows)
    batch = rows.take(torch.arange(4))
    fields = tower.fields(batch, torch.tensor([True, False]))
    assert (fields[:, 0] == 0).all()
    assert torch.equal(fields[:, 1], tower.fields(batch)[:, 1])


@pytest.mark.parametrize("hidden", range(5))
def test_the_table_of_a_masked_field_has_no_gradient(hidden):
    rows = rows_of_all_kinds()
    tower = make_tower(rows, hidden_layer_sizes=(8,), activation="tanh")
    mask = torch.zeros(5, dtype=torch.bool)
    mask[hidden] = True
    tower(rows.take(torch.arange(6)), mask=mask).square().sum().backward()
    # tables of the five fields; the two sparse ones share one
    sparse = tower.column_table.grad
    gradients = [
        tower.id_table.grad[1:],
        sparse[:3],
        sparse[3:],
        *(table.grad for table in tower.dense_tables),
    ]
    touched = [bool((gradient != 0).any()) for gradient in gradients]
    assert touched == [field != hidden for field in range(5)]
    assert (tower.id_table.grad[0] != 0).any()  # unknown, or the third row's


def test_a_masked_id_trains_the_unknown_one():
    rows = only_ids([1, 2, 3], 4)
    tower = make_tower(rows)
    tower(rows.take(torch.arange(3)), mask=torch.tensor([True])).sum().backward()
    assert tower.id_table.grad.abs().sum(1).bool().tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("has_id", "hidden", "scale"),
    [(True, None, 0.01), (False, None, 0.1), (True, (), 0.1), (False, (), 0.1)],
)
def test_features_that_are_added_to_an_id_start_small(has_id, hidden, scale):
    """The vectors of the ids then decide from the first step on."""
    block = sp.eye(400).toarray().astype(np.float32)
    rows = entity_rows([block], id_codes=[1] * 400 if has_id else None, n_ids=2)
    dense = replace(rows, dense=(torch.from_numpy(block),))
    tower = make_tower(dense, hidden_layer_sizes=hidden, embedding_dim=8)
    for table in (tower.column_table, *tower.dense_tables):
        assert table.std().item() == pytest.approx(scale, rel=0.1)


def test_only_looked_up_rows_have_a_gradient():
    rows = only_ids([1, 2, 3], 4)
    tower = make_tower(rows)
    tower(rows.take(torch.tensor([1, 1]))).sum().backward()
    assert tower.id_table.grad.abs().sum(1).bool().tolist() == [False, False, True, False]


def test_unknown_id_is_the_mean_of_the_known():
    tower = make_tower(only_ids([0, 1, 2], 3))
    known = tower.id_table[1:].detach().clone()
    tower.set_unknown_id()
    torch.testing.assert_close(tower.id_table[0], known.mean(0))
    assert torch.equal(tower.id_table[1:], known)
    tower.set_unknown_id()  # again: nothing accumulates
    torch.testing.assert_close(tower.id_table[0], known.mean(0))


def test_unknown_id_without_known_ones_or_without_ids():
    alone = make_tower(only_ids([0], 1))
    alone.set_unknown_id()
    assert torch.isfinite(alone.id_table).all()
    make_tower(entity_rows([np.eye(2, dtype=np.float32)])).set_unknown_id()


def test_normalised_or_not():
    rows = only_ids([1, 2, 3], 4)
    long = make_tower(rows, normalize=False)(rows.take(torch.arange(3)))
    unit = make_tower(rows, normalize=True)(rows.take(torch.arange(3)))
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(unit, long / long.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_layers(activation):
    rows = only_ids([1, 2, 3], 4)
    tower = make_tower(rows, hidden_layer_sizes=(5, 4), activation=activation)
    x = tower.id_table[1:]
    function = getattr(torch, activation, getattr(torch.nn.functional, activation, None))
    linears = [layer for layer in tower.mlp if isinstance(layer, torch.nn.Linear)]
    assert [(a.in_features, a.out_features) for a in linears] == [(3, 5), (5, 4), (4, 3)]
    for linear in linears[:-1]:
        x = function(linear(x))
    torch.testing.assert_close(tower(rows.take(torch.arange(3))), linears[-1](x))


def test_masked_rows_leave_no_trace_in_batch_norm():
    rows = entity_rows([np.random.RandomState(0).randn(6, 2)], [1, 2, 3, 1, 2, 3], 4)
    tower = make_tower(rows, hidden_layer_sizes=(4,), batch_norm=True)
    norm = next(layer for layer in tower.mlp if hasattr(layer, "running_mean"))
    everything = rows.take(torch.arange(6))
    tower(everything, None, torch.tensor([True, False]))
    assert norm.running_mean.tolist() == [0.0] * 4
    assert norm.running_var.tolist() == [1.0] * 4
    hidden = tower.mlp[0](tower.fields(everything, torch.tensor([True, False])).flatten(1))
    own = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + norm.eps).sqrt()
    torch.testing.assert_close(norm(hidden, keep=False), own)
    tower(everything)
    assert norm.running_mean.abs().min() > 0


def test_batch_norm_without_rows_leaves_no_trace():
    norm = BatchNorm(3).train()
    norm(torch.randn(5, 3))
    before = norm.running_mean.clone(), norm.running_var.clone()
    assert norm(torch.zeros(0, 3)).shape == (0, 3)
    assert torch.equal(norm.running_mean, before[0])
    assert torch.equal(norm.running_var, before[1])


def test_batch_norm_with_one_row():
    rows = only_ids([1, 2, 3], 4)
    tower = make_tower(rows, hidden_layer_sizes=(4,), batch_norm=True)
    tower.train()
    with torch.no_grad():
        for _ in range(3):
            tower(rows.take(torch.arange(3)))
    norm = tower.mlp[1]
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    one = rows.take(torch.tensor([1]))
    out = tower(one)
    assert torch.isfinite(out).all()
    assert torch.equal(norm.running_mean, mean)  # one row says nothing of a variance
    assert torch.equal(norm.running_var, var)
    out.sum().backward()
    assert torch.isfinite(tower.id_table.grad).all()
    tower.eval()
    torch.testing.assert_close(tower(one), out)


def test_embed_is_in_inference_mode_and_restores_the_mode():
    rows = only_ids([1, 2, 3, 1], 4)
    tower = make_tower(
        rows, hidden_layer_sizes=(16,), batch_norm=True, dropout=0.5, normalize=True
    )
    tower.train()
    tower(rows.take(torch.arange(4)))
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    first, second = tower.embed(rows), tower.embed(rows, block_size=3)
    torch.testing.assert_close(first, second)  # no dropout, no batch statistics
    assert tower.training
    for name, value in tower.state_dict().items():
        assert torch.equal(value, before[name]), name
    tower.eval()
    tower.embed(rows)
    assert not tower.training


def test_dropout_drops_in_training_only():
    rows = only_ids([1] * 64, 2)
    tower = make_tower(rows, dropout=0.5)
    tower.train()
    batch = rows.take(torch.arange(64))
    trained = tower(batch, torch.Generator().manual_seed(0))
    assert len(trained.unique(dim=0)) > 1
    again = tower(batch, torch.Generator().manual_seed(0))
    assert torch.equal(trained, again)
    tower.eval()
    assert len(tower(batch).unique(dim=0)) == 1


@pytest.mark.parametrize("hidden_layer_sizes", [(), (1,)])
def test_dropout_keeps_the_mean(hidden_layer_sizes):
    """One input in four is dropped, and what is left is scaled up."""
    rows = only_ids([1] * 20_000, 2)
    tower = make_tower(rows, dropout=0.25, hidden_layer_sizes=hidden_layer_sizes)
    with torch.no_grad():
        tower.id_table.abs_()
        for layer in tower.mlp.parameters():
            layer.abs_()  # so that no unit is off by the activation
    batch = rows.take(torch.arange(20_000))
    tower.train()
    trained = tower(batch, torch.Generator().manual_seed(0)).detach()
    tower.eval()
    torch.testing.assert_close(trained.mean(0), tower(batch)[0].detach(), rtol=0.02, atol=0)
    n_inputs = 3 if hidden_layer_sizes == () else 1
    bias = list(tower.mlp)[-1].bias.detach()
    all_dropped = (trained == bias).all(1).float().mean().item()
    assert all_dropped == pytest.approx(0.25**n_inputs, rel=0.15)


def test_weights_come_from_the_generator():
    rows = entity_rows([np.eye(3, dtype=np.float32)], id_codes=[0, 1, 2], n_ids=3)
    before = torch.get_rng_state()
    one, same, other = (
        make_tower(rows, seed=seed, hidden_layer_sizes=(5,)).state_dict()
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    for name in one:
        assert torch.equal(one[name], same[name]), name
        assert not torch.equal(one[name], other[name]), name


def test_initial_weights_are_those_of_torch():
    """The same distribution as nn.Linear's: uniform within 1 / sqrt(inputs)."""
    rows = entity_rows([np.eye(3, dtype=np.float32)], id_codes=[0, 1, 2], n_ids=3)
    tower = make_tower(rows, embedding_dim=200, hidden_layer_sizes=(100,))
    for layer, n_inputs in zip([tower.mlp[0], tower.mlp[2]], [400, 100], strict=True):
        usual = torch.nn.Linear(n_inputs, len(layer.bias))
        for mine, theirs in zip(layer.parameters(), usual.parameters(), strict=True):
            assert mine.shape == theirs.shape
            assert mine.abs().max() <= n_inputs**-0.5
            assert mine.std().item() == pytest.approx(theirs.std().item(), rel=0.25)
            assert abs(mine.mean().item()) < 0.3 * n_inputs**-0.5


def test_embedding_tables_are_the_tables():
    blocks = [np.eye(3, dtype=np.float32)]
    rows = entity_rows(blocks, id_codes=[0, 1, 2], n_ids=3)
    rows = replace(rows, dense=(torch.ones(3, 2),))
    tower = make_tower(rows)
    assert rows.n_fields == 3
    assert [tuple(t.shape) for t in tower.embedding_tables()] == [(3, 3), (3, 3), (2, 3)]
    others = set(tower.parameters()) - set(tower.embedding_tables())
    assert others == set(tower.mlp.parameters())


def test_len_counts_rows():
    assert len(only_ids([1, 2, 0], 3)) == 3
    assert only_ids([1], 2).n_fields == 1


def test_no_field_has_no_width():
    """A side without a field: the estimator refuses it before it gets here."""
    rows = EntityRows(
        None, 0, torch.zeros(2, 1, dtype=torch.int64), NO_ROWS, torch.zeros(0), ()
    )
    assert rows.n_fields == 0
    batch = rows.take(torch.tensor([0, 1]))
    assert batch.offsets.shape == (0,)
    assert batch.dense == ()


@pytest.mark.parametrize("hidden", [(), (5,)])
@pytest.mark.parametrize("with_id", [True, False])
@pytest.mark.parametrize("as_matrix", [False, True])
def test_columns_may_go_through_the_first_layer_before_rows(hidden, with_id, as_matrix):
    """Where there are more rows than columns: the same embeddings and gradients."""
    rows = rows_of_all_kinds()
    if not with_id:
        rows = replace(rows, id_codes=None)
    tower = make_tower(rows, activation="tanh", hidden_layer_sizes=hidden).double()

    def taken(rows, *, n_times=1):
        batch = rows.take(torch.arange(3).repeat(n_times))
        return replace(
            batch,
            values=batch.values.double(),
            dense=tuple(block.double() for block in batch.dense),
            matrix=None if batch.matrix is None else batch.matrix.double(),
        )

    by_row = taken(rows)
    assert not tower._is_cheaper_by_column(by_row)
    expected = tower.mlp(tower.fields(by_row).flatten(1))
    expected.square().sum().backward()
    expected_gradients = [p.grad.clone() for p in tower.parameters()]

    tower.zero_grad()
    given = rows.with_matrix() if as_matrix else rows
    by_column = taken(given, n_times=1 if as_matrix else 2)
    assert tower._is_cheaper_by_column(by_column)
    found = tower(by_column)[:3]
    found.square().sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close([p.grad for p in tower.parameters()], expected_gradients)


@given(
    st.integers(0, 10_000),
    st.integers(1, 8),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.2, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_rows_as_a_matrix(seed, n_rows, widths, density):
    rng = np.random.RandomState(seed)
    blocks = random_blocks(rng, n_rows, widths, density)
    rows = entity_rows(blocks).with_matrix()
    taken = rng.randint(0, n_rows, 5)
    for some in (rows, rows.head(taken.max() + 1)):
        matrix = some.take(torch.from_numpy(taken)).matrix
        np.testing.assert_array_equal(matrix, np.hstack(blocks)[taken])


def test_few_columns_and_a_small_matrix_are_narrow(monkeypatch):
    rows = entity_rows([np.eye(6, dtype=np.float32)])
    assert rows.is_narrow
    monkeypatch.setattr(inputs, "FEW_COLUMNS", 5)
    assert not rows.is_narrow
    monkeypatch.setattr(inputs, "FEW_COLUMNS", 6)
    monkeypatch.setattr(inputs, "_ENTRIES_OF_A_MATRIX", 35)
    assert not rows.is_narrow
    assert not only_ids([1, 2], 3).is_narrow


def test_answers_do_not_depend_on_the_batch():
    rows = rows_of_all_kinds()
    tower = make_tower(rows).eval()
    batch = rows.take(torch.arange(6).repeat(3))
    assert not tower._is_cheaper_by_column(batch)
