"""The scorer of one metric, in the form of scikit-learn's own.

``make_ranking_scorer`` imports this module when it is called, since ``sklearn.metrics`` is
slow to import.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike
from sklearn.metrics._scorer import _BaseScorer
from sklearn.utils.metadata_routing import MetadataRequest


class SingleScorer(_BaseScorer):
    """A ranking scorer that returns a number.

    ``ScoringMonitor`` takes a callable for one that returns a number only if it is a
    ``_BaseScorer``.

    Parameters
    ----------
    scorer : callable
        ``scorer(estimator, X, y=None, sample_weight=None)``, with the methods for metadata
        routing.
    """

    # Dicts of scorers ask which method of the estimator several of them call, to call it
    # once. A ranking scorer calls none that could be called once for all.
    _response_method = "fit"

    def __init__(self, scorer: Any) -> None:
        self.scorer = scorer
        self.__name__ = scorer.__name__

    def __repr__(self) -> str:
        return repr(self.scorer)

    def __call__(
        self,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        value: float = self.scorer(estimator, X, y, sample_weight)
        return value

    def _score(
        self, method_caller: Any, estimator: Any, *args: Any, **kwargs: Any
    ) -> float:
        """The call from a dict of scorers."""
        return self(estimator, *args, **kwargs)

    def _accept_sample_weight(self) -> bool:
        return True

    def set_score_request(self, *, sample_weight: bool | str | None) -> SingleScorer:
        """Request weights in scikit-learn's metadata routing, or refuse them."""
        self.scorer.set_score_request(sample_weight=sample_weight)
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """The request for metadata routing."""
        return self.scorer.get_metadata_routing()
