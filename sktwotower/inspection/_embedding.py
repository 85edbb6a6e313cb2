"""Item vectors in two dimensions."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Protocol, TypeGuard

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state

from sktwotower._data.entity_table import as_table
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.inspection._plotting import (
    axes_to_draw_on,
    check_matplotlib,
    check_recommender,
    refuse,
    set_title,
)
from sktwotower.metrics._sources import EvaluationSource, Model, Recommender, source_of
from sktwotower.utils._columns import as_pandas

# Of more distinct values, the most frequent have colours and the others are "other".
_MOST_COLOURS = 9
_COLOURS = [f"C{n}" for n in (0, 1, 2, 3, 4, 5, 6, 8, 9)]  # C7 is grey
# Arguments of Matplotlib's scatter that set the range of a colour scale.
_RANGE = {"vmin", "vmax", "norm"}
# Share of the numbers at each end of the colour scale that may be outliers.
_OUTLIERS = 0.02
_GREYS = {"other": "0.55", "missing": "0.8"}


class ItemEmbedder(Recommender, Protocol):
    """A fitted recommender with a vector for each item."""

    item_ids_: np.ndarray
    item_embeddings_: np.ndarray


class EmbeddingDisplay:
    """The item vectors in two dimensions, coloured by a feature.

    Use it to see whether the model places similar items together. The entry of
    ``popularity_prior`` is left out. Make one with :meth:`from_estimator`. The axes are the
    first two principal components; their labels give the share of the variance, and a small
    share means that the picture hides most of the structure.

    The colours of numbers reach from the smallest number to the largest one, except for
    outliers: if the numbers of the outer 2 % at one end are farther from the others than
    these from each other, such as one price of 10,000 among prices around 5, the scale ends
    before them. They have the colour of that end, and the colour bar has an arrow there.

    Parameters
    ----------
    points : array-like of shape (n_points, 2)
        Coordinates of the items.
    item_ids : array-like of shape (n_points,)
        Ids of the items.
    colors : array-like of shape (n_points,), default=None
        A value for each item: numbers get a colour bar, other values a legend. None: one
        colour for all items.
    color_name : str, default=None
        Name of the values, for the legend or the colour bar.
    explained_variance_ratio : array-like of shape (2,), default=None
        Share of the variance of each axis, for the labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the points.
    figure_ : matplotlib Figure
        The figure of these axes.
    scatters_ : dict of object to PathCollection
        The points of each value in the legend. Numbers, and items without colours, have the
        key ``None``.
    colorbar_ : matplotlib Colorbar or None
        The colour bar of numbers.

    See Also
    --------
    feature_importance : The effect of a feature on the ranking, as a number.

    Examples
    --------
    >>> from sktwotower import TwoTowerRecommender
    >>> from sktwotower.datasets import make_interactions
    >>> from sktwotower.inspection import EmbeddingDisplay
    >>> data = make_interactions(feature_share=1.0, random_state=0)
    >>> model = TwoTowerRecommender(item_table=data.item_table, random_state=0)
    >>> model = model.fit(data.interactions)
    >>> display = EmbeddingDisplay.from_estimator(model, color_by="item_cat_0")
    >>> display.points.shape == (len(model.item_ids_), 2)
    True
    """

    def __init__(
        self,
        points: ArrayLike,
        item_ids: ArrayLike,
        *,
        colors: ArrayLike | None = None,
        color_name: str | None = None,
        explained_variance_ratio: ArrayLike | None = None,
    ) -> None:
        self.points = points
        self.item_ids = item_ids
        self.colors = colors
        self.color_name = color_name
        self.explained_variance_ratio = explained_variance_ratio

    @classmethod
    def from_estimator(
        cls,
        model: Model,
        *,
        color_by: Any = None,
        max_items: int = 2000,
        random_state: int | np.random.RandomState | None = 0,
        ax: Any = None,
        **scatter_kwargs: Any,
    ) -> EmbeddingDisplay:
        """Project the item vectors of a fitted model and draw them.

        Parameters
        ----------
        model : TwoTowerRecommender
            A fitted model, a Pipeline that ends in one, or a fitted search over either.
            Other estimators need ``item_ids_`` and ``item_embeddings_``.
        color_by : str or array-like of shape (n_items,), default=None
            Name of a feature of the items or of any column of ``item_table``; or a value
            for each item, in the order of ``item_ids_``, or as a Series indexed by item
            id. Of several values in one cell, joined by "|" or in a list, the first
            counts. If there are more than 9 distinct values, the 8 most frequent have
            colours of their own.
        max_items : int, default=2000
            Largest number of items to draw. The principal components are computed from
            all items.
        random_state : int, RandomState instance or None, default=0
            Draws the items if there are more than ``max_items``.
        ax : matplotlib Axes, default=None
            Axes to draw on; None: axes of a new figure.
        **scatter_kwargs
            As in :meth:`plot`.

        Returns
        -------
        display : EmbeddingDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the model has no item vectors.
        NotFittedError
            If the model is not fitted.
        ValueError
            If there is no such feature, the number of values is not the number of items,
            there are fewer than two items or dimensions, or ``max_items`` is below 1.
        ImportError
            If Matplotlib is not installed.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        recommender = check_recommender(model, caller)
        if not _has_item_vectors(recommender):
            raise refuse(recommender, caller, "a fitted recommender with item_embeddings_")
        if not isinstance(max_items, Integral) or max_items is True or max_items < 1:
            raise ValueError(
                f"max_items must be an integer of at least 1; got {max_items!r}."
            )
        colors, name = _colors_of(recommender, color_by)
        # The vectors of items outside the catalogue may not have been trained.
        rows = np.arange(len(recommender.item_ids_))
        vectors: Any = recommender.item_embeddings_
        source = source_of(recommender)
        if isinstance(source, EvaluationSource):
            rows = source.catalogue - 1
            vectors = source.item_vectors(source.catalogue)
        vectors = np.asarray(vectors, dtype=np.float64)
        if min(vectors.shape) < 2:
            raise ValueError(
                f"A plane needs two items and two dimensions; there are {vectors.shape[0]} "
                f"and {vectors.shape[1]}."
            )
        pca = PCA(n_components=2, svd_solver="full")
        points = pca.fit_transform(vectors)
        drawn = np.arange(len(rows))
        if len(rows) > max_items:
            chosen = check_random_state(_generator_of(random_state)).permutation(len(rows))
            drawn = np.sort(chosen[:max_items])
        display = cls(
            points[drawn],
            np.asarray(recommender.item_ids_)[rows[drawn]],
            colors=None if colors is None else colors.iloc[rows[drawn]].to_numpy(),
            color_name=name,
            explained_variance_ratio=pca.explained_variance_ratio_,
        )
        return display.plot(ax, **scatter_kwargs)

    def plot(self, ax: Any = None, **scatter_kwargs: Any) -> EmbeddingDisplay:
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: axes of a new figure. A title that they have
            is kept.
        **scatter_kwargs
            Arguments of Matplotlib's ``scatter``. ``cmap``, ``vmin``, ``vmax`` and ``norm``
            are for numbers; one of the last three replaces the range of the colours.

        Returns
        -------
        display : EmbeddingDisplay
            The display itself.
        """
        points = np.asarray(self.points)
        style: dict[str, Any] = {"s": 14, "alpha": 0.75, "linewidths": 0}
        if "linewidth" in scatter_kwargs:
            del style["linewidths"]
        style |= scatter_kwargs
        self.scatters_: dict[Any, Any] = {}
        self.colorbar_: Any = None
        with axes_to_draw_on(ax, f"{type(self).__name__}.plot") as ax:
            if self.colors is None:
                self.scatters_[None] = ax.scatter(*points.T, **_without_scale(style))
            elif _is_number(self.colors):
                self._plot_numbers(ax, points, style)
            else:
                self._plot_groups(ax, points, _without_scale(style))
            shares = self.explained_variance_ratio
            for n, set_label in enumerate((ax.set_xlabel, ax.set_ylabel)):
                share = "" if shares is None else f" ({np.asarray(shares)[n]:.1%})"
                set_label(f"principal component {n + 1}{share}")
            ax.set_aspect("equal", adjustable="datalim")
            ax.set(xticks=[], yticks=[])
            by = "in two dimensions" if self.color_name is None else f"by {self.color_name}"
            set_title(ax, f"Item vectors {by}")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_numbers(self, ax: Any, points: np.ndarray, style: dict[str, Any]) -> None:
        colors = np.asarray(self.colors, dtype=np.float64)
        known = np.isfinite(colors)
        if not known.all():
            grey = {"color": _GREYS["missing"], "label": "missing"}
            grey = {**_without_scale(style), **grey}
            self.scatters_["missing"] = ax.scatter(*points[~known].T, **grey)
            ax.legend(loc="best", framealpha=0.9)
        if known.any():
            extend = "neither"
            if not style.keys() & _RANGE:
                vmin, vmax, extend = _color_range(colors[known])
                style = {**style, "vmin": vmin, "vmax": vmax}
            scatter = ax.scatter(*points[known].T, c=colors[known], **style)
            self.scatters_[None] = scatter
            self.colorbar_ = ax.figure.colorbar(
                scatter, ax=ax, label=self.color_name or "", extend=extend
            )
            self.colorbar_.solids.set_alpha(1)

    def _plot_groups(self, ax: Any, points: np.ndarray, style: dict[str, Any]) -> None:
        groups = _grouped(pd.Series(np.asarray(self.colors, dtype=object)))
        counts = groups.value_counts()
        order = [g for g in counts.index if g not in _GREYS]
        rest = [g for g in ("missing", "other") if g in counts.index]
        colors = _GREYS | dict(zip(order, _COLOURS, strict=False))
        for group in [*rest, *order]:  # grey points lie below
            here = (groups == group).to_numpy()
            look = {"color": colors[group], "label": str(group), **style}
            self.scatters_[group] = ax.scatter(*points[here].T, **look)
        handles = [self.scatters_[group] for group in [*order, *reversed(rest)]]
        ax.legend(
            handles=handles,
            title=self.color_name,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            frameon=False,
            markerscale=1.6,
        )


def _without_scale(style: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``scatter`` for points that do not have the colours of numbers."""
    return {key: style[key] for key in style if key not in ("cmap", *_RANGE)}


def _color_range(values: np.ndarray) -> tuple[float, float, str]:
    """Ends of a colour scale, and at which of them outliers are left out."""
    vmin, vmax = float(values.min()), float(values.max())
    # Values from the inside, so that an outlier among few values is left out, too.
    low = float(np.quantile(values, _OUTLIERS, method="higher"))
    high = float(np.quantile(values, 1 - _OUTLIERS, method="lower"))
    if high <= low:
        return vmin, vmax, "neither"
    below, above = low - vmin > high - low, vmax - high > high - low
    extend = ("both" if above else "min") if below else ("max" if above else "neither")
    return low if below else vmin, high if above else vmax, extend


def _has_item_vectors(recommender: Recommender) -> TypeGuard[ItemEmbedder]:
    return hasattr(recommender, "item_embeddings_")


def _generator_of(random_state: Any) -> Any:
    """A new generator for None, in place of NumPy's global one."""
    if random_state is None:
        return np.random.RandomState(np.random.MT19937())
    return random_state


def _colors_of(
    recommender: ItemEmbedder, color_by: Any
) -> tuple[pd.Series | None, str | None]:
    """A value for each of ``item_ids_``, and the name of the values."""
    if color_by is None:
        return None, None
    ids = recommender.item_ids_
    if isinstance(color_by, str):
        return _feature(recommender, color_by), color_by
    if np.isscalar(color_by):
        raise TypeError(
            "color_by must be the name of a feature or one value an item; got "
            f"{color_by!r}."
        )
    if isinstance(color_by, pd.Series):
        if color_by.index.has_duplicates:
            raise ValueError("color_by has an index that repeats item ids.")
        values = color_by.reindex(ids)
        if values.isna().all():
            raise ValueError(
                "color_by has none of the item ids in its index; give it one, or pass an "
                "array in the order of item_ids_."
            )
        name = None if color_by.name is None else str(color_by.name)
        return values.reset_index(drop=True), name
    values = pd.Series(list(color_by))
    if len(values) != len(ids):
        raise ValueError(
            f"color_by has {len(values)} values for {len(ids)} items (item_ids_)."
        )
    return values, None


def _feature(recommender: ItemEmbedder, name: str) -> pd.Series:
    """A feature of the model, or another column of its item table."""
    known: list[Any] = []
    if isinstance(recommender, TwoTowerRecommender):
        entities = recommender._state.item.entities
        known += entities.columns
        raw, positions = entities.raw_features, entities.raw_positions
        if raw is not None and positions is not None and name in known:
            column = raw if isinstance(raw, pd.Series) else raw[name]
            values = column.reset_index(drop=True).reindex(positions[1:])
            return values.reset_index(drop=True)
    table = as_table(
        getattr(recommender, "item_table", None),
        parameter="item_table",
        id_column=getattr(recommender, "item_column", 1),
        names=list(getattr(recommender, "feature_names_in_", [])) or None,
    )
    if table is not None:
        frame = as_pandas(table.frame)
        known += [column for column in frame.columns if column not in known]
        if name in frame.columns:
            column = frame[name].set_axis(pd.Index(table.ids))
            return column.reindex(recommender.item_ids_).reset_index(drop=True)
    have = f"they are {known}" if known else "there are none: pass an array instead"
    raise ValueError(f"color_by={name!r} is not a feature of the items; {have}.")


def _is_number(colors: Any) -> bool:
    dtype = pd.Series(colors).infer_objects().dtype
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def _grouped(values: pd.Series) -> pd.Series:
    """One value an item; rare values become "other"."""

    def first(value: Any) -> Any:
        if isinstance(value, str):
            value = value.split("|")[0] or "missing"
        elif isinstance(value, (list, tuple, np.ndarray)):
            value = first(value[0]) if len(value) else "missing"
        elif isinstance(value, (set, frozenset)):
            value = min(map(str, value), default="missing")
        elif pd.isna(value):
            value = "missing"
        return value

    groups = values.map(first)
    counts = groups[groups != "missing"].value_counts()
    if len(counts) > _MOST_COLOURS:
        few = {*counts.index[: _MOST_COLOURS - 1], "missing"}
        groups = groups.where(groups.isin(few), "other")
    return groups
