"""What is recommended against what is popular."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower._data.interactions import Interactions
from sktwotower.inspection._plotting import (
    axes_to_draw_on,
    check_matplotlib,
    check_recommender,
    named_models,
    percent_ticks,
)
from sktwotower.inspection._reading import read_positives
from sktwotower.metrics._rankers import RelevantPairs, make_ranker
from sktwotower.metrics._sources import Model, Source, last_estimator

KINDS = ("curve", "bar")


class PopularityBiasDisplay:
    r"""How much of what is recommended, and of what was consumed, is popular.

    Use it to see whether a model recommends the popular items yet more than people take
    them, or reaches further. Make one with :meth:`from_estimator` or
    :meth:`from_estimators`.

    The items are sorted by how many rows they have, the most popular first. The curve of
    consumption shows which share of the rows the first :math:`x` of the items have, that
    of a model which share of its recommendations they are. A curve above that of
    consumption favours popular items; the diagonal takes all items alike. Items with
    equally many rows share what they have together, so that their order is of no effect.

    Parameters
    ----------
    consumed : array-like of shape (n_items,)
        Share of the rows of each item, the most popular first.
    recommended : dict of str to array-like of shape (n_items,)
        Share of the recommendations of each item, in the same order, by the name of the
        model.
    n_recommendations : int, default=None
        Length of the lists, for the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        With the curves or bars.
    figure_ : matplotlib Figure
        What it is in.
    artists_ : dict of str to Line2D or BarContainer
        What was drawn of each model, and of ``"consumed"``.

    See Also
    --------
    RankingCurveDisplay : How well is recommended.
    sktwotower.metrics.catalogue_coverage : How many items are recommended at all.

    References
    ----------
    H. Abdollahpouri, R. Burke, B. Mobasher (2019). The unfairness of popularity bias in
    recommendation. RMSE workshop at RecSys 2019.

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
        """Draw one model.

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
            ``n_recommendations``, ``exclude_seen``, ``kind`` and ``n_groups`` of
            :meth:`from_estimators`.

        Returns
        -------
        display : PopularityBiasDisplay
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
        n_recommendations: int = 10,
        exclude_seen: bool = True,
        kind: str = "curve",
        n_groups: int = 10,
        ax: Any = None,
    ) -> PopularityBiasDisplay:
        """Draw several models.

        Parameters
        ----------
        models : dict of str to estimator, or list of estimators
            Fitted recommenders by name; those of a list are called after their classes.
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions, best those of training: they say what is popular, and each of
            their users is recommended to.
        y : array-like of shape (n_samples,), default=None
            Rows with y > 0 count; None: all.
        n_recommendations : int, default=10
            Items for each user.
        exclude_seen : bool, default=True
            Do not recommend what a user had in training. It takes away popular items
            first, since these are what users had.
        kind, n_groups
            As in :meth:`plot`.
        ax : matplotlib Axes, default=None
            Where to draw; None: in a new figure.

        Returns
        -------
        display : PopularityBiasDisplay
            Drawn.

        Raises
        ------
        TypeError
            If a model does not recommend.
        NotFittedError
            If one is not fitted.
        ValueError
            If no row counts, nothing is recommended, ``n_recommendations`` is below 1, or
            the kind is unknown.
        ImportError
            Without Matplotlib.
        """
        caller = f"{cls.__name__}.from_estimators"
        check_matplotlib(caller)
        _check_count("n_recommendations", n_recommendations)
        _check_kind(kind, n_groups)
        named = named_models(models, caller)
        for model in named.values():  # before the first one takes its time
            check_recommender(model, caller)
        lists, known = {}, []
        for name, model in named.items():
            source, positives = read_positives(model, X, y, caller=caller)
            lists[name], candidates = _recommended(
                source, positives, int(n_recommendations), exclude_seen
            )
            if not len(lists[name]):
                raise ValueError(f"{name} recommends nothing to the users of X.")
            known += [positives.items, candidates]
        index = pd.Index(pd.unique(np.concatenate([_objects(ids) for ids in known])))
        counts = np.bincount(index.get_indexer(_objects(positives.items)), None, len(index))
        values, group = np.unique(-counts, return_inverse=True)
        sizes = np.bincount(group)
        recommended = {}
        for name, ids in lists.items():
            of_group = np.bincount(
                group[index.get_indexer(_objects(ids))], None, len(sizes)
            )
            recommended[name] = np.repeat(of_group / sizes / len(ids), sizes)
        consumed = np.repeat(-values / counts.sum(), sizes)
        display = cls(consumed, recommended, n_recommendations=int(n_recommendations))
        return display.plot(ax, kind=kind, n_groups=n_groups)

    def plot(
        self, ax: Any = None, *, kind: str = "curve", n_groups: int = 10
    ) -> PopularityBiasDisplay:
        """Draw the shares.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None: in a new figure.
        kind : {"curve", "bar"}, default="curve"
            The share of the most popular items, added up; or the share of each group of
            equally many items.
        n_groups : int, default=10
            How many groups the bars are of. 10: tenths of the items.

        Returns
        -------
        display : PopularityBiasDisplay
            Itself.
        """
        _check_kind(kind, n_groups)
        length = "" if self.n_recommendations is None else f", top {self.n_recommendations}"
        shares = {"consumed": self.consumed, **self.recommended}
        labels = {name: f"{name}{length}" for name in self.recommended}
        labels["consumed"] = "consumed"
        self.artists_ = {}
        with axes_to_draw_on(ax, f"{type(self).__name__}.plot") as ax:
            colors = {"consumed": "0.4"}
            colors |= {name: f"C{n}" for n, name in enumerate(self.recommended)}
            for n, (name, share) in enumerate(shares.items()):
                cumulated = np.concatenate([[0.0], np.cumsum(np.asarray(share))])
                look = {"color": colors[name], "label": labels[name]}
                items = np.linspace(0, 1, len(cumulated))
                if kind == "curve":
                    dashed = "--" if name == "consumed" else "-"
                    (line,) = ax.plot(items, cumulated, linestyle=dashed, **look)
                    self.artists_[name] = line
                else:
                    edges = np.interp(np.linspace(0, 1, n_groups + 1), items, cumulated)
                    width = 0.8 / len(shares)
                    places = (
                        np.arange(1, n_groups + 1) + (n - (len(shares) - 1) / 2) * width
                    )
                    self.artists_[name] = ax.bar(places, np.diff(edges), width, **look)
            if kind == "curve":
                ax.plot([0, 1], [0, 1], color="0.8", linewidth=1, zorder=0)
                ax.set(xlim=(0, 1), ylim=(0, 1.02))
                ax.set(
                    xlabel="share of the items, the most popular first",
                    ylabel="share of rows or recommendations",
                )
                percent_ticks(ax.xaxis)
                ax.legend(loc="lower right")
            else:
                ax.set_xticks(np.arange(1, n_groups + 1))
                groups = f"{n_groups} equal groups of items (1: most popular)"
                ax.set(xlabel=groups, ylabel="share of rows or recommendations")
                ax.legend(loc="upper right")
            percent_ticks(ax.yaxis)
            ax.grid(alpha=0.3, axis="both" if kind == "curve" else "y")
            ax.set_axisbelow(True)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")


def _check_kind(kind: str, n_groups: int) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; it is 'curve' or 'bar'.")
    _check_count("n_groups", n_groups)


def _objects(ids: Any) -> np.ndarray:
    """Ids as they are, so that those of several models can stand side by side."""
    return pd.Series(ids).to_numpy(dtype=object)


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
    ranked = ranker.rank(np.arange(len(queries)), k)[0].ranked
    candidates = ranker.item_ids
    return candidates[ranked[ranked >= 0]], candidates
