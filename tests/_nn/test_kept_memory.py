"""Memory that is kept from step to step."""

import threading

import pytest
import torch
from sklearn.base import clone

from sktwotower import TwoTowerRecommender
from sktwotower._nn import kept_memory as module
from sktwotower._nn.functional import look_up
from sktwotower._nn.kept_memory import empty_matrix, kept_memory
from sktwotower.history import TransformerHistory
from tests.helpers import NAMES, same_embeddings

LARGE = 2**10  # rows of 1,024 float32: 4 MB


@pytest.fixture(autouse=True)
def four_megabytes_are_large(monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES_OF_SMALL", 2**20)


def large(n_rows=LARGE, dtype=torch.float32):
    return empty_matrix(n_rows, 1024, torch.zeros(0, dtype=dtype))


def test_memory_is_reused_when_no_tensor_has_it():
    with kept_memory():
        first = large()
        address, part = first.data_ptr(), first[1:]
        del first
        second = large()  # a view still has the memory of the first
        part.fill_(1.0)
        second.fill_(2.0)
        assert (part == 1.0).all()
        del part
        third = large(LARGE // 2, torch.float64)
        assert (third.data_ptr(), third.dtype) == (address, torch.float64)
        assert third.shape == (LARGE // 2, 1024)
        assert large().data_ptr() not in (address, second.data_ptr())


def test_the_smallest_block_that_fits_is_taken():
    with kept_memory():
        blocks = [large(n) for n in (3 * LARGE, 12 * LARGE // 5, 2 * LARGE)]
        addresses = [block.data_ptr() for block in blocks]
        blocks.clear()
        assert large(2 * LARGE + 1).data_ptr() == addresses[1]
        assert large(LARGE).data_ptr() not in addresses  # they have too much


def test_growing_sizes_do_not_add_up():
    """A block replaces those that are a little smaller, not much smaller ones."""
    with kept_memory() as memory:
        for n in (5, 7, 8):
            large(n * LARGE)
        assert [len(block) / LARGE / 4096 for block in memory._free] == [5, 8]


def test_nothing_is_kept_after_the_end():
    with kept_memory() as memory:
        lent = large()
        large()
        assert len(memory._free) == 1
    assert not memory._free
    assert (lent.fill_(1.0) == 1.0).all()
    assert large().data_ptr() != lent.data_ptr()
    del lent
    assert not memory._free


def test_vectors_can_be_changed_in_place():
    """They are no views, so that large ones are as small ones."""
    table = torch.ones(LARGE, 1024, requires_grad=True)
    with kept_memory():
        vectors = look_up(table, torch.arange(LARGE))
        vectors.mul_(2.0).sum().backward()
    assert (table.grad == 2.0).all()


def test_a_thread_has_to_share_it():
    with kept_memory() as memory:
        kept = large().data_ptr()
        found = []
        for share in (False, True):

            def look(share=share):
                if share:
                    memory.use_here()
                found.append(large().data_ptr() == kept)

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
    assert found == [False, True]


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(
    "parameters",
    [
        {"negatives": "full"},
        {"hidden_layer_sizes": (8,), "popularity_prior": None},
        {"loss": "bpr", "optimizer": "adagrad"},
        {"history": TransformerHistory(size=4)},
    ],
)
def test_a_fit_is_the_same_with_it(parameters, data, monkeypatch):
    """Also if small arrays are kept: no array is written while another one needs it."""
    model = TwoTowerRecommender(
        **NAMES,
        max_iter=2,
        batch_size=128,
        random_state=0,
        **parameters,
    )
    found = []
    for most in (2**62, 0):
        monkeypatch.setattr(module, "_MOST_BYTES_OF_SMALL", most)
        found.append(clone(model).fit(data.interactions))
    assert same_embeddings(*found)
