"""Synthetic interactions with a known ground truth."""

from __future__ import annotations

from itertools import compress
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax
from sklearn.utils import Bunch, check_random_state, check_scalar

_N_CATEGORIES = 8
_N_TAGS = 12
_MAX_TAGS_PER_ITEM = 3
_ACTIVITY_SIGMA = 0.5  # a tenth of the users has a fifth of the interactions
_START = np.datetime64("2020-01-01T00:00:00", "s")
_PERIOD_SECONDS = 365 * 24 * 3600

_BLOCK_SIZE = 2**22  # scores that are in memory at a time, 32 MB per array
_MAX_AFFINITY_SIZE = 5_000_000  # larger matrices are not returned
_MAX_PAIRS = 2 * 10**9  # up to here every pair is scored, which takes about a minute
# Beyond, blocks of users choose from a pool of so many drawn items.
_POOL_SIZE = 4096
_USERS_OF_A_POOL = 512


def make_interactions(
    n_users: int = 200,
    n_items: int = 100,
    n_interactions: int = 4000,
    *,
    n_user_features: int = 3,
    n_item_features: int = 3,
    feature_share: float = 0.5,
    popularity_skew: float = 1.0,
    n_factors: int = 8,
    temperature: float = 0.5,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
) -> Bunch:
    r"""Generate user-item interactions with features and a known ground truth.

    Use it to measure what a recommender learns from popularity, from features (which
    carry over to cold users and items) and from ids alone. Vary ``feature_share`` first.

    Each user and each item has a latent vector of two parts. The feature part is the sum
    of one vector per feature: the vector of the category, a vector times the number, or,
    for a multi-valued feature with :math:`m` values, the sum of their vectors divided by
    :math:`\sqrt m`. All these vectors are drawn from :math:`N(0, I)`. The private part is
    drawn from :math:`N(0, I)` directly. With the parts :math:`f` and :math:`p`, each
    centred over the entities, and the feature share :math:`s`, the affinity of user
    :math:`i` and item :math:`j` is

    .. math::

        a_{ij} = \sqrt{s}\, \frac{\langle f_i, f_j \rangle}{\sigma_f}
               + \sqrt{1 - s}\, \frac{\langle p_i, p_j \rangle}{\sigma_p},

    where :math:`\sigma_f, \sigma_p` are the standard deviations of the products over
    all pairs. Each part then has variance 1, and the affinity has mean 0 and, up to the
    chance correlation of the parts, variance 1. A part in which all users or all items
    are equal is zero. The popularity of the item with the random rank :math:`r_j` is
    :math:`\pi_j \propto r_j^{-\gamma}`, where :math:`\gamma` is ``popularity_skew``.

    Every user has an activity drawn from a log-normal distribution (:math:`\sigma =
    0.5`). Each user has one interaction if there are enough for all; the others are
    assigned in proportion to activity, at most ``n_items`` per user. The items of a user
    are drawn one after the other, without repetition, with

    .. math::

        P(j \mid i) \propto \pi_j \exp(a_{ij} / \tau)

    among the remaining items, where :math:`\tau` is ``temperature``. The draws of all
    users are interleaved at random, and their timestamps increase over about a year.

    Parameters
    ----------
    n_users : int, default=200
        Number of users.
    n_items : int, default=100
        Number of items. Unpopular items may have no interaction.
    n_interactions : int, default=4000
        Number of distinct user-item pairs to draw, at most ``n_users * n_items``.
    n_user_features : int, default=3
        Number of user features, alternately categorical and numeric. 0 requires
        ``feature_share=0``.
    n_item_features : int, default=3
        Number of item features: categorical, numeric, multi-valued, then alternately
        categorical and numeric. 0 requires ``feature_share=0``.
    feature_share : float, default=0.5
        Share of the affinity's variance that the features explain, between 0 and 1. At
        0.0 features are noise; at 1.0 entities with equal features have equal
        affinities.
    popularity_skew : float, default=1.0
        Exponent of the Zipf-like popularity. At 0.0 all items are equally popular.
    n_factors : int, default=8
        Length of each of the two parts of the latent vectors. Fewer are easier to learn.
    temperature : float, default=0.5
        Scale of the affinities in the draw. Towards 0 users take the items of highest
        affinity, regardless of popularity; at large values only popularity matters.
    random_state : int, RandomState instance, numpy Generator or None, default=None
        Seed of the draw; the same seed gives the same data, None different data each
        time. The global random state of NumPy is neither read nor changed.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        interactions : DataFrame of shape (n_interactions, 3)
            ``user_id`` (int64), ``item_id`` (int64) and ``timestamp`` (datetime64[s],
            strictly increasing). No pair occurs twice.
        user_table : DataFrame of shape (n_users, 1 + n_user_features)
            ``user_id``, then ``user_cat_0``, ``user_num_1``, ... in the order of the
            features. Row r is the user with id r.
        item_table : DataFrame of shape (n_items, 1 + n_item_features)
            ``item_id``, then ``item_cat_0``, ``item_num_1``, ``item_tags_2`` (up to
            three values joined by ``|``), ... Row r is the item with id r.
        user_factors : ndarray of shape (n_users, 2 * n_factors)
            Latent vectors: the feature part, then the private part, scaled so that
            ``user_factors @ item_factors.T`` is the affinity.
        item_factors : ndarray of shape (n_items, 2 * n_factors)
            Latent vectors of the items.
        popularity : ndarray of shape (n_items,)
            Popularity of the items; sums to 1.
        affinity : ndarray of shape (n_users, n_items) or None
            The affinities; None for more than five million pairs.
        temperature : float
            The parameter, which the probabilities of the draw depend on.

    Raises
    ------
    TypeError
        If a parameter has the wrong type.
    ValueError
        If a parameter is out of its range, if there are fewer pairs than
        ``n_interactions``, or if ``feature_share > 0`` and a side has no features.

    See Also
    --------
    load_movielens_small : Real ratings that come with the package.

    Notes
    -----
    The items of a block of users are drawn at once: the items with the largest
    :math:`\log \pi_j + a_{ij} / \tau + G_{ij}`, where :math:`G` is independent Gumbel
    noise, in descending order have the distribution of the sequential draw [1]_.

    For more than two billion pairs of users and items, not every pair is scored. Each
    block of 512 users then draws in the same way from a pool of items, in which an item
    counts as often as it was drawn into the pool by popularity. This is
    sampling-importance resampling [2]_, which has the distribution above in the limit of
    large pools. A pool has 4,096 draws, or more if a user has many interactions. 50
    million interactions of a million users with a million items take 4.4 GB.

    References
    ----------
    .. [1] Wouter Kool, Herke van Hoof and Max Welling. 2019. "Stochastic Beams and
       Where to Find Them: The Gumbel-Top-k Trick for Sampling Sequences Without
       Replacement". ICML 2019. https://arxiv.org/abs/1903.06059
    .. [2] Donald B. Rubin. 1987. "The Calculation of Posterior Distributions by Data
       Augmentation: Comment". Journal of the American Statistical Association 82(398).

    Examples
    --------
    >>> from sktwotower.datasets import make_interactions
    >>> data = make_interactions(50, 20, 300, random_state=0)
    >>> data.interactions.shape
    (300, 3)
    >>> list(data.item_table.columns)
    ['item_id', 'item_cat_0', 'item_num_1', 'item_tags_2']

    The probability of each item in the first draw of a user:

    >>> import numpy as np
    >>> from scipy.special import softmax
    >>> logits = np.log(data.popularity) + data.affinity / data.temperature
    >>> softmax(logits, axis=1).shape
    (50, 20)
    """
    _check_sizes(n_users, n_items, n_interactions)
    _check_int(n_factors, "n_factors", 1)
    _check_features(n_user_features, n_item_features, feature_share)
    _check_real(popularity_skew, "popularity_skew", 0.0)
    _check_real(temperature, "temperature", 0.0, include_boundaries="neither")
    rng = _make_generator(random_state)

    user_kinds = ["cat", "num"] * n_user_features
    item_kinds = ["cat", "num", "tags"] + ["cat", "num"] * n_item_features
    user_table, user_features = _draw_features(
        n_users, "user", user_kinds[:n_user_features], n_factors, rng
    )
    item_table, item_features = _draw_features(
        n_items, "item", item_kinds[:n_item_features], n_factors, rng
    )
    user_private = rng.standard_normal((n_users, n_factors))
    item_private = rng.standard_normal((n_items, n_factors))
    shared = _scale_pair(user_features, item_features, feature_share)
    private = _scale_pair(user_private, item_private, 1 - feature_share)
    user_factors = np.hstack([shared[0], private[0]])  # (n_users, 2 * n_factors)
    item_factors = np.hstack([shared[1], private[1]])  # (n_items, 2 * n_factors)

    # Ranks are shuffled so that popularity does not depend on the id.
    log_popularity = log_softmax(-popularity_skew * np.log1p(rng.permutation(n_items)))
    counts = _draw_counts(n_users, n_items, n_interactions, rng)
    user_ids = rng.permutation(np.repeat(np.arange(n_users), counts))
    item_ids = np.empty(n_interactions, dtype=np.int64)
    # The t-th row of a user takes the t-th of the user's items.
    draw = _draw_items if n_users * n_items <= _MAX_PAIRS else _draw_items_from_pools
    item_ids[np.argsort(user_ids, kind="stable")] = draw(
        user_factors / temperature, item_factors, log_popularity, counts, rng
    )
    rate = min(1.0, n_interactions / _PERIOD_SECONDS)  # per second
    gaps = rng.geometric(rate, size=n_interactions)
    interactions = pd.DataFrame(
        {
            "user_id": user_ids.astype(np.int64),
            "item_id": item_ids,
            "timestamp": _START + np.cumsum(gaps).astype("timedelta64[s]"),
        }
    )
    small = n_users * n_items <= _MAX_AFFINITY_SIZE
    return Bunch(
        interactions=interactions,
        user_table=user_table,
        item_table=item_table,
        user_factors=user_factors,
        item_factors=item_factors,
        popularity=np.exp(log_popularity),
        affinity=user_factors @ item_factors.T if small else None,
        temperature=float(temperature),
    )


def _check_sizes(n_users: int, n_items: int, n_interactions: int) -> None:
    _check_int(n_users, "n_users", 1)
    _check_int(n_items, "n_items", 1)
    _check_int(n_interactions, "n_interactions", 1)
    if n_interactions > n_users * n_items:
        raise ValueError(
            f"n_interactions={n_interactions} distinct pairs cannot be drawn from "
            f"n_users * n_items = {n_users} * {n_items} = {n_users * n_items}; "
            "ask for fewer."
        )


def _check_features(
    n_user_features: int, n_item_features: int, feature_share: float
) -> None:
    _check_int(n_user_features, "n_user_features", 0)
    _check_int(n_item_features, "n_item_features", 0)
    _check_real(feature_share, "feature_share", 0.0, max_val=1.0)
    if feature_share > 0 and min(n_user_features, n_item_features) == 0:
        raise ValueError(
            f"feature_share={feature_share} needs features on both sides, got "
            f"n_user_features={n_user_features} and n_item_features={n_item_features}; "
            "set feature_share=0 or add features."
        )


def _check_int(value: Any, name: str, min_val: int) -> None:
    check_scalar(value, name, Integral, min_val=min_val)


def _check_real(value: Any, name: str, min_val: float, **limits: Any) -> None:
    check_scalar(value, name, Real, min_val=min_val, **limits)
    if not np.isfinite(value):  # check_scalar lets NaN pass
        raise ValueError(f"{name}={value} must be a finite number.")


def _make_generator(random_state: Any) -> np.random.Generator:
    """Make a Generator, which draws faster than a RandomState, from any kind of seed."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if random_state is None:  # check_random_state would return the global state
        return np.random.default_rng()
    seed = check_random_state(random_state).randint(2**32, size=4, dtype=np.uint32)
    return np.random.default_rng(seed)


def _draw_features(
    n: int, side: str, kinds: list[str], n_factors: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw a feature table and the feature part of the latent vectors, (n, n_factors)."""
    table: dict[str, Any] = {f"{side}_id": np.arange(n, dtype=np.int64)}
    latent = np.zeros((n, n_factors))
    for position, kind in enumerate(kinds):
        column = f"{side}_{kind}_{position}"
        if kind == "cat":
            codes = rng.integers(_N_CATEGORIES, size=n)
            table[column] = [f"c{code}" for code in codes]
            latent += rng.standard_normal((_N_CATEGORIES, n_factors))[codes]
        elif kind == "num":
            numbers = rng.standard_normal(n)
            table[column] = numbers
            latent += numbers[:, None] * rng.standard_normal(n_factors)
        else:
            # Distinct tags: the first n_tags in a random order of all tags.
            n_tags = rng.integers(1, _MAX_TAGS_PER_ITEM + 1, size=(n, 1))
            has_tag = rng.random((n, _N_TAGS)).argsort(axis=1) < n_tags  # (n, _N_TAGS)
            names = [f"t{tag:02d}" for tag in range(_N_TAGS)]
            table[column] = ["|".join(compress(names, row)) for row in has_tag]
            vectors = rng.standard_normal((_N_TAGS, n_factors))
            latent += has_tag @ vectors / np.sqrt(n_tags)
    return pd.DataFrame(table), latent


def _scale_pair(
    users: np.ndarray, items: np.ndarray, variance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Centre and scale both sides so that products have mean 0 and the given variance."""
    before = _mean_square_product(users, items)
    users = users - users.mean(axis=0)
    items = items - items.mean(axis=0)
    after = _mean_square_product(users, items)
    if after <= 1e-20 * before:  # all users or all items are equal up to rounding
        return np.zeros_like(users), np.zeros_like(items)
    factor = (variance / after) ** 0.25
    return users * factor, items * factor


def _mean_square_product(users: np.ndarray, items: np.ndarray) -> float:
    """Return the mean of <u, v>**2 over all pairs."""
    # This is the trace of the product of the two second moments.
    total = np.sum((users.T @ users) * (items.T @ items))
    return float(total) / (len(users) * len(items))


def _draw_counts(
    n_users: int, n_items: int, n_interactions: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw each user's number of interactions, at most n_items, (n_users,)."""
    activity = rng.lognormal(sigma=_ACTIVITY_SIGMA, size=n_users)
    counts = np.full(n_users, int(n_interactions >= n_users), dtype=np.int64)
    # Interactions beyond n_items of a user are assigned again, to users with fewer. Each
    # round assigns at least one, and usually nearly all.
    while (left := n_interactions - counts.sum()) > 0:
        weights = activity * (counts < n_items)
        counts += rng.multinomial(left, weights / weights.sum())
        counts = np.minimum(counts, n_items)
    return counts


def _draw_items(
    user_factors: np.ndarray,
    item_factors: np.ndarray,
    log_popularity: np.ndarray,
    counts: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw counts[i] distinct items for each user i, in order, (counts.sum(),)."""
    block = max(1, _BLOCK_SIZE // len(item_factors))
    drawn = []
    for start in range(0, len(counts), block):
        users = slice(start, start + block)
        affinity = user_factors[users] @ item_factors.T  # (block, n_items)
        drawn.append(_choose(affinity, log_popularity, counts[users], rng))
    return np.concatenate(drawn)


def _draw_items_from_pools(
    user_factors: np.ndarray,
    item_factors: np.ndarray,
    log_popularity: np.ndarray,
    counts: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw like _draw_items, but from a pool of items for each block of users."""
    user_factors = user_factors.astype(np.float32)
    item_factors = item_factors.astype(np.float32)
    ends = np.cumsum(np.exp(log_popularity))
    drawn = []
    for start in range(0, len(counts), _USERS_OF_A_POOL):
        users = slice(start, start + _USERS_OF_A_POOL)
        at_least = 2 * int(counts[users].max())
        pool, log_weights = _draw_pool(log_popularity, ends, at_least, rng)
        affinity = user_factors[users] @ item_factors[pool].T  # (block, len(pool))
        drawn.append(pool[_choose(affinity, log_weights, counts[users], rng)])
    return np.concatenate(drawn)


def _draw_pool(
    log_popularity: np.ndarray,
    ends: np.ndarray,
    at_least: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw items by popularity.

    Returns
    -------
    pool : ndarray of shape (n_pool,)
        Distinct items, ``at_least`` so many; all items if the draw does not find enough.
    log_weights : ndarray of shape (n_pool,), float32
        Log of how often each was drawn; for all items their log-popularity.
    """
    n_items, n_draws = len(log_popularity), _POOL_SIZE
    while at_least < n_items and n_draws < 64 * n_items:
        positions = np.searchsorted(ends, rng.random(n_draws) * ends[-1], side="right")
        pool, times = np.unique(np.minimum(positions, n_items - 1), return_counts=True)
        if len(pool) >= at_least:
            return pool, np.log(times).astype(np.float32)
        n_draws *= 2
    return np.arange(n_items), log_popularity.astype(np.float32)


def _choose(
    affinity: np.ndarray,
    log_weights: np.ndarray,
    counts: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Columns of the counts[i] largest keys of each row i, in order, (counts.sum(),)."""
    # The negative keys, since the log of an exponential variable is a negative Gumbel.
    dtype: Any = affinity.dtype
    draws = rng.standard_exponential(affinity.shape, dtype=dtype)
    costs = np.log(draws + np.finfo(dtype).tiny)  # some float32 draws are zero
    costs -= affinity
    costs -= log_weights
    most = counts.max()
    best = np.argpartition(costs, most - 1, axis=1)[:, :most]  # unordered
    order = np.argsort(np.take_along_axis(costs, best, axis=1), axis=1)
    best = np.take_along_axis(best, order, axis=1)  # (block, most)
    return best[np.arange(most) < counts[:, None]]
