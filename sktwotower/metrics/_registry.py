"""The metrics by name, sorted by the kind of value that they have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from sktwotower.metrics._beyond import (
    average_popularity,
    catalogue_coverage,
    gini,
    intra_list_diversity,
    novelty,
    serendipity,
)
from sktwotower.metrics._matched import DEFAULT_K
from sktwotower.metrics._pointwise import (
    balanced_accuracy,
    neg_log_loss,
    pr_auc,
    roc_auc,
)
from sktwotower.metrics._ranking import (
    auc,
    average_precision,
    hit_rate,
    ndcg,
    precision,
    r_precision,
    recall,
    reciprocal_rank,
)
from sktwotower.metrics._within_users import WithinUsers, roc_gauc

ACCURACY: dict[str, Callable[..., Any]] = {
    "ndcg": ndcg,
    "recall": recall,
    "precision": precision,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "hit_rate": hit_rate,
    "graded_ndcg": partial(ndcg, gains="graded"),
    "r_precision": r_precision,
    "auc": auc,
}
"""One value a user, from ranked and relevant items."""

BEYOND: dict[str, Callable[..., Any]] = {
    "serendipity": serendipity,
    "popularity": average_popularity,
    "novelty": novelty,
    "diversity": intra_list_diversity,
}
"""One value a user, from ranked items and a property of all items."""

AGGREGATE: dict[str, Callable[..., Any]] = {
    "coverage": catalogue_coverage,
    "gini": gini,
}
"""One value for the rankings of all users together."""

POINTWISE: dict[str, Callable[..., Any]] = {
    "roc_auc": roc_auc,
    "pr_auc": pr_auc,
    "neg_log_loss": neg_log_loss,
    "balanced_accuracy": balanced_accuracy,
}
"""One value for all rows of X; nothing is ranked."""

WITHIN_USERS: dict[str, Callable[..., Any]] = {"roc_gauc": roc_gauc}
"""One value a user, from the labels and scores of the user's rows; nothing is ranked."""

OF_ROWS: dict[str, Callable[..., Any]] = POINTWISE | WITHIN_USERS
"""What reads labels of rows and their scores."""

METRICS: dict[str, Callable[..., Any]] = ACCURACY | BEYOND | AGGREGATE | OF_ROWS
"""Functions by the short names that scorers take."""

WITHOUT_CUT_OFF = frozenset({"r_precision", "auc", *OF_ROWS})

_OTHER_SPELLINGS = {
    "ndcg_graded": "graded_ndcg",
    "gauc": "roc_gauc",
    "arp": "popularity",
    "ild": "diversity",
    "log_loss": "neg_log_loss",
    "loss": "neg_log_loss",
}


Metric = str | Callable[[np.ndarray, sp.csr_array], ArrayLike]
Metrics = Metric | Sequence[Metric] | Mapping[str, Metric]


@dataclass(frozen=True, eq=False)
class MetricSpec:
    """A checked metric of a call.

    Attributes
    ----------
    name : str
        A key of METRICS, or "" for a callable.
    k : int or None
        The cut-off, or None for a metric without one. For a callable of rankings, their
        length.
    function : callable
        Computes the metric.
    """

    name: str
    k: int | None
    function: Callable[..., Any]

    @property
    def is_within_users(self) -> bool:
        """Whether it reads labels and scores of the rows of each user."""
        return self.name in WITHIN_USERS or isinstance(self.function, WithinUsers)


def read_metrics(metrics: Metrics, *, n_ranked: int = DEFAULT_K) -> dict[str, MetricSpec]:
    """Checked metrics by the keys of their values.

    Parameters
    ----------
    metrics : str, callable, or list or dict of them
        As in :func:`~sktwotower.metrics.make_ranking_scorer`.
    n_ranked : int, default=10
        Length of the rankings that callables get.

    Raises
    ------
    TypeError, ValueError
        If a metric is neither a known name nor a callable, or two have the same name.
    """
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    pairs: list[tuple[Any, Any]]
    if isinstance(metrics, Mapping):
        pairs = list(metrics.items())
    else:
        pairs = [(_name_of(metric), metric) for metric in metrics]
    if not pairs:
        raise ValueError("metrics is empty; name at least one, such as 'ndcg@10'.")
    specs: dict[str, MetricSpec] = {}
    for key, metric in pairs:
        if callable(metric):
            if key in specs:
                raise ValueError(
                    f"Two metrics are called {key!r}; pass a dict of names and metrics."
                )
            k = None if isinstance(metric, WithinUsers) else n_ranked
            specs[key] = MetricSpec("", k, metric)
        else:
            name, k = parse_metric(metric)
            specs[key] = MetricSpec(name, k, METRICS[name])
    return specs


def metrics_of_users(metrics: Metrics, owner: str) -> dict[str, MetricSpec]:
    """Metrics for a caller that needs values of users; metrics of rows are refused."""
    specs = read_metrics(metrics)
    for key, spec in specs.items():
        if spec.name in POINTWISE:
            raise ValueError(
                f"{key!r} is one number for all rows together, which {owner} cannot split "
                "by users; use make_ranking_scorer, or 'roc_gauc', which is of the rows of "
                "each user."
            )
    return specs


def _name_of(metric: Any) -> Any:
    """The key of a metric's value: its name, or the name of the callable."""
    function = getattr(metric, "func", metric)  # inside functools.partial
    return getattr(
        function, "__name__", metric if isinstance(metric, str) else repr(metric)
    )


def parse_metric(metric: str, *, parameter: str = "metric") -> tuple[str, int | None]:
    """Split a metric such as ``"ndcg@10"`` into its name and its cut-off k.

    Use it to check a name, or to find the function of a name in ``METRICS``.

    Parameters
    ----------
    metric : str
        A name of ``METRICS``, alone or followed by "@" and a positive integer. A name
        alone means k = 10. Names without a cut-off: ``r_precision``, ``auc``,
        ``roc_gauc``, ``roc_auc``, ``pr_auc``, ``neg_log_loss``, ``balanced_accuracy``.
    parameter : str, default="metric"
        What messages call it.

    Returns
    -------
    name : str
        A key of ``METRICS``.
    k : int or None
        The cut-off; None for a metric without one.

    Raises
    ------
    TypeError
        If `metric` is not a string.
    ValueError
        If the name is unknown, k is not a positive integer, or the metric has no
        cut-off.

    Examples
    --------
    >>> from sktwotower.metrics import parse_metric
    >>> parse_metric("recall@20"), parse_metric("ndcg"), parse_metric("auc")
    (('recall', 20), ('ndcg', 10), ('auc', None))
    """
    if not isinstance(metric, str):
        raise TypeError(f"{parameter}={metric!r} is not a string such as 'ndcg@10'.")
    name, at, k = metric.partition("@")
    if name not in METRICS:
        raise ValueError(_unknown_metric(metric, name, at + k, parameter))
    if name in WITHOUT_CUT_OFF:
        if at:
            raise ValueError(
                f"{parameter}={metric!r}: {name} has no cut-off; write {name!r}."
            )
        return name, None
    if not at:
        return name, DEFAULT_K
    # int() alone would take ' 10', '1_0' and other scripts' digits.
    if not re.fullmatch("[1-9][0-9]*", k):
        raise ValueError(
            f"{parameter}={metric!r}: k={k!r} is not a positive integer; "
            f"write {name + '@10'!r}, or {name!r} for k={DEFAULT_K}."
        )
    return name, int(k)


def _unknown_metric(metric: str, name: str, at_k: str, parameter: str) -> str:
    """The message for an unknown name, with the nearest known name."""
    spellings = {_name_of(function): short for short, function in METRICS.items()}
    spellings |= _OTHER_SPELLINGS | {short: short for short in METRICS}
    near = difflib.get_close_matches(name.strip().lower(), spellings, n=1, cutoff=0.5)
    hint = ""
    if near:
        short = spellings[near[0]]
        proposal = short if short in WITHOUT_CUT_OFF else short + at_k
        hint = f" did you mean {proposal!r}?"
    return f"{parameter}={metric!r} is unknown;{hint} The metrics are {', '.join(METRICS)}."
