"""scikit-learn's private names and those of 1.9, which only this module imports.

The base class of scorers is the exception: ``sklearn.metrics`` is slow to import.

Private names may change in any minor release, so the metadata names the next one as the
upper bound.
"""

import sys
from typing import Any

from sklearn import __version__
from sklearn.base import _fit_context as fit_context
from sklearn.utils._indexing import _get_column_indices as column_indices
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
)
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

try:
    from sklearn.utils._repr_html.estimator import _VisualBlock as VisualBlock
except ImportError:  # scikit-learn 1.6
    from sklearn.utils._estimator_html_repr import _VisualBlock as VisualBlock

try:
    from sklearn.callback import CallbackSupportMixin, ProgressBar, with_callbacks
except ImportError:  # scikit-learn 1.6 to 1.8
    ProgressBar = None

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """A fit whose callbacks are never there."""

        def set_callbacks(self, *callbacks: Any) -> None:
            """Refuse callbacks."""
            raise ImportError(
                f"set_callbacks needs scikit-learn 1.9 or newer, and {__version__} is "
                'installed: pip install "scikit-learn>=1.9".'
            )

        def _init_callback_context(self, **_: Any) -> Any:
            return _NoCallbacks()

    class _NoCallbacks:
        """A task of ``fit`` that no callback is told of, and none stops."""

        def subcontext(self, **_: Any) -> Any:
            return self

        def call_on_fit_task_begin(self, **_: Any) -> None:
            pass

        def call_on_fit_task_end(self, **_: Any) -> bool:
            return False

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "ProgressBar",
    "StrOptions",
    "VisualBlock",
    "callbacks_of",
    "check_feature_names",
    "check_sample_weight",
    "column_indices",
    "feature_names",
    "fit_context",
    "is_column_transformer",
    "is_frozen",
    "is_part_of_a_fit",
    "is_pipeline",
    "is_selector",
    "is_union",
    "output_config",
    "with_callbacks",
]


def callbacks_of(estimator: Any) -> list:
    """The callbacks that were set, and those of a fit around the estimator's."""
    return list(getattr(estimator, "_skl_callbacks", []))


def is_part_of_a_fit(estimator: Any) -> bool:
    """Whether a search or a Pipeline with support for callbacks fits the estimator."""
    return hasattr(estimator, "_parent_callback_ctx")


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
