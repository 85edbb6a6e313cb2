"""One evaluation: what is asked, what of it was seen, and the metrics of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from sktwotower._data.interactions import Interactions
from sktwotower._data.queries import as_feature_frame
from sktwotower.metrics._matched import RankedRelevance, match_relevance
from sktwotower.metrics._query_rows import QueryRows, query_rows
from sktwotower.metrics._rankers import make_ranker
from sktwotower.metrics._registry import ACCURACY, AGGREGATE, BEYOND, MetricSpec
from sktwotower.metrics._relevant_pairs import Ranker, Ranking, RelevantPairs
from sktwotower.metrics._sources import EvaluationSource, Source
from sktwotower.metrics._user_metrics import UserMetrics
from sktwotower.utils._forms import check_bool

MetricSpecs = dict[str, MetricSpec]

# Ranked items that are held at a time: complete rankings are as large as all scores.
_BLOCK_SIZE = 2**23

# Up to this share of the relevant pairs, seen ones are dropped without a warning.
_NOTED_SHARE = 0.01

_SEEN_NOTE = (
    "{} were seen in training. They are dropped, since seen items are not recommended. {}"
)
_TRAINING_NOTE = (
    "All relevant pairs of {X} that could be recommended were seen in training, and {X} is "
    "not all of the training rows. They stay in the ranking, so this is a score of "
    "training rows. Take rows that were held out. {advice}"
)
_FEATURES_NOTE = (
    "{X} has other values of the item features {features} than the items had in training. "
    "Items are ranked with those of training, so these columns of {X} do not change the "
    "score. sktwotower.inspection.feature_importance measures which of them matter; "
    "permutation_importance does not."
)


@dataclass(frozen=True, eq=False)
class RankingOptions:
    """How rankings are made and what is said of them.

    Attributes
    ----------
    exclude_seen : bool, default=True
        Leave pairs of the training data out of the rankings.
    held_out : bool, default=False
        Whether seen pairs stay because the recommender was not trained on them.
    candidates : array-like of shape (n_candidates,), default=None
        Ids of the items to rank; None: the catalogue.
    per_row : bool, default=False
        Whether each relevant row is a query of its own, instead of each user.
    X : DataFrame or ndarray, optional
        The same rows, for an external recommender that is asked by row.
    queries : QueryRows, optional
        The rows that are asked with, if they are known from an evaluation before.
    with_notes : bool, default=True
        Whether the caller wants to be warned; some notes take time.
    name : str, default="X"
        What the rows are called in warnings.
    advice : str, optional
        What to do about pairs that were seen, for warnings.
    predictions : callable, optional
        Returns the scores of the rows, for metrics of rows of an external recommender.
    """

    exclude_seen: bool = True
    held_out: bool = False
    candidates: ArrayLike | None = None
    per_row: bool = False
    X: Any = None
    queries: QueryRows | None = None
    with_notes: bool = True
    name: str = "X"
    advice: str = "To evaluate repeat purchases, set exclude_seen=False."
    predictions: Callable[[], ArrayLike] | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """What a recommender is asked, and which of the relevant pairs it has seen.

    Attributes
    ----------
    interactions : Interactions
        The rows that are scored.
    specs : dict of str to MetricSpec
        The metrics.
    queries : QueryRows
        The rows that are asked with.
    pairs : RelevantPairs
        Relevant items of the queries.
    ranker : Ranker
        Ranks the candidates.
    depth : int
        Length of the rankings.
    seen : ndarray of shape (n_pairs,), bool
        Pairs of candidates that rankings leave out, as they are in the training data.
    other_features : list
        Names of item features that differ from those that items are ranked with.
    options : RankingOptions
        How the rankings are made.
    """

    interactions: Interactions
    specs: MetricSpecs
    queries: QueryRows
    pairs: RelevantPairs
    ranker: Ranker
    depth: int
    seen: np.ndarray
    other_features: list
    options: RankingOptions

    @classmethod
    def of(
        cls,
        source: Source,
        interactions: Interactions,
        specs: MetricSpecs,
        options: RankingOptions,
    ) -> Task:
        """Prepare an evaluation.

        Parameters
        ----------
        source : EvaluationSource or Recommender
            Ranks the items.
        interactions : Interactions
            The positive rows are relevant.
        specs : dict of str to MetricSpec
            Metrics of rankings.
        options : RankingOptions
            How the rankings are made.
        """
        check_bool("exclude_seen", options.exclude_seen)
        check_bool("per_row", options.per_row)
        positive, share = interactions.positive, interactions.share
        if not share.any(positive.any()):
            raise ValueError(
                "There is nothing to find: no row of X is relevant (y > 0), so no ranking "
                "metric is defined."
            )
        queries = options.queries
        if queries is None:
            queries = query_rows(interactions, per_row=options.per_row)
        labels = interactions.labels
        pairs = RelevantPairs(
            queries.query_of_pair,
            interactions.items[positive],
            None if labels is None else labels[positive],
        )
        compares_features = options.with_notes and interactions.item_features is not None

        def prepare() -> tuple[Ranker, int, np.ndarray, list]:
            ranker = make_ranker(
                source,
                interactions.take(queries.rows),
                pairs,
                exclude_seen=options.exclude_seen,
                candidates=options.candidates,
                query_rows=None if options.X is None else _rows_of(options.X, queries.rows),
            )
            depth = ranker.depth([_cut_off(spec, pairs) for spec in specs.values()])
            seen = ranker.seen(depth) & (ranker.columns() >= 0)
            others: list = []
            if compares_features and isinstance(source, EvaluationSource):
                others = source.other_item_features(interactions)
            return ranker, depth, seen, others

        ranker, depth, seen, others = share.on_all(prepare)
        if compares_features:
            names = list(pd.DataFrame(as_feature_frame(interactions.item_features)))
            found = share.any(np.array([name in others for name in names]))
            others = [name for name, is_other in zip(names, found, strict=True) if is_other]
        return cls(
            interactions, specs, queries, pairs, ranker, depth, seen, others, options
        )

    def has_nothing_left(self, seen: np.ndarray) -> bool:
        """Whether all pairs that could be recommended are among those seen."""
        could_be = self.ranker.columns() >= 0
        own = np.array([(could_be & seen).any(), (could_be & ~seen).any()])
        some_seen, some_left = self.interactions.share.any(own)
        return bool(some_seen and not some_left)

    def measured(self, seen: np.ndarray, *, is_training: bool) -> UserMetrics:
        """Rank, and measure user by user.

        Parameters
        ----------
        seen : ndarray of shape (n_pairs,), bool
            Pairs that are dropped as seen.
        is_training : bool
            Whether the rows are training rows, so that seen pairs stay.
        """
        with_relevant = self.options.held_out or is_training
        kept = np.ones(len(self.pairs), dtype=bool) if with_relevant else ~seen
        n_queries = len(self.queries)
        per_query, head = self.interactions.share.on_all(
            lambda: _measure_queries(self, kept, with_relevant)
        )
        columns = np.where(kept, self.ranker.columns(), -1)
        is_ranked = np.bincount(self.pairs.queries[columns >= 0], minlength=n_queries) > 0
        head[~is_ranked] = -1
        n_seen = self.pairs.counts(~kept, n_queries)
        users = _OfUsers.of(self, is_ranked)
        return UserMetrics(
            user_ids=self.queries.user_ids,
            user_of_row=self.queries.users,
            per_user={key: users.mean(values) for key, values in per_query.items()},
            measured=users.sum(is_ranked) > 0,
            n_dropped=users.sum(self.pairs.counts(columns < 0, n_queries)),
            n_seen=users.sum(n_seen),
            weights=_mean_weights(self.interactions, self.queries),
            row_weights=np.bincount(self.queries.users, self.interactions.weights),
            ranked=head,
            is_ranked=is_ranked,
            user_of_query=self.queries.user_of_query,
            n_items=self.ranker.n_items,
            share=self.interactions.share,
            notes=self._notes(seen, is_training, int(n_seen.sum())),
        )

    def _notes(self, seen: np.ndarray, is_training: bool, n_seen: int) -> tuple[str, ...]:
        """What the caller should be warned of."""
        if not self.options.with_notes:
            return ()
        notes = []
        name, advice = self.options.name, self.options.advice
        share = self.interactions.share
        if is_training:
            are_all = np.array_equal(seen, self.seen)
            are_all = are_all and self.ranker.covers_training(self.interactions)
            if share.any(not are_all):
                notes.append(_TRAINING_NOTE.format(X=name, advice=advice))
        n_seen = int(share.sum(np.array(n_seen)))
        if n_seen:
            n_pairs = self.pairs.counts(np.ones_like(seen), len(self.queries)).sum()
            n_pairs = int(share.sum(np.array(n_pairs)))
            part = n_seen / n_pairs
            counts = f"{n_seen} of the {n_pairs} relevant pairs of {name} ({part:.1%})"
            if part > _NOTED_SHARE:
                notes.append(_SEEN_NOTE.format(counts, advice))
        if self.other_features:
            notes.append(_FEATURES_NOTE.format(features=self.other_features, X=name))
        return tuple(notes)


@dataclass(frozen=True, eq=False)
class _OfUsers:
    """Brings values of queries to their users."""

    users: np.ndarray
    n_users: int
    defined: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, task: Task, defined: np.ndarray) -> _OfUsers:
        """For queries of which some have metrics."""
        users, weights = task.queries.user_of_query, task.interactions.weights
        if weights is None or len(np.unique(users)) == len(users):
            of_queries = np.ones(len(users))
        else:
            of_queries = weights[task.queries.rows]
        return cls(users, len(task.queries.user_ids), defined, of_queries)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sums of counts, (n_users,) int64."""
        return np.bincount(self.users, values, self.n_users).astype(np.int64)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Means over the queries for which a metric is defined, (n_users,)."""
        defined = self.defined & ~np.isnan(values)
        users, weights = self.users[defined], self.weights[defined]
        totals = np.bincount(users, weights, self.n_users)
        means = np.full(self.n_users, np.nan)
        sums = np.bincount(users, weights * values[defined], self.n_users)
        np.divide(sums, totals, out=means, where=totals > 0)
        return means


def _rows_of(X: Any, rows: np.ndarray) -> Any:
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]


def _cut_off(spec: MetricSpec, pairs: RelevantPairs) -> int | None:
    """How many ranks a metric looks at; None: all."""
    if spec.name == "r_precision":
        return int(np.bincount(pairs.queries).max(initial=0))
    return spec.k


def _mean_weights(interactions: Interactions, queries: QueryRows) -> np.ndarray | None:
    """Mean weight of the relevant rows of each user, (n_users,); None without weights."""
    if interactions.weights is None:
        return None
    users, n_users = queries.users[interactions.positive], len(queries.user_ids)
    n_rows = np.bincount(users, minlength=n_users)
    weights = interactions.weights[interactions.positive]
    return np.bincount(users, weights, n_users) / np.maximum(n_rows, 1)


def _measure_queries(
    task: Task, kept: np.ndarray, with_relevant: bool
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Metrics with a value a query, (n_queries,) each, and the heads of the rankings."""
    specs, ranker, n_queries = task.specs, task.ranker, len(task.queries)

    def relevance() -> sp.csr_matrix:
        columns = np.where(kept, ranker.columns(), -1)
        return task.pairs.matrix(columns, n_queries, ranker.n_items)

    n_kept = max((spec.k for spec in specs.values() if spec.k is not None), default=1)
    size = max(1, _BLOCK_SIZE // max(task.depth, 1))
    blocks, heads = [], []
    relevant = relevance()
    for start in range(0, max(n_queries, 1), size):  # a process may have no query
        rows = np.arange(start, min(start + size, n_queries))
        ranking = ranker.rank(rows, task.depth, with_relevant=with_relevant)
        if ranking.n_items != relevant.shape[1]:
            relevant = relevance()
        blocks.append(_measure_block(ranking, relevant[rows], specs))
        heads.append(ranking.ranked[:, :n_kept])
    head = np.concatenate(heads)
    per_query = {}
    for key, spec in specs.items():
        if spec.name in AGGREGATE:
            continue
        if spec.name:
            per_query[key] = np.concatenate([block[key] for block in blocks])
        else:
            per_query[key] = _call(key, spec.function, head[:, : spec.k], relevant)
    return per_query, head


def _measure_block(
    ranking: Ranking, relevant: sp.csr_matrix, specs: MetricSpecs
) -> dict[str, np.ndarray]:
    """Named metrics with a value a query, of some queries."""
    matched: RankedRelevance | None = None
    values = {}
    for key, spec in specs.items():
        options = {} if spec.k is None else {"k": spec.k}
        if spec.name in ACCURACY:
            if matched is None:
                matched = match_relevance(ranking.ranked, relevant)
            values[key] = spec.function(matched, **options)
        elif spec.name in BEYOND:
            arguments: list[Any] = [ranking.ranked]
            if spec.name == "serendipity":
                arguments.append(relevant)
            is_diversity = spec.name == "diversity"
            arguments.append(ranking.embeddings() if is_diversity else ranking.popularity())
            values[key] = spec.function(*arguments, **options)
    return values


def _call(
    key: str, function: Callable[..., Any], ranked: np.ndarray, relevant: sp.csr_matrix
) -> np.ndarray:
    """The checked values of a metric that is a callable, (n_queries,)."""
    values = np.asarray(function(ranked, sp.csr_array(relevant)), dtype=np.float64)
    if values.shape != (len(ranked),):
        raise ValueError(
            f"Metric {key!r} returned shape {values.shape} for {len(ranked)} users; it "
            "must return one value a user."
        )
    return values
