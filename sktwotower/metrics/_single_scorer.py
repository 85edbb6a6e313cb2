"""The scorer of one metric, which scikit-learn takes for one of its own.

``make_ranking_scorer`` imports this module when it is called, since ``sklearn.metrics`` is
slow to import.
"""

from __future__ import annotations

from typing import Any

from sklearn.metrics._scorer import _BaseScorer

from sktwotower.metrics._scorer import _RankingScorer


class SingleRankingScorer(_RankingScorer, _BaseScorer):
    """A ranking scorer that returns a number.

    scikit-learn's ``ScoringMonitor`` takes a callable for one that returns a number only
    if it is a ``_BaseScorer``.
    """

    # Dicts of scorers ask which method of the estimator several of them call, to call it
    # once. A ranking scorer calls none that could be called once for all.
    _response_method = "fit"

    def _score(self, method_caller: Any, estimator: Any, *args: Any, **kwargs: Any) -> Any:
        """The call from a dict of scorers."""
        return self(estimator, *args, **kwargs)
