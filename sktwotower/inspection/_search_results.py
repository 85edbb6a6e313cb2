"""The scores of a search over the values of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sktwotower.inspection._plotting import (
    axes_to_draw_on,
    check_matplotlib,
    log_ticks,
    mark_best,
    refuse,
    set_title,
)

# Ratios of the largest to the smallest number: from the first one on an axis may be
# logarithmic, and from the second one on it is.
_MAYBE_LOG, _ALWAYS_LOG = 4.0, 1000.0
# Share of a logarithmic axis between neighbours, from which each of them has a tick.
_ROOM_OF_TICK = 0.1
# Share of the cells that were tried, from which points are drawn as a map.
_FILLED = 0.6
# Number of cells up to which the numbers are written in them.
_MOST_WRITTEN = 100


class SearchResultsDisplay:
    """The mean score of a fitted search over one or two of its parameters.

    Use it to see the effect of a parameter, and whether the best value lies at the edge of
    the values that were tried. One parameter gives a line, with the standard deviation over
    the splits as error bars. Two parameters give a heat map, or points if their values are
    not a grid, as in a random search. Make one with :meth:`from_estimator`.

    The axis of a number is logarithmic if all values are positive, the largest is at least
    4 times the smallest, and the logarithms are spread more evenly than the values: 16, 32
    and 64, or draws from ``scipy.stats.loguniform``. If the largest is at least 1,000 times
    the smallest, the axis is logarithmic in any case. To change it, call
    ``display.ax_.set_xscale("linear")``.

    Parameters
    ----------
    values : list of 1 or 2 array-likes of shape (n_points,)
        Values of each parameter.
    mean_scores : array-like of shape (n_points,)
        Mean over the splits.
    std_scores : array-like of shape (n_points,)
        Standard deviation over the splits.
    params : list of 1 or 2 str
        Names of the parameters.
    metric : str, default="score"
        Name of the score.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the line, the map or the points.
    figure_ : matplotlib Figure
        The figure of these axes.
    errorbar_ : matplotlib ErrorbarContainer or None
        The line of one parameter.
    image_ : matplotlib AxesImage or None
        The heat map of two parameters.
    scatter_ : matplotlib PathCollection or None
        The points of two parameters that are not a grid.
    texts_ : list of matplotlib Text
        The numbers in the heat map, row by row; empty for more than 100 cells.
    best_ : matplotlib Line2D
        The mark at the best score.
    colorbar_ : matplotlib Colorbar or None
        The colour bar of the map or the points.

    See Also
    --------
    sklearn.model_selection.ValidationCurveDisplay : Fits new models for one parameter,
        and also shows training scores.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sktwotower.baselines import EASERecommender
    >>> from sktwotower.datasets import make_interactions
    >>> from sktwotower.inspection import SearchResultsDisplay
    >>> X = make_interactions(random_state=0).interactions
    >>> search = GridSearchCV(EASERecommender(), {"regularization": [10, 100, 1000]}, cv=2)
    >>> display = SearchResultsDisplay.from_estimator(search.fit(X))
    >>> display.ax_.get_xlabel()
    'regularization'
    """

    def __init__(
        self,
        values: Sequence[ArrayLike],
        mean_scores: ArrayLike,
        std_scores: ArrayLike,
        *,
        params: Sequence[str],
        metric: str = "score",
    ) -> None:
        self.values = values
        self.mean_scores = mean_scores
        self.std_scores = std_scores
        self.params = params
        self.metric = metric

    @classmethod
    def from_estimator(
        cls,
        search: BaseEstimator,
        *,
        params: str | Sequence[str] | None = None,
        metric: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> SearchResultsDisplay:
        """Draw a fitted search.

        Parameters
        ----------
        search : GridSearchCV, RandomizedSearchCV or the like
            A fitted search with ``cv_results_``. The score of a candidate of a halving
            search is the score of its last iteration.
        params : str or list of 1 or 2 str, default=None
            Parameters to draw. None: the parameters with more than one value, of which
            there must be one or two. If further parameters were searched, each point has
            the best mean score over their values.
        metric : str, default=None
            Metric of a search with several metrics; None: the metric of ``refit``, or the
            first one.
        ax : matplotlib Axes, default=None
            Axes to draw on; None: axes of a new figure.
        **kwargs
            As in :meth:`plot`.

        Returns
        -------
        display : SearchResultsDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``search`` is not a search.
        NotFittedError
            If the search is not fitted.
        ValueError
            If the search does not have these parameters or this metric, varied more than
            two parameters and ``params`` is None, or has no candidate with a score.
        ImportError
            If Matplotlib is not installed.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        if isinstance(search, type) or not hasattr(search, "fit"):
            raise refuse(search, caller, "a fitted search, such as a GridSearchCV")
        if not hasattr(search, "cv_results_"):
            if hasattr(search, "cv"):  # it is a search
                check_is_fitted(search, "cv_results_")
            raise refuse(search, caller, "a fitted search, such as a GridSearchCV")
        results = search.cv_results_
        metric = _chosen_metric(results, metric, getattr(search, "refit", None))
        names = _chosen_params(results, params)
        frame = _points(results, metric, names)
        display = cls(
            [frame[name].to_numpy() for name in names],
            frame["mean"].to_numpy(dtype=np.float64),
            frame["std"].to_numpy(dtype=np.float64),
            params=names,
            metric=metric if metric != "score" else _scoring_name(search),
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> SearchResultsDisplay:
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: axes of a new figure. A title that they have
            is kept.
        **kwargs
            Arguments of Matplotlib's ``errorbar`` for one parameter, and of ``imshow`` or
            ``scatter`` for two.

        Returns
        -------
        display : SearchResultsDisplay
            The display itself.
        """
        if len(self.params) not in (1, 2) or len(self.values) != len(self.params):
            raise ValueError("One or two parameters can be drawn, with values for each.")
        self.errorbar_: Any = None
        self.image_: Any = None
        self.scatter_: Any = None
        self.colorbar_: Any = None
        self.texts_: list[Any] = []
        axes = [_Axis(values) for values in self.values]
        mean = np.asarray(self.mean_scores, dtype=np.float64)
        with axes_to_draw_on(ax, f"{type(self).__name__}.plot") as ax:
            if len(axes) == 1:
                self._plot_line(ax, axes[0], mean, kwargs)
            else:
                n_cells = len(axes[0].labels) * len(axes[1].labels)
                if len(mean) >= _FILLED * n_cells:
                    self._plot_map(ax, axes, mean, kwargs)
                else:
                    self._plot_points(ax, axes, mean, kwargs)
                ax.set_ylabel(self.params[1])
            ax.set_xlabel(self.params[0])
            set_title(ax, f"Candidates of the search: {self.metric}")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_line(
        self, ax: Any, axis: _Axis, mean: np.ndarray, kwargs: dict[str, Any]
    ) -> None:
        order = np.argsort(axis.positions, kind="stable")
        positions, mean = axis.positions[order], mean[order]
        std = np.asarray(self.std_scores, dtype=np.float64)[order]
        look = {"marker": "o", "markersize": 4, "capsize": 3} | kwargs
        if not axis.is_number and not {"linestyle", "ls"} & set(kwargs):
            look["linestyle"] = "none"  # there are no values between two names
        self.errorbar_ = ax.errorbar(positions, mean, yerr=std, **look)
        axis.scale(ax, "x")
        if not axis.is_number:
            ax.set_xlim(-0.5, len(axis.labels) - 0.5)
        best = int(np.argmax(mean))
        label = f"best: {mean[best]:.4g}"
        self.best_ = mark_best(
            ax, positions[best], mean[best], markersize=11, color="C3", label=label
        )
        ax.legend(handles=[self.best_])
        ax.set_ylabel(f"mean {self.metric}")
        ax.grid(alpha=0.3)

    def _plot_map(
        self, ax: Any, axes: list[_Axis], mean: np.ndarray, kwargs: dict[str, Any]
    ) -> None:
        columns, rows = axes[0].ranks, axes[1].ranks
        grid = np.full((len(axes[1].labels), len(axes[0].labels)), np.nan)
        grid[rows, columns] = mean
        look = {"cmap": "viridis", "origin": "lower", "aspect": "auto"} | kwargs
        self.image_ = ax.imshow(grid, **look)
        ax.set_xticks(range(grid.shape[1]), axes[0].labels)
        ax.set_yticks(range(grid.shape[0]), axes[1].labels)
        if sum(map(len, axes[0].labels)) > 60:
            ax.tick_params(axis="x", labelrotation=45)
        if grid.size <= _MOST_WRITTEN:
            self._write_numbers(ax, grid)
        best = int(np.argmax(mean))
        x = columns[best] + np.array([-0.5, 0.5, 0.5, -0.5, -0.5])
        y = rows[best] + np.array([-0.5, -0.5, 0.5, 0.5, -0.5])
        limits = {"xlim": ax.get_xlim(), "ylim": ax.get_ylim()}
        (self.best_,) = ax.plot(x, y, color="C3", linewidth=2.5, clip_on=False)
        ax.set(**limits)
        self._bar(ax, self.image_)

    def _write_numbers(self, ax: Any, grid: np.ndarray) -> None:
        """Write each number into its cell, white on dark cells."""
        low, high = self.image_.get_clim()
        for row, column in np.argwhere(np.isfinite(grid)):
            value = grid[row, column]
            dark = high > low and (value - low) / (high - low) < 0.6
            color = "white" if dark else "black"
            text = ax.text(
                column, row, f"{value:.3g}", ha="center", va="center", color=color
            )
            self.texts_.append(text)

    def _plot_points(
        self, ax: Any, axes: list[_Axis], mean: np.ndarray, kwargs: dict[str, Any]
    ) -> None:
        order = np.argsort(mean, kind="stable")  # the best points lie on top
        x, y = axes[0].positions[order], axes[1].positions[order]
        look = {"cmap": "viridis", "s": 45} | kwargs
        self.scatter_ = ax.scatter(x, y, c=mean[order], **look)
        axes[0].scale(ax, "x")
        axes[1].scale(ax, "y")
        best = int(np.argmax(mean))
        x_best, y_best = (axis.positions[best] for axis in axes)
        self.best_ = mark_best(
            ax, x_best, y_best, markersize=12, markeredgewidth=2, color="C3"
        )
        self._bar(ax, self.scatter_)
        ax.grid(alpha=0.3)
        ax.set_axisbelow(True)

    def _bar(self, ax: Any, mappable: Any) -> None:
        self.colorbar_ = ax.figure.colorbar(mappable, ax=ax, label=f"mean {self.metric}")


class _Axis:
    """The values of a parameter on an axis: numbers to scale, others side by side.

    Attributes
    ----------
    is_number : bool
        Whether all values are numbers.
    positions : ndarray of shape (n_points,)
        Coordinates of the points.
    ranks : ndarray of shape (n_points,)
        Positions of the points' values in ``labels``.
    labels : list of str
        The distinct values: numbers in ascending order, others in order of appearance.
    """

    def __init__(self, values: ArrayLike) -> None:
        listed = list(np.asarray(values, dtype=object))
        self.is_number = all(
            isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
            for value in listed
        )
        if self.is_number:
            numbers = np.asarray(listed, dtype=np.float64)
            distinct, self.ranks = np.unique(numbers, return_inverse=True)
            self.positions = numbers
            self.labels = [f"{value:.4g}" for value in distinct]
            self._is_log = _suits_logarithm(distinct)
        else:
            names = [_named(value) for value in listed]
            self.ranks, distinct = pd.factorize(np.asarray(names, dtype=object))
            self.positions = self.ranks.astype(np.float64)
            self.labels = list(distinct)
            self._is_log = False

    def scale(self, ax: Any, name: str) -> None:
        """Set the scale and the ticks of the axis of Matplotlib with a name, "x" or "y"."""
        axis = getattr(ax, f"{name}axis")
        if not self.is_number:
            axis.set_ticks(range(len(self.labels)), self.labels)
        elif self._is_log:
            ax.set(**{f"{name}scale": "log"})
            distinct = np.unique(self.positions)
            logarithms = np.log(distinct)
            if np.diff(logarithms).min() >= _ROOM_OF_TICK * np.ptp(logarithms):
                axis.set_ticks(distinct, self.labels)
                axis.set_ticks([], minor=True)
            elif distinct[-1] < _ALWAYS_LOG * distinct[0]:
                log_ticks(axis)


def _suits_logarithm(numbers: np.ndarray) -> bool:
    """Whether an axis of distinct ascending numbers should be logarithmic."""
    low, high = numbers[0], numbers[-1]
    if low <= 0 or high < _MAYBE_LOG * low or not np.isfinite(high):
        return False
    is_long = bool(high >= _ALWAYS_LOG * low)
    return is_long or _unevenness(np.log(numbers)) <= _unevenness(numbers)


def _unevenness(numbers: np.ndarray) -> float:
    """Mean distance of ascending numbers from even steps, as a share of their range."""
    shares = (numbers - numbers[0]) / np.ptp(numbers)
    return float(np.abs(shares - np.linspace(0, 1, len(shares))).mean())


def _named(value: Any) -> str:
    """A short name for a value that is not a number."""
    text = str(value) if not hasattr(value, "get_params") else type(value).__name__
    return text if len(text) <= 24 else text[:21] + "..."


def _chosen_metric(results: dict[str, Any], metric: str | None, refit: Any) -> str:
    metrics = [key[len("mean_test_") :] for key in results if key.startswith("mean_test_")]
    if metric is None:
        metric = refit if isinstance(refit, str) and refit in metrics else metrics[0]
    if metric not in metrics:
        raise ValueError(
            f"metric={metric!r} was not measured; the search has {', '.join(metrics)}."
        )
    return metric


def _scoring_name(search: BaseEstimator) -> str:
    """The name of a single score."""
    scoring = getattr(search, "scoring", None)
    if isinstance(scoring, str):
        return scoring
    return getattr(scoring, "__name__", "score")  # one of make_ranking_scorer, a function


def _chosen_params(
    results: dict[str, Any], params: str | Sequence[str] | None
) -> list[str]:
    known = [key[len("param_") :] for key in results if key.startswith("param_")]
    if params is None:
        varied = [
            name for name in known if len({_key(v) for v in _column(results, name)}) > 1
        ]
        chosen = varied or known[:1]
        if not 1 <= len(chosen) <= 2:
            raise ValueError(
                f"The search varied {len(chosen)} parameters: {', '.join(chosen)}. Choose "
                "one or two with params."
            )
        return chosen
    chosen = [params] if isinstance(params, str) else list(params)
    if not 1 <= len(chosen) <= 2 or len(set(chosen)) < len(chosen):
        raise ValueError(f"params must be one or two different names; got {params!r}.")
    for name in chosen:
        if name not in known:
            raise ValueError(
                f"params: {name!r} was not searched; the search has {', '.join(known)}."
            )
    return chosen


def _column(results: dict[str, Any], name: str) -> list[Any]:
    """Values of a parameter; "not set" for candidates without it."""
    column = results[f"param_{name}"]
    missing = np.ma.getmaskarray(column)
    pairs = zip(np.ma.getdata(column), missing, strict=True)
    return ["not set" if is_missing else value for value, is_missing in pairs]


def _key(value: Any) -> Any:
    """A hashable key, the same for equal values."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return repr(value)
    return float(value)


def _points(results: dict[str, Any], metric: str, names: list[str]) -> pd.DataFrame:
    """One row a point: values of the parameters, and the best mean score for them."""
    frame = pd.DataFrame(
        {name: pd.Series(_column(results, name), dtype=object) for name in names}
    )
    frame["mean"] = results[f"mean_test_{metric}"]
    frame["std"] = results[f"std_test_{metric}"]
    frame["candidate"] = [repr(params) for params in results["params"]]
    frame = frame[np.isfinite(frame["mean"])]
    if frame.empty:
        raise ValueError("There is nothing to draw: no candidate has a score.")
    if "iter" in results:  # a halving search
        frame["iter"] = np.asarray(results["iter"])[frame.index]
        frame = frame.sort_values("iter", kind="stable")
        frame = frame.drop_duplicates("candidate", keep="last").sort_index()
    keys = pd.DataFrame({name: frame[name].map(_key) for name in names})
    best_first = frame.sort_values("mean", ascending=False, kind="stable").index
    kept = keys.loc[best_first].drop_duplicates().index
    return frame.loc[frame.index.isin(kept)]
