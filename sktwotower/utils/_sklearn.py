"""Private names of scikit-learn, which only this module imports."""

import sys
from typing import Any

from sklearn.base import _fit_context as fit_context
from sklearn.utils._indexing import _get_column_indices as column_indices
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
)
from sklearn.utils._repr_html.estimator import _VisualBlock as VisualBlock
from sklearn.utils._set_output import _get_output_config as output_config
from sklearn.utils.validation import (
    _check_feature_names as check_feature_names,
)
from sklearn.utils.validation import (
    _check_sample_weight as check_sample_weight,
)
from sklearn.utils.validation import (
    _get_feature_names as feature_names,
)

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
    "VisualBlock",
    "check_feature_names",
    "check_sample_weight",
    "column_indices",
    "feature_names",
    "fit_context",
    "is_column_transformer",
    "is_frozen",
    "is_pipeline",
    "is_selector",
    "is_union",
    "output_config",
]


def is_pipeline(estimator: Any) -> bool:
    """Whether an estimator is a Pipeline, without importing their module, which is slow."""
    return _is_a(estimator, "sklearn.pipeline", "Pipeline")


def is_union(estimator: Any) -> bool:
    """Whether an estimator is a FeatureUnion."""
    return _is_a(estimator, "sklearn.pipeline", "FeatureUnion")


def is_column_transformer(estimator: Any) -> bool:
    """Whether an estimator is a ColumnTransformer."""
    return _is_a(estimator, "sklearn.compose", "ColumnTransformer")


def is_frozen(estimator: Any) -> bool:
    """Whether an estimator is a FrozenEstimator."""
    return _is_a(estimator, "sklearn.frozen", "FrozenEstimator")


def is_selector(estimator: Any) -> bool:
    """Whether an estimator selects features."""
    return _is_a(estimator, "sklearn.feature_selection", "SelectorMixin")


def _is_a(estimator: Any, module: str, name: str) -> bool:
    # An estimator of a module that was never imported does not exist.
    return isinstance(estimator, getattr(sys.modules.get(module), name, ()))
