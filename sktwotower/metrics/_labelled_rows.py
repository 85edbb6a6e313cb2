"""Metrics of rows with labels, which rank nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from sktwotower._data.interactions import Interactions
from sktwotower.metrics._matched import FloatArray
from sktwotower.metrics._registry import MetricSpec
from sktwotower.metrics._sources import EvaluationSource, Source, name_of


class LabelledRows:
    """Rows and what a recommender predicts for them, once for all metrics.

    Parameters
    ----------
    source : EvaluationSource or Recommender
        Scores the rows.
    interactions : Interactions
        The rows.
    predictions : callable, optional
        Returns the scores of the rows; an external recommender needs it.
    """

    def __init__(
        self,
        source: Source,
        interactions: Interactions,
        predictions: Callable[[], ArrayLike] | None = None,
    ) -> None:
        self.source = source
        self.interactions = interactions
        self.predictions = predictions

    def of_all(self, specs: dict[str, MetricSpec]) -> dict[str, float]:
        """Metrics of all rows together."""
        self._check(specs)
        rows = self.interactions
        columns = [rows.positive, rows.share.on_all(lambda: self._scores)]
        if rows.weights is not None:
            columns.append(rows.weights)
        positive, scores, *weights = rows.share.joined(*columns)
        return {
            key: spec.function(positive, scores, self._temperature, *weights)
            for key, spec in specs.items()
        }

    def of_users(
        self, specs: dict[str, MetricSpec], users: np.ndarray, n_users: int
    ) -> dict[str, FloatArray]:
        """Metrics among the rows of each user, (n_users,) each.

        ``users`` has the number of the user of each row.
        """
        self._check(specs)
        weights, labels = self.interactions.weights, self.interactions.labels
        scores = self.interactions.share.on_all(lambda: self._scores)
        return {
            key: spec.function(labels, scores, users, n_users, weights)
            for key, spec in specs.items()
        }

    def _check(self, specs: dict[str, MetricSpec]) -> None:
        """Raise unless there are rows of both classes, and scores."""
        positive, key = self.interactions.positive, next(iter(specs))
        classes = np.array([positive.any(), not positive.all()])
        has_positives, has_others = self.interactions.share.any(classes)
        if not (has_positives and has_others):
            what = "only positives (y is None, or all of y > 0)"
            raise ValueError(
                f"{key!r} needs rows of both classes, y > 0 and y <= 0; X has "
                f"{what if has_positives else 'none'}. "
                "sktwotower.model_selection.sample_negatives adds rows with y = 0."
            )
        if not isinstance(self.source, EvaluationSource) and self.predictions is None:
            raise TypeError(
                f"{key!r} needs a score for each row, and {name_of(self.source)} has no "
                "predict."
            )

    @cached_property
    def _scores(self) -> FloatArray:
        if isinstance(self.source, EvaluationSource):
            return np.asarray(self.source.pair_scores(self.interactions), np.float64)
        assert self.predictions is not None  # _check
        scores = np.asarray(self.predictions(), np.float64)
        n_rows, n_missing = len(self.interactions), int(np.isnan(scores).sum())
        if scores.shape != (n_rows,) or n_missing:
            what = f"{n_missing} NaN" if n_missing else f"shape {scores.shape}"
            raise ValueError(
                f"predict of {name_of(self.source)} returned {what} for {n_rows} rows; "
                "metrics of rows need a number for each."
            )
        return scores

    @property
    def _temperature(self) -> float:
        if isinstance(self.source, EvaluationSource):
            return self.source.temperature
        return float(getattr(self.source, "temperature_", 1.0))
