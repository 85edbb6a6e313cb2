"""Labels of fields by hand, and what they tell of each other against scikit-learn."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from sktwotower._training.field_dependence import field_dependence, field_labels


def csr(rows):
    return sp.csr_matrix(np.asarray(rows, dtype=np.float32))


def groups(labels):
    """Which rows have a label in common, by the first of them."""
    labels = np.asarray(labels).tolist()
    return [labels.index(label) for label in labels]


def one_hot(labels, width=None):
    return csr(np.eye(width or max(labels) + 1)[labels])


# Labels


def test_one_hot():
    labels = [2, 0, 3, 2, 1, 0]
    assert field_labels(one_hot(labels)).tolist() == labels


@pytest.mark.parametrize("n_categories", [1, 2])
def test_one_hot_of_few_categories(n_categories):
    labels = [0, n_categories - 1, 0, 0, n_categories - 1]
    assert groups(field_labels(one_hot(labels, n_categories))) == groups(labels)


def test_multi_hot_is_led_by_its_first_or_largest_value():
    field = csr(
        [
            [0, 1, 1, 0],  # the first of equal ones
            [0, 0, 1, 1],
            [0.2, 0.5, 0, 0.9],
            [0, 1, 0, 0],
            [0.5, -0.7, 0.1, 0],  # by absolute value
        ]
    )
    assert field_labels(field).tolist() == [1, 2, 3, 1, 1]


def test_empty_rows_have_one_label_of_their_own():
    wide = csr([[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert groups(field_labels(wide)) == [0, 1, 2, 0]
    # of two columns: not that of column 0, nor of the last, at 0 or elsewhere
    for values in ([0, 1, 2, 0], [0, -1, -2, 0]):
        narrow = np.zeros((4, 2))
        narrow[1, 0], narrow[2, 1] = values[1:3]
        assert groups(field_labels(csr(narrow))) == [0, 1, 2, 0]
    # all of them
    assert groups(field_labels(csr(np.zeros((3, 4))))) == [0, 0, 0]
    assert groups(field_labels(csr(np.zeros((3, 1))))) == [0, 0, 0]


@pytest.mark.parametrize("scale", [1.0, -1e-3, 1e6])
def test_numbers_are_read_in_deciles(scale):
    values = scale * (np.random.RandomState(0).permutation(200) + 1.0)
    deciles = np.argsort(np.argsort(values)) // 20
    assert groups(field_labels(csr(values[:, None]))) == groups(deciles)


def test_numbers_around_zero():
    """One that is zero exactly is no entry of a sparse matrix."""
    values = np.arange(-10, 11) / 10
    labels = field_labels(csr(values[:, None]))
    counts = np.unique(labels, return_counts=True)[1]
    assert sorted(counts.tolist()) == [1] + [2] * 10
    assert (labels == labels[10]).sum() == 1


def test_few_distinct_numbers_are_categories():
    values = [3, 1, 1, 2, 3, 3, 1, 2, 1, 1]
    assert groups(field_labels(csr([[v] for v in values]))) == groups(values)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_equal_numbers_have_equal_labels_and_order_is_kept(values):
    labels = field_labels(csr([[v] for v in values]))
    filled = sorted((v, label) for v, label in zip(values, labels, strict=True) if v)
    for (v, label), (w, other) in zip(filled, filled[1:], strict=False):
        assert label == other if v == w else label <= other


def test_a_flag_of_missing_values():
    """A number and a flag: the missing are one label, the others are in deciles."""
    values = np.random.RandomState(1).permutation(100) + 10.0
    missing = np.arange(100) % 5 == 0
    field = csr(np.column_stack([np.where(missing, 0, values), missing]))
    labels = field_labels(field)
    assert len(set(labels[missing])) == 1
    assert not set(labels[missing]) & set(labels[~missing])
    there = values[~missing]
    deciles = np.argsort(np.argsort(there)) // 8
    assert groups(labels[~missing]) == groups(deciles)


def test_a_number_below_its_flag_is_read_by_the_flag():
    """As it says: the leading column is that of the largest absolute value."""
    assert groups(field_labels(csr([[0.5, 1], [0.7, 1], [2, 1], [2, 1]]))) == [0, 0, 2, 2]


def test_explicit_zeros_are_entries():
    field = sp.csr_matrix(
        (np.array([0.0, 1.0]), np.array([0, 2]), np.array([0, 1, 2, 2])), shape=(3, 3)
    )
    labels = field_labels(field)
    assert len(labels) == 3
    assert labels[1] == 2
    assert labels[2] not in labels[:2]


# Dependence


def test_identical_fields_have_dependence_one():
    labels = np.random.RandomState(0).randint(0, 4, 60)
    other_names = (labels + 1) % 4
    found = field_dependence([one_hot(labels), one_hot(other_names)], with_id=False)
    np.testing.assert_allclose(found, np.ones((2, 2)))


def test_independent_fields_have_dependence_zero():
    # every pair of categories once, and then at random
    first, second = np.divmod(np.arange(20), 5)
    exact = field_dependence([one_hot(first), one_hot(second)], with_id=False)
    np.testing.assert_allclose(exact, np.eye(2), atol=1e-12)
    rng = np.random.RandomState(0)
    fields = [one_hot(rng.randint(0, 4, 5000)), csr(rng.randn(5000, 1))]
    assert field_dependence(fields, with_id=False)[0, 1] < 0.01


def test_by_hand():
    """One field halves the rows, the other quarters them: 1 bit of 1 and of 2."""
    halves, quarters = (
        one_hot([0, 0, 0, 0, 1, 1, 1, 1], 3),
        one_hot([0, 0, 1, 1, 2, 2, 3, 3]),
    )
    found = field_dependence([halves, quarters], with_id=True)
    # shared bits over the mean of both: id has 3
    expected = [[1, 1 / 2, 2 / 2.5], [1 / 2, 1, 1 / 1.5], [2 / 2.5, 1 / 1.5, 1]]
    np.testing.assert_allclose(found, expected)


def test_against_scikit_learn():
    rng = np.random.RandomState(3)
    n = 300
    category = rng.randint(0, 5, n)
    tags = (rng.rand(n, 6) < 0.4).astype(float)
    number = category + rng.randn(n)
    missing = rng.rand(n) < 0.1
    flagged = np.column_stack([np.where(missing, 0, 100 + number), missing])
    fields = [one_hot(category), csr(tags), csr(number[:, None]), csr(flagged)]
    by_hand = [
        np.arange(n),
        category,
        [row.tolist().index(1) if row.any() else -1 for row in tags],
        np.argsort(np.argsort(number)) // 30,
        np.where(missing, -1, 0),
    ]
    there = ~missing
    edges = np.quantile((100 + number[there]).astype(np.float32), np.arange(1, 10) / 10)
    by_hand[4][there] = np.searchsorted(
        edges, (100 + number[there]).astype(np.float32), side="right"
    )
    expected = [
        [normalized_mutual_info_score(one, other) for other in by_hand] for one in by_hand
    ]
    found = field_dependence(fields, with_id=True)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(
        field_dependence(fields, with_id=False), found[1:, 1:], rtol=1e-12
    )
    # and the measure itself, written out
    mutual = mutual_info_score(category, by_hand[2])
    entropies = [mutual_info_score(labels, labels) for labels in (category, by_hand[2])]
    assert found[1, 2] == pytest.approx(mutual / np.mean(entropies))


def test_the_id_depends_most_on_the_finest_field():
    rng = np.random.RandomState(0)
    fields = [one_hot(rng.randint(0, k, 200), k) for k in (3, 10, 50)]
    of_id = field_dependence(fields, with_id=True)[0]
    assert of_id[0] == 1
    assert of_id[1] < of_id[2] < of_id[3] < 1


@given(st.integers(0, 10_000), st.integers(2, 30), st.booleans())
@settings(max_examples=40, deadline=None)
@pytest.mark.slow
def test_symmetric_and_between_zero_and_one(seed, n, with_id):
    """Empty rows, constant and random fields; the order of the rows does not matter."""
    rng = np.random.RandomState(seed)
    fields = [
        sp.random(n, width, rng.rand(), format="csr", random_state=rng)
        for width in rng.randint(1, 6, 3)
    ]
    found = field_dependence(fields, with_id=with_id)
    assert found.shape == (3 + with_id,) * 2
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, found.T)
    assert (np.diag(found) == 1).all()
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12
    order = rng.permutation(n)
    shuffled = field_dependence([field[order] for field in fields], with_id=with_id)
    np.testing.assert_allclose(shuffled, found, atol=1e-9)
