"""Histories in their order: what each row reads, and batches of whole sequences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._nn.attention import SequenceReader
from sktwotower._nn.batches import REPLAYED, TrainingRows
from sktwotower._nn.candidates import SharedCandidates
from sktwotower._nn.known_pairs import KnownPositives
from sktwotower._nn.segments import Sequences
from sktwotower._nn.sequence_batches import SequenceBatches, most_batches
from sktwotower._nn.sequence_rows import SequenceRows
from tests._nn.test_history_rows import entity_rows

DIM, SIZE = 4, 6


def reader(dropout=0.0):
    generator = torch.Generator().manual_seed(0)
    made = SequenceReader(
        DIM, size=SIZE, n_layers=2, n_heads=2, dropout=dropout, generator=generator
    )
    torch.nn.init.normal_(made.start, generator=generator)
    return made


VECTORS = torch.randn(9, DIM, generator=torch.Generator().manual_seed(1))


def read_alone(made, items):
    """What a row that reads these items gets, from a sequence of its own."""
    return made(
        Sequences(
            torch.tensor(items, dtype=torch.long),
            torch.tensor([len(items)]),
            torch.tensor([0]),
            torch.tensor([len(items)]),
            len(items),
            VECTORS,
        ),
        None,
    )[0]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_rows_of_one_sequence_read_as_if_each_had_its_own(data):
    """No row sees what comes after it, nor another sequence, nor an unknown item."""
    lists = st.lists(st.integers(0, 8), max_size=SIZE)
    histories = data.draw(st.lists(lists, min_size=1, max_size=4))
    starts = torch.tensor([0] + [len(one) for one in histories]).cumsum(0)
    items = torch.tensor(sum(histories, []), dtype=torch.int32)
    sequence_of = data.draw(
        st.lists(st.integers(0, len(histories) - 1), min_size=1, max_size=8)
    )
    n_read = [data.draw(st.integers(0, len(histories[s]))) for s in sequence_of]
    sequence_of = torch.tensor(sequence_of)
    rows = SequenceRows(
        entity_rows(3),
        torch.zeros(len(sequence_of), dtype=torch.long),
        items,
        sequence_of,
        starts[:-1],
        starts[sequence_of] + torch.tensor(n_read),
        VECTORS,
    )
    made, order = reader(), torch.randperm(len(rows))
    found = made(rows.take(order).history, None)
    for place, row in enumerate(order.tolist()):
        read = histories[sequence_of[row]][: n_read[row]]
        alone = read_alone(made, [item for item in read if item > 0])
        torch.testing.assert_close(found[place], alone)


def test_the_weights_of_attention_are_those_that_are_used():
    """Layers that mix values by these weights give the same vectors."""
    made, items = reader(dropout=0.5), torch.tensor([3, 5, 3, 8])
    length = torch.tensor([len(items)])
    history = Sequences(items, length, torch.tensor([0]), length, len(items), VECTORS)
    weights = made.attention(history)
    assert made.training and weights.shape == (2, 1, 2, 5, 5)
    torch.testing.assert_close(weights, weights.tril())  # nothing from the future
    hidden = torch.cat([made.start[None], VECTORS[items]]) + made.positions[:5]
    for layer, of_heads in zip(made.layers, weights[:, 0], strict=True):
        values = layer.queries_keys_values(layer.attention_norm(hidden))[:, 2 * DIM :]
        mixed = [of_heads[h] @ values[:, 2 * h : 2 * h + 2] for h in range(2)]
        hidden = hidden + layer.attended(torch.cat(mixed, dim=1))
        hidden = hidden + layer.layer(layer.layer_norm(hidden))
    torch.testing.assert_close(made.norm(hidden[-1]), read_alone(made.eval(), [3, 5, 3, 8]))


def test_the_order_counts():
    made = reader()
    assert not torch.allclose(read_alone(made, [1, 2, 3]), read_alone(made, [2, 1, 3]))
    assert not torch.allclose(read_alone(made, [1, 2, 3]), read_alone(made, [2, 3]))


def test_an_empty_history_has_a_learned_vector():
    made = reader()
    read_alone(made, []).sum().backward()
    assert made.start.grad is not None and made.positions.grad[1:].abs().sum() == 0


def test_a_block_by_hand():
    """Against attention with a mask, written once more."""
    made, items = reader(), [3, 1, 4, 1]
    hidden = torch.cat([made.start[None], VECTORS[items]]) + made.positions[:5]
    for block in made.layers:
        normed = block.attention_norm(hidden)
        parts = block.queries_keys_values(normed).view(5, 3, 2, DIM // 2)
        heads = []
        for head in range(2):
            queries, keys, values = (parts[:, k, head] for k in range(3))
            scores = queries @ keys.T / math.sqrt(DIM // 2)
            scores[torch.ones(5, 5).triu(1).bool()] = -math.inf
            heads.append(scores.softmax(1) @ values)
        hidden = hidden + block.attended(torch.cat(heads, dim=1))
        inner = block.layer[0](block.layer_norm(hidden))
        hidden = hidden + block.layer[2](torch.nn.functional.gelu(inner))
    torch.testing.assert_close(read_alone(made, items), made.norm(hidden)[-1])


def test_dropout_is_drawn_from_the_generator():
    made = reader(dropout=0.5).train()
    two, first = torch.tensor([2]), torch.tensor([0])
    history = Sequences(torch.tensor([1, 2]), two, first, two, 2, VECTORS)
    drawn = [made(history, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(made.eval()(history, None), made(history, None))


# --- batches of whole sequences ------------------------------------------------------

# Two sequences of user 1, one of each of users 2, 3 and 4; items repeat within some.
SEQUENCE_OF = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 4, 4])
USERS = torch.tensor([1, 1, 1, 1, 1, 2, 2, 3, 4, 4])
ITEMS = torch.tensor([1, 2, 1, 3, 1, 2, 4, 1, 5, 2])
N_ITEMS = 6


def training_rows():
    return TrainingRows(
        USERS,
        ITEMS,
        torch.ones(len(USERS), dtype=torch.bool),
        None,
        n_users=5,
        n_items=N_ITEMS,
        user_inputs=torch.arange(len(USERS)),
        sequences=SEQUENCE_OF,
    )


def source_of(correction, **options):
    return SharedCandidates(
        training_rows(),
        from_batch=True,
        sampler=None,
        n_draws=0,
        items=torch.arange(1, N_ITEMS),
        correction=correction,
        whole_sequences=True,
        **{"known": None, "explicit": None, **options},
    )


def test_an_epoch_has_each_row_once_beside_its_sequence():
    batches = SequenceBatches(training_rows(), source_of("logq"), 2)
    generator = torch.Generator().manual_seed(0)
    orders = set()
    for _ in range(5):
        inputs = [batch.user_inputs for batch in batches.epoch(generator)]
        assert sorted(torch.cat(inputs).tolist()) == list(range(len(USERS)))
        for drawn in inputs:
            own = torch.isin(SEQUENCE_OF, SEQUENCE_OF[drawn]).nonzero()[:, 0]
            assert sorted(drawn.tolist()) == own.tolist()
        orders.add(tuple(torch.cat(inputs).tolist()))
    assert len(orders) > 1
    assert most_batches(training_rows(), None) == 5


def test_rows_from_before_are_drawn_by_sequence():
    n_new, n_before, length = 4, 200, 5
    sequences = torch.cat([torch.tensor([0, 0, 7, 40]), torch.arange(n_before) // length])
    n = n_new + n_before
    each = torch.arange(n)
    positive = torch.ones(n, dtype=torch.bool)
    rows = TrainingRows(each, each, positive, None, n, n, sequences=sequences)

    class Rows:
        def batch(self, rows, generator, n_users):
            assert len(rows.sequences.unique()) == n_users
            return rows

    batches = SequenceBatches(rows, Rows(), 3, n_new=n_new)
    assert batches.n_batches == 3 and batches.n_rows == n_new + REPLAYED * n_new
    generator = torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(200):
        parts = list(batches.epoch(generator))
        of_batches = [set(part.sequences.tolist()) for part in parts]
        assert sum(map(len, of_batches)) == len(set.union(*of_batches))
        trained = torch.cat([part.user_rows for part in parts]).sort().values
        assert trained[:n_new].tolist() == [0, 1, 2, 3] and len(trained) == batches.n_rows
        old = sequences[trained[n_new:]]
        counts = old.unique(return_counts=True)[1]
        assert (counts < length).sum() <= 1  # the last one is cut
        drawn.append(trained[n_new:])
    # Each row from before is drawn equally often.
    share = torch.bincount(torch.cat(drawn), minlength=n)[n_new:] / len(drawn)
    expected = REPLAYED * n_new / n_before
    error = math.sqrt(expected * (1 - expected) / len(drawn))
    assert (share - expected).abs().max() < 4.5 * error


@pytest.mark.parametrize("correction", ["logq", "refined"])
def test_the_correction_is_the_probability_to_be_in_the_batch(correction):
    """Against the share of batches that have an item, drawn 2,000 times."""
    known = KnownPositives(USERS, ITEMS) if correction == "refined" else None
    batches = SequenceBatches(training_rows(), source_of(correction, known=known), 2)
    generator = torch.Generator().manual_seed(0)
    size = 3  # of five sequences in two batches, the first has three
    n, present = 0, torch.zeros(N_ITEMS)
    log_q = torch.full((N_ITEMS,), math.nan)
    for _ in range(2000):
        batch = next(iter(batches.epoch(generator)))
        log_q[batch.item_rows] = batch.log_q.float()
        if correction == "refined":  # given the sequence of user 3, who has item 1 alone
            if 7 not in batch.user_inputs:
                continue
        n += 1
        present[batch.item_rows] += 1
    expected = present / n
    items = [2, 3, 4, 5] if correction == "refined" else [1, 2, 3, 4, 5]
    torch.testing.assert_close(
        log_q[items].exp(), expected[items], atol=4 * 0.5 / math.sqrt(n), rtol=0
    )
    # by hand: item 5 is in one of the sequences
    share = size / 5 if correction == "logq" else (size - 1) / 4
    assert log_q[5].exp() == pytest.approx(share, rel=1e-6)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.randoms())
def test_halves_have_whole_sequences_and_about_as_many_items(lengths, random):
    """No sequence is in both halves, and none is so long that moving it would help."""
    ends = torch.tensor(lengths).cumsum(0)
    starts = ends - torch.tensor(lengths)
    order = list(range(len(lengths))) * 2  # two rows of each sequence
    random.shuffle(order)
    sequence_of = torch.tensor(order)
    rows = SequenceRows(
        entity_rows(3),
        torch.zeros(len(order), dtype=torch.long),
        torch.ones(sum(lengths), dtype=torch.int32),
        sequence_of,
        starts,
        ends[sequence_of],
    )
    halves = rows.halves(torch.arange(len(order)))
    assert torch.cat(halves).sort()[0].tolist() == list(range(len(order)))
    if len(lengths) == 1:
        assert len(halves) == 1
        return
    first, other = (set(sequence_of[half].tolist()) for half in halves)
    assert first and other and not first & other
    n_items = [sum(lengths[s] for s in half) for half in (first, other)]
    assert abs(n_items[0] - n_items[1]) <= 2 * max(lengths)
