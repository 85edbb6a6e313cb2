"""Curves of a ranking metric over the length of the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sktwotower.inspection._plotting import (
    axes_to_draw_on,
    check_matplotlib,
    named_model,
    named_models,
    set_title,
    whole_ticks,
)
from sktwotower.inspection._reading import read_relevant
from sktwotower.metrics._evaluation import measured_alike
from sktwotower.metrics._registry import (
    METRICS,
    WITHOUT_CUT_OFF,
    MetricSpec,
    parse_metric,
    read_metrics,
)
from sktwotower.metrics._sources import Model, name_of
from sktwotower.metrics._task import RankingOptions, Task
from sktwotower.metrics._user_metrics import UserMetrics, warn_of_notes


@dataclass(frozen=True)
class RankingCurve:
    """The metric of one model at each length of the list.

    Attributes
    ----------
    mean : ndarray of shape (n_k,)
        Mean over users.
    lower, upper : ndarray of shape (n_k,)
        Ends of the confidence interval; NaN for metrics without a value for each user.
    n_users : int
        Number of users in the mean.
    """

    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    n_users: int


class RankingCurveDisplay:
    r"""A ranking metric over the length k of the list, for one or several models.

    Use it to see whether a model is better at the top of the list or further down. Make
    one with :meth:`from_estimator` or :meth:`from_estimators`; each model ranks the
    catalogue once for all k.

    The band is the confidence interval of the mean :math:`m` over the :math:`n` users,
    :math:`m \pm z \, s / \sqrt{n}`, with :math:`s` the standard deviation over users. It
    shows how the mean varies with the choice of users, for each k separately. Two models
    can differ with certainty although their bands overlap, because they are measured on
    the same users; test that with :func:`~sktwotower.metrics.compare`.

    Parameters
    ----------
    k : array-like of shape (n_k,)
        Lengths of the list, ascending.
    curves : dict of str to RankingCurve
        Curves by the name of the model.
    metric : str
        Name of the metric.
    confidence_level : float, default=0.95
        Confidence of the bands.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the curves.
    figure_ : matplotlib Figure
        The figure of these axes.
    lines_ : dict of str to Line2D
        The means.
    bands_ : dict of str to PolyCollection
        The bands; empty for metrics without a value for each user.

    See Also
    --------
    sktwotower.metrics.make_ranking_scorer : The means, for searches.
    sktwotower.metrics.compare : Test whether one model is better than another.
    PopularityBiasDisplay : The popularity of the recommendations.

    Examples
    --------
    >>> from sktwotower.baselines import EASERecommender, PopularRecommender
    >>> from sktwotower.datasets import make_interactions
    >>> from sktwotower.inspection import RankingCurveDisplay
    >>> X = make_interactions(random_state=0).interactions
    >>> models = [PopularRecommender().fit(X[:3200]), EASERecommender().fit(X[:3200])]
    >>> display = RankingCurveDisplay.from_estimators(models, X[3200:], k=20)
    >>> list(display.curves)
    ['PopularRecommender', 'EASERecommender']
    >>> display.ax_.get_ylabel()
    'ndcg@k'
    """

    def __init__(
        self,
        k: ArrayLike,
        curves: Mapping[str, RankingCurve],
        metric: str,
        *,
        confidence_level: float = 0.95,
    ) -> None:
        self.k = k
        self.curves = curves
        self.metric = metric
        self.confidence_level = confidence_level

    @classmethod
    def from_estimator(
        cls,
        model: Model,
        X: Any,
        y: ArrayLike | None = None,
        *,
        name: str | None = None,
        ax: Any = None,
        **options: Any,
    ) -> RankingCurveDisplay:
        """Draw the curve of one model.

        Parameters
        ----------
        model : estimator
            As a scorer of :func:`~sktwotower.metrics.make_ranking_scorer` takes it.
        name : str, default=None
            Name in the legend; None: the name of the class.
        X, y, ax, **options
            As in :meth:`from_estimators`.

        Returns
        -------
        display : RankingCurveDisplay
            The display, drawn.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        named = named_model(model, name, caller)
        return cls.from_estimators(named, X, y, ax=ax, **options)

    @classmethod
    def from_estimators(
        cls,
        models: Mapping[str, Model] | Sequence[Model],
        X: Any,
        y: ArrayLike | None = None,
        *,
        metric: str = "ndcg",
        k: int | ArrayLike = 50,
        confidence_level: float = 0.95,
        exclude_seen: bool = True,
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> RankingCurveDisplay:
        """Draw the curves of several models.

        Parameters
        ----------
        models : dict of str to estimator, or list of estimators
            Models as in :meth:`from_estimator`, by name. The models of a list have the
            names of their classes.
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions to find; use rows that no model was trained on.
        y, sample_weight : array-like of shape (n_samples,), default=None
            As a scorer of :func:`~sktwotower.metrics.make_ranking_scorer` takes them.
        metric : str, default="ndcg"
            A metric of :func:`~sktwotower.metrics.make_ranking_scorer` that takes a
            cut-off, named without it. ``coverage`` and ``gini`` have no value for each
            user and so no band.
        k : int or array-like of int, default=50
            Lengths of the list. A number means all lengths from 1 to it.
        confidence_level : float, default=0.95
            Confidence of the bands, in (0, 1).
        exclude_seen : bool, default=True
            As in :func:`~sktwotower.metrics.compare`.
        ax, line_kwargs
            As in :meth:`plot`.

        Returns
        -------
        display : RankingCurveDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If a model has no ``recommend``, or ``k`` is not an integer.
        NotFittedError
            If a model is not fitted.
        ValueError
            If the metric is unknown, a ``k`` is below 1, no row is relevant, or no
            relevant item is in the catalogue of a model.
        ImportError
            If Matplotlib is not installed.
        """
        caller = f"{cls.__name__}.from_estimators"
        check_matplotlib(caller)
        name = _checked_metric(metric)
        cut_offs = _checked_k(k)
        if not isinstance(confidence_level, Real) or not 0 < confidence_level < 1:
            raise ValueError(
                f"confidence_level must be between 0 and 1; got {confidence_level!r}."
            )
        named = named_models(models, caller)
        specs = read_metrics([f"{name}@{k}" for k in cut_offs])
        options = RankingOptions(exclude_seen=exclude_seen)
        sources, tasks = {}, {}
        for label, model in named.items():
            source, rows = read_relevant(model, X, y, sample_weight, caller=caller)
            sources[label] = source
            tasks[label] = Task.of(source, rows, specs, options)
        measured = measured_alike(tasks)
        warn_of_notes(measured.values())
        curves = {}
        for label, users in measured.items():
            if not users.measured.any():
                raise ValueError(
                    "There is nothing to draw: none of the relevant items of X is in the "
                    f"catalogue of {name_of(sources[label])}."
                )
            curves[label] = _curve(users, specs, float(confidence_level))
        display = cls(cut_offs, curves, name, confidence_level=float(confidence_level))
        return display.plot(ax, line_kwargs=line_kwargs)

    def plot(
        self, ax: Any = None, *, line_kwargs: dict[str, Any] | None = None
    ) -> RankingCurveDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: axes of a new figure. A title that they have
            is kept.
        line_kwargs : dict, default=None
            Arguments of Matplotlib's ``plot``, for all curves.

        Returns
        -------
        display : RankingCurveDisplay
            The display itself.
        """
        k = np.asarray(self.k)
        self.lines_, self.bands_ = {}, {}
        style: dict[str, Any] = {"marker": "."} if len(k) <= 25 else {}
        with axes_to_draw_on(ax, f"{type(self).__name__}.plot") as ax:
            for name, curve in self.curves.items():
                look = {"label": name} | style | (line_kwargs or {})
                (line,) = ax.plot(k, curve.mean, **look)
                self.lines_[name] = line
                if np.isfinite(curve.lower).any():
                    self.bands_[name] = ax.fill_between(
                        k,
                        curve.lower,
                        curve.upper,
                        color=line.get_color(),
                        alpha=0.15,
                        linewidth=0,
                    )
            ax.set(xlabel="k, length of the list", ylabel=f"{self.metric}@k")
            set_title(ax, f"{self.metric} by length of the list")
            whole_ticks(ax.xaxis)
            ax.grid(alpha=0.3)
            title = f"mean, {100 * self.confidence_level:.4g} % interval"
            ax.legend(title=title if self.bands_ else None)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _checked_metric(metric: str) -> str:
    """A name that takes a cut-off, without it."""
    if isinstance(metric, str) and "@" in metric:
        raise ValueError(
            f"metric={metric!r} has a cut-off, which k gives here: write "
            f"{metric.partition('@')[0]!r}."
        )
    name, _ = parse_metric(metric)
    if name in WITHOUT_CUT_OFF:
        raise ValueError(
            f"metric={metric!r} has no k, and so no curve; there is one of "
            f"{', '.join(each for each in METRICS if each not in WITHOUT_CUT_OFF)}."
        )
    return name


def _checked_k(k: int | ArrayLike) -> np.ndarray:
    """The distinct cut-offs, ascending."""
    single = isinstance(k, Integral) and not isinstance(k, (bool, np.bool_))
    cut_offs = np.asarray([k] if single else k)
    if cut_offs.ndim != 1 or (cut_offs.size and cut_offs.dtype.kind not in "iu"):
        raise TypeError(f"k must be an integer or a list of integers; got {k!r}.")
    if cut_offs.min(initial=1 if cut_offs.size else 0) < 1:
        raise ValueError(f"k must be at least 1; got {k!r}.")
    return np.arange(1, int(cut_offs[0]) + 1) if single else np.unique(cut_offs)


def _curve(
    users: UserMetrics, specs: dict[str, MetricSpec], confidence_level: float
) -> RankingCurve:
    """The means of a metric at every cut-off."""
    n_users = int(users.measured.sum())
    if not users.per_user:  # of all rankings together
        mean = np.array([users.aggregate(spec) for spec in specs.values()])
        unknown = np.full(len(specs), np.nan)
        return RankingCurve(mean, unknown, unknown, n_users)
    weights = np.ones(len(users.user_ids)) if users.weights is None else users.weights
    mean, error = np.array(
        [_mean_and_error(users.per_user[key], weights) for key in specs]
    ).T
    half = NormalDist().inv_cdf(0.5 + confidence_level / 2) * error
    return RankingCurve(mean, mean - half, mean + half, n_users)


def _mean_and_error(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Weighted mean over users and its standard error, s / sqrt(n) for equal weights."""
    defined = ~np.isnan(values)
    values, weights, n = values[defined], weights[defined], int(defined.sum())
    if not n:
        return np.nan, np.nan
    weights = weights / weights.sum()
    mean = weights @ values
    if n == 1:
        return mean, np.nan
    return mean, np.sqrt(n / (n - 1) * (weights**2 @ (values - mean) ** 2))
