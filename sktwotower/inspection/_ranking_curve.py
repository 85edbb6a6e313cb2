"""A ranking metric over the length of the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sktwotower._data.interactions import Interactions
from sktwotower.inspection._plotting import (
    axes_to_draw_on,
    check_matplotlib,
    check_recommender,
    named_models,
    whole_ticks,
)
from sktwotower.inspection._reading import read_positives
from sktwotower.metrics._evaluation import measure
from sktwotower.metrics._registry import (
    AGGREGATE,
    METRICS,
    WITHOUT_CUT_OFF,
    parse_metric,
    read_metrics,
)
from sktwotower.metrics._sources import Model, Source, last_estimator, name_of


@dataclass(frozen=True)
class RankingCurve:
    """A metric of one model.

    Attributes
    ----------
    mean : ndarray of shape (n_k,)
        Mean over users, at each length of the list.
    lower, upper : ndarray of shape (n_k,)
        Ends of the confidence interval; NaN where the metric has no value a user.
    n_users : int
        Users that the mean is over.
    """

    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    n_users: int


class RankingCurveDisplay:
    r"""A ranking metric over the length k of the list, for one or several models.

    Use it to see whether one model is better at the top of the list, further down, or at
    all. Make one with :meth:`from_estimator` or :meth:`from_estimators`; each model ranks
    the catalogue once, whatever the number of k.

    The band is the confidence interval of the mean :math:`m` over the :math:`n` users,
    :math:`m \pm z \, s / \sqrt{n}`, with :math:`s` the standard deviation over users. It
    tells how the mean would vary with other users like these, at each k by itself. Models
    are measured on the same users, so that two of them may differ for certain though their
    bands overlap.

    Parameters
    ----------
    k : array-like of shape (n_k,)
        Lengths of the list, rising.
    curves : dict of str to RankingCurve
        What is drawn, by the name of the model.
    metric : str
        Name of the metric.
    confidence_level : float, default=0.95
        Of the bands.

    Attributes
    ----------
    ax_ : matplotlib Axes
        With the curves.
    figure_ : matplotlib Figure
        What it is in.
    lines_ : dict of str to Line2D
        The means.
    bands_ : dict of str to PolyCollection
        The bands, of the models that have one.

    See Also
    --------
    sktwotower.metrics.make_ranking_scorer : The same numbers, for searches.
    sktwotower.metrics.compare : Whether one model is better than another for the same
        users.
    PopularityBiasDisplay : What is recommended, rather than how well.

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
        model : estimator with ``recommend``
            Fitted; or a Pipeline that ends in one, or a fitted search over either.
        X, y : DataFrame or array-like of shape (n_samples, n_columns), and (n_samples,)
            As in :meth:`from_estimators`.
        name : str, default=None
            In the legend; None: the name of the class.
        ax : matplotlib Axes, default=None
            Where to draw; None: in a new figure.
        **options
            ``metric``, ``k``, ``confidence_level``, ``exclude_seen``, ``sample_weight``
            and ``line_kwargs`` of :meth:`from_estimators`.

        Returns
        -------
        display : RankingCurveDisplay
            Drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_recommender(model, f"{cls.__name__}.from_estimator")
        if name is None:
            name = type(last_estimator(model)).__name__
        return cls.from_estimators({name: model}, X, y, ax=ax, **options)

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
            Fitted recommenders by name; those of a list are called after their classes.
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions to find, best those that no model was trained on.
        y : array-like of shape (n_samples,), default=None
            A row is relevant when its y is above 0; None: all are.
        metric : str, default="ndcg"
            A name that takes a cut-off in :func:`~sktwotower.metrics.make_ranking_scorer`,
            without one. ``coverage`` and ``gini`` have no value a user, and no band.
        k : int or array-like of int, default=50
            Lengths of the list; a number: from 1 to it.
        confidence_level : float, default=0.95
            Of the bands, in (0, 1).
        exclude_seen : bool, default=True
            Leave training pairs out of the rankings, except those of X.
        sample_weight : array-like of shape (n_samples,), default=None
            A user counts with the mean weight of their rows; rows of weight 0 do not count.
        ax : matplotlib Axes, default=None
            Where to draw; None: in a new figure.
        line_kwargs : dict, default=None
            Given to Matplotlib's ``plot`` for every curve.

        Returns
        -------
        display : RankingCurveDisplay
            Drawn.

        Raises
        ------
        TypeError
            If a model does not recommend, or k is no integer.
        NotFittedError
            If one is not fitted.
        ValueError
            If the metric is unknown, a k is below 1, no row is relevant, or no relevant
            item is in a model's catalogue.
        ImportError
            Without Matplotlib.
        """
        caller = f"{cls.__name__}.from_estimators"
        check_matplotlib(caller)
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
        cuts = _checked_k(k)
        if not isinstance(confidence_level, Real) or not 0 < confidence_level < 1:
            raise ValueError(
                f"confidence_level must be between 0 and 1; got {confidence_level!r}."
            )
        named = named_models(models, caller)
        for model in named.values():  # before the first one takes its time
            check_recommender(model, caller)
        curves = {}
        for label, model in named.items():
            source, positives = read_positives(model, X, y, sample_weight, caller=caller)
            curves[label] = _curve(
                source, positives, name, cuts, float(confidence_level), exclude_seen
            )
        display = cls(cuts, curves, name, confidence_level=float(confidence_level))
        return display.plot(ax, line_kwargs=line_kwargs)

    def plot(
        self, ax: Any = None, *, line_kwargs: dict[str, Any] | None = None
    ) -> RankingCurveDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None: in a new figure.
        line_kwargs : dict, default=None
            Given to Matplotlib's ``plot`` for every curve.

        Returns
        -------
        display : RankingCurveDisplay
            Itself.
        """
        k = np.asarray(self.k)
        self.lines_, self.bands_ = {}, {}
        style: dict[str, Any] = {"marker": "."} if len(k) <= 25 else {}
        with axes_to_draw_on(ax, f"{type(self).__name__}.plot") as ax:
            for name, curve in self.curves.items():
                given = {"label": name} | style | (line_kwargs or {})
                (line,) = ax.plot(k, curve.mean, **given)
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
            whole_ticks(ax.xaxis)
            ax.grid(alpha=0.3)
            title = f"mean, {100 * self.confidence_level:.4g} % interval"
            ax.legend(title=title if self.bands_ else None)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _checked_k(k: Any) -> np.ndarray:
    """The cut-offs, rising, each once."""
    single = isinstance(k, Integral) and not isinstance(k, (bool, np.bool_))
    cuts = np.asarray([k] if single else k)
    if cuts.ndim != 1 or (cuts.size and cuts.dtype.kind not in "iu"):
        raise TypeError(f"k must be an integer or a list of integers; got {k!r}.")
    if cuts.min(initial=1 if cuts.size else 0) < 1:
        raise ValueError(f"k must be at least 1; got {k!r}.")
    return np.arange(1, int(k) + 1) if single else np.unique(cuts)


def _curve(
    source: Source,
    positives: Interactions,
    metric: str,
    cuts: np.ndarray,
    confidence_level: float,
    exclude_seen: bool,
) -> RankingCurve:
    """Rank once, and measure at every cut-off."""
    specs = read_metrics([f"{metric}@{cut}" for cut in cuts])
    users = measure(source, positives, specs, exclude_seen=exclude_seen)
    n_users = int(users.measured.sum())
    if not n_users:
        raise ValueError(
            "There is nothing to draw: none of the relevant items of X is in the "
            f"catalogue of {name_of(source)}."
        )
    if metric in AGGREGATE:
        mean = np.array([users.aggregate(spec) for spec in specs.values()])
        unknown = np.full(len(cuts), np.nan)
        return RankingCurve(mean, unknown, unknown, n_users)
    weights = np.ones(len(users.user_ids)) if users.weights is None else users.weights
    mean, error = np.array(
        [_mean_and_error(users.per_user[key], weights) for key in specs]
    ).T
    half = NormalDist().inv_cdf(0.5 + confidence_level / 2) * error
    return RankingCurve(mean, mean - half, mean + half, n_users)


def _mean_and_error(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Weighted mean over users, and its standard error: s / sqrt(n) if all weigh 1."""
    defined = ~np.isnan(values)
    values, weights, n = values[defined], weights[defined], int(defined.sum())
    if not n:
        return np.nan, np.nan
    weights = weights / weights.sum()
    mean = weights @ values
    if n == 1:
        return mean, np.nan
    return mean, np.sqrt(n / (n - 1) * (weights**2 @ (values - mean) ** 2))
