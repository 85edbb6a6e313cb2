"""What an evaluation needs to know of a recommender, and how it is found in a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator

from sktwotower._data.interactions import FittedState, Interactions
from sktwotower._search.top_k import Scores
from sktwotower.utils._sklearn import is_pipeline


@runtime_checkable
class EvaluationSource(FittedState, Protocol):
    """What the evaluation needs to know of a recommender of this package.

    Such a recommender returns one from its method ``_evaluation_source``. Codes are those
    of the two vocabularies; code 0 is the unknown user or item.
    """

    @property
    def seen(self) -> sp.csr_matrix:
        """Pairs of the training data, (n_users, n_items); code c is row or column c - 1."""

    @property
    def n_users_of_items(self) -> np.ndarray:
        """Number of users that have seen each item in the training data, (n_items,)."""

    @property
    def catalogue(self) -> np.ndarray:
        """Ascending codes of the items that can be recommended."""

    @property
    def temperature(self) -> float:
        """What scores are divided by before a sigmoid."""

    def query_scores(self, queries: Interactions, item_codes: np.ndarray, /) -> Scores:
        """Scores of one query a row for these items, (n_queries, n_items)."""

    def pair_scores(self, interactions: Interactions, /) -> np.ndarray:
        """The score of each row's user and item, as ``predict`` has it, (n_rows,)."""

    def item_vectors(self, item_codes: np.ndarray, /) -> np.ndarray | None:
        """Vectors to compare these items by, (n_items, n_dimensions), or None."""

    def other_item_features(self, interactions: Interactions, /) -> list:
        """Names of item features whose values are those of other items."""


class Recommender(Protocol):
    """What a recommender of another package must have to be evaluated.

    ``item_ids_``, ``item_counts_``, ``item_embeddings_``, ``user_ids_`` and ``predict`` are
    read if a metric or a slice needs them.

    A method ``seen_items(user_ids)`` returns the item ids of each user in the training
    data, one sequence a user, empty for unknown users. It is optional: without it, seen
    pairs are found by asking for complete rankings, with and without ``exclude_seen``, for
    each user one of whose relevant items is not recommended.
    """

    def recommend(self, X: Any, *, n_recommendations: int, exclude_seen: bool) -> Any:
        """Item ids, one row a user, best first; or a tuple that starts with them.

        X holds user ids; with ``per_row=True`` it holds rows of the X that is scored.
        """


Source = EvaluationSource | Recommender
"""What rankings come from: this package's recommenders, or any other."""

Model: TypeAlias = "Recommender | BaseEstimator"
"""A recommender, a Pipeline that ends in one, or a fitted search over either."""


def source_of(
    recommender: Source,
) -> Source:
    """The source that a recommender of this package offers; anything else as it is."""
    if hasattr(recommender, "_evaluation_source"):
        source: EvaluationSource = recommender._evaluation_source()
        return source
    return recommender


def name_of(source: Source) -> str:
    """The name of the class of the recommender, for messages."""
    if isinstance(source, EvaluationSource):
        return source.roles.owner
    return type(source).__name__


def no_embeddings(source: Source) -> str:
    """The message for a recommender without item vectors."""
    return (
        f"{name_of(source)} has no item vectors, which 'diversity' needs; use "
        "sktwotower.metrics.intra_list_diversity with vectors of your own."
    )


def last_estimator(model: Any) -> Any:
    """The estimator inside fitted searches and pipelines."""
    *_, last = _layers(model)
    return last


def unwrap(model: Model, X: Any) -> tuple[Recommender, Any]:
    """The recommender inside searches and pipelines, and X as the steps transform it."""
    for layer in _layers(model):
        if is_pipeline(layer) and len(layer.steps) > 1:
            X = layer[:-1].transform(X)
    if not hasattr(layer, "recommend"):
        raise TypeError(
            f"A ranking scorer needs an estimator with a recommend method; "
            f"{type(layer).__name__} has none."
        )
    recommender: Recommender = layer
    return recommender, X


def _layers(model: Any) -> Iterator[Any]:
    """A model, what it wraps, what this wraps, and so on."""
    yield model
    if isinstance(model, type):
        return
    if hasattr(model, "best_estimator_"):
        yield from _layers(model.best_estimator_)
    elif is_pipeline(model):
        yield from _layers(model.steps[-1][1])
