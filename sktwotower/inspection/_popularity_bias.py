"""The popularity of recommendations against the popularity of what users consume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower._data.interactions import Interactions
from sktwotower.inspection._plotting import (
    axes_to_draw_on,
    check_count,
    check_matplotlib,
    named_model,
    named_models,
    percent_ticks,
    set_title,
)
from sktwotower.inspection._reading import read_positives
from sktwotower.metrics._rankers import make_ranker
from sktwotower.metrics._relevant_pairs import RelevantPairs
from sktwotower.metrics._sources import Model, Source

KINDS = ("curve", "bar")


class PopularityBiasDisplay:
    r"""Share of popular items among recommendations and among consumed items.

    Use it to see whether a model recommends popular items more often than users consume
    them, as in [1]_. Make one with :meth:`from_estimator` or :meth:`from_estimators`.

    Items are sorted by their number of rows, the most popular first. The dashed curve
    shows the share of the rows that belong to the first :math:`x` of the items, and the
    curve of a model the share of its recommendations. A curve above the dashed one favours
    popular items; the diagonal treats all items alike. Items with equal numbers of rows
    share their rows and recommendations evenly, so their order has no effect.

    Parameters
    ----------
    consumed : array-like of shape (n_items,)
        Share of the rows that each item has, the most popular item first.
    recommended : dict of str to array-like of shape (n_items,)
        By the name of each model, the share of its recommendations that each item has, in
        the same order.
    n_recommendations : int, default=None
        Length of the lists, for the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the curves or bars.
    figure_ : matplotlib Figure
        The figure of these axes.
    artists_ : dict of str to Line2D or BarContainer
        The curve or bars of each model, and of ``"consumed"``.

    See Also
    --------
    RankingCurveDisplay : The quality of the recommendations.
    sktwotower.metrics.catalogue_coverage : The share of items that are recommended.

    References
    ----------
    .. [1] Abdollahpouri, Burke & Mobasher, "The Unfairness of Popularity Bias in
       Recommendation", RMSE workshop at RecSys 2019.

    Examples
    --------
    >>> from sktwotower.baselines import PopularRecommender
    >>> from sktwotower.datasets import make_interactions
    >>> from sktwotower.inspection import PopularityBiasDisplay
    >>> X = make_interactions(random_state=0).interactions
    >>> model = PopularRecommender().fit(X)
    >>> display = PopularityBiasDisplay.from_estimator(model, X)
    >>> list(display.artists_)
    ['consumed', 'PopularRecommender']
    """

    def __init__(
        self,
        consumed: ArrayLike,
        recommended: Mapping[str, ArrayLike],
        *,
        n_recommendations: int | None = None,
    ) -> None:
        self.consumed = consumed
        self.recommended = recommended
        self.n_recommendations = n_recommendations

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
    ) -> PopularityBiasDisplay:
        """Draw the shares of one model.

        Parameters
        ----------
        model : estimator
            A fitted estimator with ``recommend``, a Pipeline that ends in one, or a fitted
            search over either.
        name : str, default=None
            Name in the legend; None: the name of the class.
        X, y, ax, **options
            As in :meth:`from_estimators`.

        Returns
        -------
        display : PopularityBiasDisplay
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
        n_recommendations: int = 10,
        exclude_seen: bool = True,
        kind: str = "curve",
        n_groups: int = 10,
        ax: Any = None,
    ) -> PopularityBiasDisplay:
        """Draw the shares of several models.

        Parameters
        ----------
        models : dict of str to estimator, or list of estimators
            Models as in :meth:`from_estimator`, by name. The models of a list have the
            names of their classes.
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions; use the training data. Their items give the popularity, and each
            of their users gets recommendations.
        y : array-like of shape (n_samples,), default=None
            Rows with y > 0 count; None: all rows count.
        n_recommendations : int, default=10
            Number of items for each user.
        exclude_seen : bool, default=True
            Do not recommend items that a user has in the training data. This removes
            popular items most of all, since most users have them.
        kind, n_groups, ax
            As in :meth:`plot`.

        Returns
        -------
        display : PopularityBiasDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If a model has no ``recommend``.
        NotFittedError
            If a model is not fitted.
        ValueError
            If no row counts, nothing is recommended, ``n_recommendations`` or
            ``n_groups`` is below 1, or ``kind`` is unknown.
        ImportError
            If Matplotlib is not installed.
        """
        caller = f"{cls.__name__}.from_estimators"
        check_matplotlib(caller)
        check_count("n_recommendations", n_recommendations)
        _check_kind(kind, n_groups)
        named = named_models(models, caller)
        lists, known = {}, []
        for name, model in named.items():
            source, positives = read_positives(model, X, y, caller=caller)
            lists[name], candidates = _recommended(
                source, positives, int(n_recommendations), exclude_seen
            )
            if not len(lists[name]):
                raise ValueError(f"{name} recommends nothing to the users of X.")
            known += [positives.items, candidates]
        consumed, recommended = _shares(positives.items, lists, known)
        display = cls(consumed, recommended, n_recommendations=int(n_recommendations))
        return display.plot(ax, kind=kind, n_groups=n_groups)

    def plot(
        self, ax: Any = None, *, kind: str = "curve", n_groups: int = 10
    ) -> PopularityBiasDisplay:
        """Draw the shares.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: axes of a new figure. A title that they have
            is kept.
        kind : {"curve", "bar"}, default="curve"
            "curve": the cumulated share of the most popular items. "bar": the share of
            each of `n_groups` groups with equal numbers of items.
        n_groups : int, default=10
            Number of groups of "bar"; 10 groups are tenths of the items.

        Returns
        -------
        display : PopularityBiasDisplay
            The display itself.
        """
        _check_kind(kind, n_groups)
        self.artists_: dict[str, Any] = {}
        with axes_to_draw_on(ax, f"{type(self).__name__}.plot") as ax:
            if kind == "curve":
                self._plot_curves(ax)
            else:
                self._plot_bars(ax, n_groups)
            percent_ticks(ax.yaxis)
            ax.set(ylabel="share of rows or recommendations")
            set_title(ax, "Popular items, consumed and recommended")
            ax.set_axisbelow(True)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _cumulated(self) -> Iterator[tuple[str, np.ndarray, dict[str, str]]]:
        """Name, cumulated share from 0 to 1, and style of each curve."""
        length = "" if self.n_recommendations is None else f", top {self.n_recommendations}"
        styles = {"consumed": {"color": "0.4", "label": "consumed"}}
        for n, name in enumerate(self.recommended):
            styles[name] = {"color": f"C{n}", "label": f"{name}{length}"}
        for name, shares in {"consumed": self.consumed, **self.recommended}.items():
            yield name, np.append(0.0, np.cumsum(np.asarray(shares))), styles[name]

    def _plot_curves(self, ax: Any) -> None:
        for name, cumulated, style in self._cumulated():
            items = np.linspace(0, 1, len(cumulated))
            dashes = "--" if name == "consumed" else "-"
            (self.artists_[name],) = ax.plot(items, cumulated, linestyle=dashes, **style)
        ax.plot([0, 1], [0, 1], color="0.8", linewidth=1, zorder=0)
        ax.set(xlim=(0, 1), ylim=(0, 1.02))
        ax.set(xlabel="share of the items, the most popular first")
        percent_ticks(ax.xaxis)
        ax.legend(loc="lower right")
        ax.grid(alpha=0.3)

    def _plot_bars(self, ax: Any, n_groups: int) -> None:
        groups = np.arange(1, n_groups + 1)
        n_series = 1 + len(self.recommended)
        width = 0.8 / n_series
        for n, (name, cumulated, style) in enumerate(self._cumulated()):
            items = np.linspace(0, 1, len(cumulated))
            edges = np.interp(np.linspace(0, 1, n_groups + 1), items, cumulated)
            centers = groups + (n - (n_series - 1) / 2) * width
            self.artists_[name] = ax.bar(centers, np.diff(edges), width, **style)
        ax.set_xticks(groups)
        ax.set(xlabel=f"{n_groups} equal groups of items (1: most popular)")
        ax.legend(loc="upper right")
        ax.grid(alpha=0.3, axis="y")


def _check_kind(kind: str, n_groups: int) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; it is 'curve' or 'bar'.")
    check_count("n_groups", n_groups)


def _objects(ids: Any) -> np.ndarray:
    """Ids as objects, so that ids of several models can be concatenated."""
    return pd.Series(ids).to_numpy(dtype=object)


def _shares(
    consumed: np.ndarray, recommended: dict[str, np.ndarray], known: list[np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Each item's share of the rows and of each model's recommendations.

    Parameters
    ----------
    consumed : ndarray of shape (n_rows,)
        Item ids of the rows.
    recommended : dict of str to ndarray
        Ids of all recommendations of each model.
    known : list of ndarray
        Together they hold the ids of all items.
    """
    index = pd.Index(pd.unique(np.concatenate([_objects(ids) for ids in known])))
    counts = np.bincount(index.get_indexer(_objects(consumed)), None, len(index))
    # Items with equal counts are a group, whose members have equal shares.
    values, group = np.unique(-counts, return_inverse=True)
    sizes = np.bincount(group)
    shares = {}
    for name, ids in recommended.items():
        groups = group[index.get_indexer(_objects(ids))]
        per_item = np.bincount(groups, None, len(sizes)) / sizes / len(ids)
        shares[name] = np.repeat(per_item, sizes)
    return np.repeat(-values / counts.sum(), sizes), shares


def _recommended(
    source: Source,
    positives: Interactions,
    k: int,
    exclude_seen: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all recommendations to the users of the rows, and ids of the candidates."""
    repeated = pd.Series(positives.users).duplicated().to_numpy()
    queries = positives.take(np.flatnonzero(~repeated))
    ranker = make_ranker(source, queries, RelevantPairs.none(), exclude_seen=exclude_seen)
    ranked = ranker.rank(np.arange(len(queries)), k).ranked
    candidates = ranker.item_ids
    return candidates[ranked[ranked >= 0]], candidates
