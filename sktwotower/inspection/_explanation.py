"""What each field adds to the score of a user and an item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sktwotower.inspection._plotting import (
    axes_to_draw_on,
    check_count,
    check_matplotlib,
    check_two_towers,
    set_title,
)
from sktwotower.metrics._sources import Model

# Sides in the order in which they are drawn, with the titles of the legend.
SIDE_TITLES = {
    "user": "fields of the user",
    "item": "fields of the item",
    "history": "items of the history",
}


class ExplanationDisplay:
    """What each field adds to the score of a user and an item.

    Use it to see why an item is recommended. Make one with :meth:`from_estimator`. The bars
    are the parts of :meth:`~sktwotower.TwoTowerRecommender.explain`, which has the
    formulas. The parts of the user add up to the score, and so do those of the item: they
    divide the same score in two ways. The items of the history divide the user's part
    "history" once more.

    Parameters
    ----------
    parts : DataFrame with columns side, field, contribution
        Parts of the score of one pair.
    title : str, default=None
        First line of the title of the axes; the second one is the score.

    Attributes
    ----------
    score_ : float
        The score, which is the sum of the user's parts.
    ax_ : matplotlib Axes
        The axes with the bars.
    figure_ : matplotlib Figure
        The figure of these axes.
    artists_ : dict of str to BarContainer
        The bars of each side.

    See Also
    --------
    feature_importance : What a feature is worth for all users.
    AttentionDisplay : What a transformer reads of a history.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktwotower import TwoTowerRecommender
    >>> from sktwotower.inspection import ExplanationDisplay
    >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "rum"], ["bob", "gin"]]
    >>> drinks = pd.DataFrame(
    ...     {"item": ["tea", "milk", "rum", "gin"], "kind": ["hot", "cold"] * 2}
    ... )
    >>> model = TwoTowerRecommender(item_table=drinks, random_state=0).fit(X)
    >>> display = ExplanationDisplay.from_estimator(model, "ann", "tea")
    >>> display.ax_.get_title()
    'User ann, item tea\\nscore 0.98'
    """

    def __init__(self, parts: pd.DataFrame, *, title: str | None = None) -> None:
        self.parts = parts
        self.title = title

    @classmethod
    def from_estimator(
        cls,
        model: Model,
        user_id: Any,
        item_id: Any,
        *,
        history: Any = None,
        labels: Mapping[Any, str] | pd.Series | None = None,
        n_parts: int = 10,
        ax: Any = None,
    ) -> ExplanationDisplay:
        """Draw the parts of the score of a user and an item.

        Parameters
        ----------
        model : TwoTowerRecommender
            A fitted model, a Pipeline that ends in one, or a fitted search over either.
        user_id, item_id : str or int
            The user and the item, known or new.
        history : frame, 2-D array, dict or Series, default=None
            Further interactions of the user, as in
            :meth:`~sktwotower.TwoTowerRecommender.recommend`.
        labels : dict or Series, default=None
            Names of items by id; ids without one stay as they are.
        n_parts, ax
            As in :meth:`plot`.

        Returns
        -------
        display : ExplanationDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``model`` neither is nor ends in a TwoTowerRecommender, or ``user_id`` or
            ``item_id`` is no single id.
        NotFittedError
            If the model is not fitted.
        ValueError
            If ``n_parts`` is below 1.
        ImportError
            If Matplotlib is not installed.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        check_count("n_parts", n_parts)
        last = check_two_towers(model, caller)
        for name, value in (("user_id", user_id), ("item_id", item_id)):
            if np.ndim(value):
                got = type(value).__name__
                raise TypeError(
                    f"{caller} draws one pair: {name} must be an id; got {got}."
                )
        parts = last.explain([user_id], [item_id], history=history)
        names = {} if labels is None else dict(labels)
        is_item = parts["side"] == "history"
        parts = parts[["side", "field", "contribution"]].assign(
            field=parts["field"].where(
                ~is_item, parts["field"].map(lambda item: names.get(item, item))
            )
        )
        item = names.get(item_id, item_id)
        display = cls(parts, title=f"User {user_id}, item {item}")
        return display.plot(ax, n_parts=n_parts)

    def plot(self, ax: Any = None, *, n_parts: int = 10) -> ExplanationDisplay:
        """Draw the parts.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: axes of a new figure. A title that they have
            is kept.
        n_parts : int, default=10
            How many parts of each side are drawn, at most: those of the largest size. The
            others are added up.

        Returns
        -------
        display : ExplanationDisplay
            The display itself.
        """
        check_count("n_parts", n_parts)
        sides, sizes = self.parts["side"], self.parts["contribution"]
        self.score_ = float(sizes[sides == "user"].sum())
        self.artists_: dict[str, Any] = {}
        labels: list[str] = []
        with axes_to_draw_on(ax, f"{type(self).__name__}.plot") as ax:
            places = []
            start = 0.0
            for n, (side, title) in enumerate(SIDE_TITLES.items()):
                names, values = _largest(self.parts[sides == side], n_parts)
                if not names:
                    continue
                rows = start + np.arange(len(names))
                self.artists_[side] = ax.barh(rows, values, color=f"C{n}", label=title)
                labels += names
                places.append(rows)
                start = rows[-1] + 1.5
            ax.axvline(0.0, color="0.4", linewidth=1)
            ax.set_yticks(np.concatenate(places), labels)
            ax.set_ylim(start - 0.75, -0.75)  # the first is the highest
            ax.set(xlabel="part of the score", ylabel="field or item, the largest first")
            score = f"score {self.score_:.2f}"
            named = self.title is not None
            set_title(ax, f"{self.title}\n{score}" if named else f"Parts of the {score}")
            ax.legend()
            ax.grid(alpha=0.3, axis="x")
            ax.set_axisbelow(True)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _largest(parts: pd.DataFrame, n_parts: int) -> tuple[list[str], list[float]]:
    """Names and values of the largest parts, largest first, and the sum of the others."""
    order = parts["contribution"].abs().sort_values(ascending=False, kind="stable").index
    parts = parts.loc[order]
    names = [str(name) for name in parts["field"][:n_parts]]
    values = parts["contribution"][:n_parts].tolist()
    if n_others := len(parts) - len(names):
        names.append(f"{n_others} others" if n_others > 1 else "1 other")
        values.append(float(parts["contribution"][n_parts:].sum()))
    return names, values
