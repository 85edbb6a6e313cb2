"""The generator of combinations that other tests rely on."""

from itertools import combinations, product

import pytest

from tests.helpers import pairwise


@pytest.mark.parametrize("sizes", [(2, 2), (3, 2), (7, 3, 4, 2, 2), (2,) * 9, (5, 1, 5)])
def test_every_pair_of_values_occurs(sizes):
    options = {f"p{n}": list(range(size)) for n, size in enumerate(sizes)}
    found = pairwise(options)
    for one, other in combinations(options, 2):
        pairs = {(row[one], row[other]) for row in found}
        assert pairs == set(product(options[one], options[other]))
    assert found == pairwise(options)
    largest, second = sorted(sizes)[::-1][:2]
    assert largest * second <= len(found) <= 1.5 * largest * second + 4
