"""scikit-learn's metrics of classification, on labels and the scores of rows.

Each takes labels (bool), the scores of ``predict``, the temperature that divides scores
before a sigmoid, and weights. Larger is better. ``sklearn.metrics`` is imported late, since
its import is slow and few programs need it.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from sktwotower.metrics._matched import FloatArray


def roc_auc(
    labels: np.ndarray,
    scores: FloatArray,
    temperature: float = 1.0,
    sample_weight: np.ndarray | None = None,
) -> float:
    """Area under the ROC curve of all rows together."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores, sample_weight=sample_weight))


def pr_auc(
    labels: np.ndarray,
    scores: FloatArray,
    temperature: float = 1.0,
    sample_weight: np.ndarray | None = None,
) -> float:
    """Area under the precision-recall curve: scikit-learn's average precision."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores, sample_weight=sample_weight))


def neg_log_loss(
    labels: np.ndarray,
    scores: FloatArray,
    temperature: float = 1.0,
    sample_weight: np.ndarray | None = None,
) -> float:
    """Minus the log loss of ``sigmoid(score / temperature)``."""
    from sklearn.metrics import log_loss

    probabilities = expit(scores / temperature)
    return -float(log_loss(labels, probabilities, sample_weight=sample_weight))


def balanced_accuracy(
    labels: np.ndarray,
    scores: FloatArray,
    temperature: float = 1.0,
    sample_weight: np.ndarray | None = None,
) -> float:
    """Mean recall of both classes; positive is ``sigmoid(score / temperature) > 0.5``."""
    from sklearn.metrics import balanced_accuracy_score

    guesses = expit(scores / temperature) > 0.5
    return float(balanced_accuracy_score(labels, guesses, sample_weight=sample_weight))
