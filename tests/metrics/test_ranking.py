"""Ranking metrics against plain loops, scikit-learn and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import ndcg_score, roc_auc_score

from sktwotower import TwoTowerRecommender
from sktwotower.metrics import (
    METRICS,
    auc,
    average_precision,
    catalogue_coverage,
    hit_rate,
    match_relevance,
    ndcg,
    parse_metric,
    precision,
    r_precision,
    recall,
    reciprocal_rank,
)

# --- the metrics of one user in plain Python -----------------------------------------


def graded_ndcg_of(items, gains, k):
    dcg = sum(gains.get(item, 0) / math.log2(r + 2) for r, item in enumerate(items[:k]))
    best = sorted(gains.values(), reverse=True)[:k]
    return dcg / sum(gain / math.log2(r + 2) for r, gain in enumerate(best))


def ndcg_of(items, gains, k):
    return graded_ndcg_of(items, dict.fromkeys(gains, 1), k)


def recall_of(items, gains, k):
    return sum(item in gains for item in items[:k]) / len(gains)


def precision_of(items, gains, k):
    return sum(item in gains for item in items[:k]) / k


def average_precision_of(items, gains, k):
    total, hits = 0.0, 0
    for rank, item in enumerate(items[:k], start=1):
        if item in gains:
            hits += 1
            total += hits / rank
    return total / min(k, len(gains))


def reciprocal_rank_of(items, gains, k):
    for rank, item in enumerate(items[:k], start=1):
        if item in gains:
            return 1 / rank
    return 0.0


def hit_rate_of(items, gains, k):
    return float(any(item in gains for item in items[:k]))


BRUTE_FORCE = {
    "ndcg": ndcg_of,
    "graded_ndcg": graded_ndcg_of,
    "recall": recall_of,
    "precision": precision_of,
    "map": average_precision_of,
    "mrr": reciprocal_rank_of,
    "hit_rate": hit_rate_of,
}

# Metrics with a cut-off and a value for each user.
PER_USER = {name: METRICS[name] for name in BRUTE_FORCE}
WITHOUT_CUT_OFF = {
    "r_precision",
    "auc",
    "roc_auc",
    "roc_gauc",
    "pr_auc",
    "neg_log_loss",
    "balanced_accuracy",
}


def loop(metric_of, ranked, dense, k):
    """A metric in plain Python, applied to each row."""
    values = []
    for codes, row in zip(ranked.tolist(), dense.tolist(), strict=True):
        items = [code for code in codes if code >= 0]
        gains = {item: gain for item, gain in enumerate(row) if gain > 0}
        values.append(metric_of(items, gains, k) if gains else math.nan)
    return np.array(values)


@st.composite
def cases(draw, *, min_queries=0):
    """Padded rankings without repeats; gains with empty rows, and entries of at most 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_queries = draw(st.integers(min_queries, 6))
    n_items = draw(st.integers(1, 9))
    n_ranked = draw(st.integers(0, 12))
    ranked = np.full((n_queries, n_ranked), -1)
    for row in ranked:
        length = rng.integers(0, min(n_items, n_ranked) + 1)
        row[:length] = rng.permutation(n_items)[:length]
    dense = rng.integers(-1, 4, size=(n_queries, n_items)) * 0.5
    dense[rng.random(n_queries) < draw(st.sampled_from([0.0, 0.4]))] = 0
    dense[rng.random(dense.shape) < draw(st.sampled_from([0.0, 0.6]))] = 0
    k = draw(st.integers(1, 15) | st.sampled_from([100, 10**9, 10**12]))
    return ranked, dense, k


@given(case=cases())
def test_equals_a_plain_loop(case):
    ranked, dense, k = case
    for name, metric in PER_USER.items():
        values = metric(ranked, sparse.csr_array(dense), k=k)
        assert values.dtype == np.float64
        expected = loop(BRUTE_FORCE[name], ranked, dense, k)
        np.testing.assert_allclose(values, expected, err_msg=name)


def r_precision_of(items, gains):
    return sum(item in gains for item in items[: len(gains)]) / len(gains)


def auc_of(items, gains):
    others = [item for item in items if item not in gains]
    place = {item: rank for rank, item in enumerate(items)}
    right = [place.get(a, math.inf) < place[b] for a in gains for b in others]
    return sum(right) / len(right) if right else math.nan


@pytest.mark.parametrize(
    ("metric", "metric_of"), [(r_precision, r_precision_of), (auc, auc_of)]
)
@settings(max_examples=50)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_without_a_cut_off(metric, metric_of, case, seed):
    ranked, dense, _ = case
    relevant = sparse.csr_array(dense)
    expected = loop(lambda items, gains, k: metric_of(items, gains), ranked, dense, None)
    values = metric(ranked, relevant)
    np.testing.assert_allclose(values, expected)
    np.testing.assert_array_equal(metric(match_relevance(ranked, relevant)), values)
    rng = np.random.default_rng(seed)
    new_code = rng.permutation(dense.shape[1])
    users = rng.permutation(len(ranked))
    relabelled = np.where(ranked >= 0, new_code[ranked], -1)
    moved = np.empty_like(dense)
    moved[:, new_code] = dense
    np.testing.assert_allclose(
        metric(relabelled[users], sparse.csr_array(moved[users])), expected[users]
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), n_items=st.integers(2, 12))
def test_auc_equals_scikit_learn(seed, n_items):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, size=(3, n_items))
    truth[:, 0], truth[:, 1] = 1, 0
    scores = rng.permuted(np.tile(np.arange(n_items), (3, 1)), axis=1)
    values = auc(np.argsort(-scores, axis=1), sparse.csr_array(truth))
    for row in range(3):
        assert values[row] == pytest.approx(roc_auc_score(truth[row], scores[row]))


@given(case=cases())
def test_coverage_equals_a_set(case):
    ranked, dense, k = case
    shown = {code for row in ranked.tolist() for code in row[:k] if code >= 0}
    n_items = dense.shape[1]
    assert catalogue_coverage(ranked, n_items, k=k) == len(shown) / n_items


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), n_items=st.integers(2, 12), k=st.integers(1, 15))
@pytest.mark.parametrize("gains", ["binary", "graded"])
def test_ndcg_equals_scikit_learn(gains, seed, n_items, k):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, size=(3, n_items))
    truth[:, 0] = 1  # without relevant items scikit-learn returns 0
    scores = rng.permuted(np.tile(np.arange(n_items), (3, 1)), axis=1)
    ranked = np.argsort(-scores, axis=1)
    values = ndcg(ranked, sparse.csr_array(truth), k=k, gains=gains)
    if gains == "binary":
        truth = (truth > 0).astype(int)
    for row in range(3):
        expected = ndcg_score(truth[[row]], scores[[row]], k=k, ignore_ties=True)
        assert values[row] == pytest.approx(expected)


@settings(max_examples=50)
@given(case=cases(min_queries=1), seed=st.integers(0, 2**32 - 1))
def test_ids_and_order_do_not_matter(case, seed):
    ranked, dense, k = case
    rng = np.random.default_rng(seed)
    new_code = rng.permutation(dense.shape[1])
    users = rng.permutation(len(ranked))
    relabelled = np.where(ranked >= 0, new_code[ranked], -1)
    moved = np.empty_like(dense)
    moved[:, new_code] = dense
    for name, metric in PER_USER.items():
        np.testing.assert_allclose(
            metric(relabelled[users], sparse.csr_array(moved[users]), k=k),
            metric(ranked, sparse.csr_array(dense), k=k)[users],
            err_msg=name,
        )


@given(case=cases(min_queries=1))
def test_bounds_and_relations(case):
    ranked, dense, k = case
    matched = match_relevance(ranked, sparse.csr_array(dense))
    values = {name: metric(matched, k=k) for name, metric in PER_USER.items()}
    has_relevant = (dense > 0).any(axis=1)
    for per_user in values.values():
        np.testing.assert_array_equal(np.isnan(per_user), ~has_relevant)
        assert ((per_user >= 0) & (per_user <= 1 + 1e-12))[has_relevant].all()
    hit = values["hit_rate"][has_relevant]
    for name in ("ndcg", "graded_ndcg", "recall", "precision", "map", "mrr"):
        np.testing.assert_array_equal(values[name][has_relevant] > 0, hit > 0)


@settings(max_examples=50)
@given(case=cases(), further=st.integers(0, 10**9))
def test_nothing_changes_beyond_the_catalogue(case, further):
    ranked, dense, _ = case
    relevant, n_items = sparse.csr_array(dense), dense.shape[1]
    k = n_items + further
    for name, metric in PER_USER.items():
        values, expected = (metric(ranked, relevant, k=at) for at in (k, n_items))
        if name == "precision":  # empty ranks count
            expected = expected * n_items / k
        np.testing.assert_allclose(values, expected, err_msg=name)


@settings(max_examples=50)
@given(case=cases())
def test_matched_once_is_the_same(case):
    ranked, dense, k = case
    relevant = sparse.csr_array(dense)
    matched = match_relevance(ranked, relevant)
    # Cut at a larger k than the k of the metric.
    cut = match_relevance(ranked, relevant, k=k + 1)
    for name, metric in PER_USER.items():
        expected = metric(ranked, relevant, k=k)
        np.testing.assert_array_equal(metric(matched, k=k), expected, err_msg=name)
        np.testing.assert_array_equal(metric(cut, k=k), expected, err_msg=name)


# --- worked by hand ------------------------------------------------------------------

# Hits at ranks 2 and 4 of four; item 5 is relevant and not ranked.
HAND_RANKED = np.array([[0, 1, 2, 3]])
HAND_RELEVANT = sparse.csr_array([[0, 2.0, 0, 1.0, 0, 4.0]])


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        (recall, 4, 2 / 3),
        (recall, 1, 0),
        (precision, 4, 2 / 4),
        (precision, 10, 2 / 10),
        (average_precision, 4, (1 / 2 + 2 / 4) / 3),
        (average_precision, 2, (1 / 2) / 2),
        (reciprocal_rank, 4, 1 / 2),
        (reciprocal_rank, 1, 0),
        (hit_rate, 2, 1),
        (hit_rate, 1, 0),
        # log2(3) = 1.58496, log2(5) = 2.32193: 0.63093 + 0.43068 over 1 + 0.63093 + 0.5
        (ndcg, 4, 1.06161 / 2.13093),
        (ndcg, 2, 0.63093 / 1.63093),
        (ndcg, 100, 1.06161 / 2.13093),
        (r_precision, None, 1 / 3),
        # others at ranks 1 and 3: the first hit is before one, the second before none
        (auc, None, 1 / 6),
    ],
)
def test_by_hand(metric, k, expected):
    options = {} if k is None else {"k": k}
    value = metric(HAND_RANKED, HAND_RELEVANT, **options)
    np.testing.assert_allclose(value, [expected], rtol=1e-5)


def test_graded_by_hand():
    # 2 * 0.63093 + 1 * 0.43068 over 4 + 2 * 0.63093 + 1 * 0.5
    value = ndcg(HAND_RANKED, HAND_RELEVANT, k=4, gains="graded")
    np.testing.assert_allclose(value, [1.69254 / 5.76186], rtol=1e-5)


def test_the_ideal_list_is_cut_at_k_and_not_at_the_length_of_the_ranking():
    relevant = sparse.csr_array([[1, 1, 1, 1]])
    assert ndcg([[0, 1]], relevant, k=2) == 1
    assert ndcg([[0, 1]], relevant, k=4) < 1
    assert average_precision([[0, 1]], relevant, k=4) == 0.5


def test_coverage_by_hand():
    ranked = [[0, 1, 2], [0, 3, -1]]
    assert catalogue_coverage(ranked, 5, k=1) == 1 / 5
    assert catalogue_coverage(ranked, 5, k=2) == 3 / 5
    assert catalogue_coverage(ranked, 5) == 4 / 5
    assert isinstance(catalogue_coverage(ranked, 5), float)
    assert catalogue_coverage(np.empty((0, 3), dtype=int), 5) == 0


# --- forms of input ------------------------------------------------------------------


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csr_matrix, sparse.coo_array])
@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32, np.float64])
@pytest.mark.parametrize("ranked_dtype", [np.int32, np.uint8, np.int64, np.uint64])
def test_types_of_input(make, dtype, ranked_dtype):
    relevant = make(np.array([[1, 0, 1], [0, 1, 0]], dtype=dtype))
    ranked = np.array([[2, 1, 0], [0, 2, 1]], dtype=ranked_dtype)
    np.testing.assert_allclose(recall(ranked, relevant, k=2), [0.5, 0])


def test_a_csr_out_of_order_with_duplicates_is_read_and_left_alone():
    data = np.array([1.0, 2.0, 1.0, -1.0, 0.0])
    indices = np.array([2, 0, 2, 1, 3])
    messy = sparse.csr_array((data, indices, np.array([0, 5])), shape=(1, 4))
    before = messy.data.copy(), messy.indices.copy()
    clean = sparse.csr_array([[2.0, 0, 2.0, 0]])
    ranked = np.array([[1, 3, 2, 0]])
    for gains in ("binary", "graded"):
        np.testing.assert_array_equal(
            ndcg(ranked, messy, k=3, gains=gains), ndcg(ranked, clean, k=3, gains=gains)
        )
    assert recall(ranked, messy, k=3) == 0.5
    np.testing.assert_array_equal(messy.data, before[0])
    np.testing.assert_array_equal(messy.indices, before[1])


def test_padding_does_not_read_the_previous_row():
    # -1 in row 1 has the flat key of the last item of row 0.
    relevant = sparse.csr_array([[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(recall([[2, -1], [1, -1]], relevant), [1, 0])


def test_many_items_do_not_overflow():
    n_items = 2**31 - 1
    rows, items = np.array([0, 5]), np.array([n_items - 1, n_items - 1])
    relevant = sparse.coo_array((np.ones(2), (rows, items)), shape=(6, n_items)).tocsr()
    ranked = np.full((6, 1), n_items - 1, dtype=np.int32)
    np.testing.assert_array_equal(recall(ranked, relevant), [1, *[np.nan] * 4, 1])


# --- bad input -----------------------------------------------------------------------

GOOD = sparse.csr_array([[1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("metric", PER_USER.values())
@pytest.mark.parametrize(
    ("ranked", "relevant", "k", "error", "message"),
    [
        ([[0], [1]], GOOD, 0, ValueError, "k=0 must be at least 1"),
        ([[0], [1]], GOOD, -3, ValueError, "k=-3 must be at least 1"),
        ([[0], [1]], GOOD, 2.0, TypeError, "k=2.0 is not an integer"),
        ([[0], [1]], GOOD, True, TypeError, "k=True is not an integer"),
        (
            [[0.5], [1]],
            GOOD,
            5,
            TypeError,
            "ranked has dtype float64; it must hold int",
        ),
        ([[True], [False]], GOOD, 5, TypeError, "ranked has dtype bool"),
        ([0, 1], GOOD, 5, ValueError, r"ranked has shape \(2,\); it must be \(n_quer"),
        ([[0]], GOOD, 5, ValueError, "ranked has 1 rows and relevant has 2"),
        ([[0], [3]], GOOD, 5, ValueError, "codes from 0 to 3; with 3 items they must"),
        ([[0], [-2]], GOOD, 5, ValueError, "codes from -2 to 0; with 3 items"),
        ([[0, 1], [-1, 1]], GOOD, 5, ValueError, r"after padding \(first in row 1\)"),
        ([[0, 1], [1, 1]], GOOD, 5, ValueError, "item 1 more than once in row 1"),
        ([[0], [1]], GOOD.toarray(), 5, TypeError, "relevant is a ndarray; it must be"),
        ([[0], [1]], None, 5, TypeError, "relevant is missing"),
        ([[0], [1]], GOOD * np.nan, 5, ValueError, "gains that are NaN or infinite"),
    ],
)
def test_messages(metric, ranked, relevant, k, error, message):
    with pytest.raises(error, match=message):
        metric(ranked, relevant, k=k)


def test_a_wrapping_unsigned_code_is_out_of_range():
    ranked = np.array([[2**64 - 1], [0]], dtype=np.uint64)
    with pytest.raises(ValueError, match=r"must be in 0\.\.2"):
        recall(ranked, GOOD)


def test_more_messages():
    matched = match_relevance([[0], [1]], GOOD)
    with pytest.raises(TypeError, match="relevant must be left out"):
        recall(matched, GOOD)
    with pytest.raises(ValueError, match="k=0 must be at least 1"):
        recall(matched, k=0)
    with pytest.raises(ValueError, match="k=0 must be at least 1"):
        match_relevance([[0], [1]], GOOD, k=0)
    with pytest.raises(ValueError, match="gains='exponential' is unknown; it is 'bin"):
        ndcg([[0], [1]], GOOD, gains="exponential")
    with pytest.raises(ValueError, match="n_items=0 must be at least 1"):
        catalogue_coverage([[0]], 0)
    with pytest.raises(ValueError, match="k=0 must be at least 1"):
        catalogue_coverage([[0]], 1, k=0)
    with pytest.raises(ValueError, match="codes from 4 to 4; with 3 items"):
        catalogue_coverage([[4]], 3)


# --- names ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("ndcg@10", ("ndcg", 10)),
        ("hit_rate@1", ("hit_rate", 1)),
        ("coverage@100", ("coverage", 100)),
        ("map", ("map", 10)),
    ],
)
def test_parse_metric(metric, expected):
    assert parse_metric(metric) == expected


@pytest.mark.parametrize("name", METRICS)
def test_every_name_parses(name):
    if name not in WITHOUT_CUT_OFF:
        assert parse_metric(f"{name}@7") == (name, 7)
        return
    assert parse_metric(name) == (name, None)
    with pytest.raises(ValueError, match=f"{name} has no cut-off; write '{name}'"):
        parse_metric(f"{name}@7")


@pytest.mark.parametrize(
    ("metric", "suggestion"),
    [
        ("ndgc@5", "ndcg@5"),
        ("NDCG@10", "ndcg@10"),
        ("recal", "recall"),
        ("hit@3", "hit_rate@3"),
        ("average_precision@3", "map@3"),
        ("reciprocal_rank", "mrr"),
        ("catalog_coverage", "coverage"),
        ("r-precision@5", "r_precision"),
        ("gauc", "roc_gauc"),
        ("loss", "neg_log_loss"),
        ("arp@5", "popularity@5"),
        ("average_popularity", "popularity"),
        ("intra_list_diversity@5", "diversity@5"),
        ("ild", "diversity"),
        ("novely@3", "novelty@3"),
        ("serendipty", "serendipity"),
        ("roc-auc", "roc_auc"),
        ("prauc", "pr_auc"),
        ("log_loss", "neg_log_loss"),
    ],
)
def test_did_you_mean(metric, suggestion):
    with pytest.raises(ValueError) as error:
        parse_metric(metric)
    assert str(error.value) == (
        f"metric={metric!r} is unknown; did you mean {suggestion!r}? The metrics are "
        f"{', '.join(METRICS)}."
    )


def test_the_parameter_is_named():
    model = TwoTowerRecommender(validation_metric="foo")
    with pytest.raises(ValueError, match="^validation_metric='foo' is unknown"):
        model.fit([[0, 1], [1, 2]])


def test_nothing_near():
    with pytest.raises(ValueError, match="^metric='xyz@1' is unknown; The metrics are"):
        parse_metric("xyz@1")


@pytest.mark.parametrize("k", ["", "0", "-1", "1.5", "ten", " 10", "1_0", "10@10", "١"])
def test_bad_k(k):
    with pytest.raises(ValueError, match="is not a positive integer; write 'ndcg@10'"):
        parse_metric(f"ndcg@{k}")


def test_a_metric_is_a_string():
    with pytest.raises(TypeError, match="metric=10 is not a string such as 'ndcg@10'"):
        parse_metric(10)
