"""Which items of a user's history a transformer attends to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from sktwotower._nn.segments import Sequences
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._training.state import ModelState
from sktwotower.inspection._plotting import (
    axes_to_draw_on,
    check_count,
    check_matplotlib,
    check_two_towers,
    percent_ticks,
    set_title,
)
from sktwotower.metrics._sources import Model

KINDS = ("bar", "heads")


class AttentionDisplay:
    r"""What the last place of a user's history attends to.

    Use it to see which of the past items the vector of a user listens to, in a model with
    a :class:`~sktwotower.history.TransformerHistory`. Make one with :meth:`from_estimator`.

    The weight of an item is its attention rollout [1]_. With the weights :math:`A_l` of
    layer :math:`l`, averaged over its heads, and the identity :math:`I` for what a layer
    passes on,

    .. math:: R = \tfrac{1}{2} (A_L + I) \cdots \tfrac{1}{2} (A_1 + I),

    of which the last row is drawn. Its weights add up to 1. The learned vector at the start
    has one, too. Since each layer passes on half, the last item always has at least
    :math:`2^{-L}`. Attention says what a vector was mixed from, and not how much the
    recommendations would change without it.

    Parameters
    ----------
    items : sequence of n_items labels
        The items of the history, the latest last.
    attention : array-like of shape (n_layers, n_heads, n_items + 1, n_items + 1)
        What each place attends to, in each head. The first place is the start.

    Attributes
    ----------
    weights_ : ndarray of shape (n_items + 1,)
        Attention rollout of the last place; the first weight is that of the start.
    ax_ : matplotlib Axes
        The axes with the bars or the image.
    figure_ : matplotlib Figure
        The figure of these axes.
    artist_ : BarContainer or AxesImage
        The bars, or the image.

    See Also
    --------
    feature_importance : What the history is worth as a whole.

    References
    ----------
    .. [1] Abnar & Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.

    Examples
    --------
    >>> from sktwotower import TwoTowerRecommender
    >>> from sktwotower.history import TransformerHistory
    >>> from sktwotower.inspection import AttentionDisplay
    >>> X = [["ann", "tea", 1], ["ann", "milk", 2], ["bob", "tea", 3], ["bob", "rum", 4]]
    >>> model = TwoTowerRecommender(
    ...     timestamp_column=2, history=TransformerHistory(), random_state=0
    ... ).fit(X)
    >>> display = AttentionDisplay.from_estimator(model, "ann")
    >>> display.items
    ['tea', 'milk']
    >>> display.weights_.shape
    (3,)
    """

    def __init__(self, items: Any, attention: ArrayLike) -> None:
        self.items = items
        self.attention = attention

    @classmethod
    def from_estimator(
        cls,
        model: Model,
        user_id: Any,
        *,
        history: Any = None,
        labels: Mapping[Any, str] | pd.Series | None = None,
        kind: str = "bar",
        n_items: int = 20,
        ax: Any = None,
    ) -> AttentionDisplay:
        """Draw what the vector of a user attends to.

        Parameters
        ----------
        model : TwoTowerRecommender
            A fitted model, a Pipeline that ends in one, or a fitted search over either.
        user_id : str or int
            The user, known or new.
        history : frame, 2-D array, dict or Series, default=None
            Further interactions of the user, as in
            :meth:`~sktwotower.TwoTowerRecommender.recommend`.
        labels : dict or Series, default=None
            Names of items by id; ids without one stay as they are.
        kind, n_items, ax
            As in :meth:`plot`.

        Returns
        -------
        display : AttentionDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``model`` neither is nor ends in a TwoTowerRecommender, or ``user_id`` is no
            single id.
        NotFittedError
            If the model is not fitted.
        ValueError
            If the model has no TransformerHistory, the user has no history, ``kind`` is
            unknown, or ``n_items`` is below 1.
        ImportError
            If Matplotlib is not installed.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        _check_options(kind, n_items)
        last = check_two_towers(model, caller)
        if np.ndim(user_id):
            got = type(user_id).__name__
            raise TypeError(f"{caller} draws one user: user_id must be an id; got {got}.")
        ids, attention = _attention_of(last._state, user_id, history, caller=caller)
        names = {} if labels is None else dict(labels)
        display = cls([names.get(item, item) for item in ids.tolist()], attention)
        return display.plot(ax, kind=kind, n_items=n_items)

    def plot(
        self, ax: Any = None, *, kind: str = "bar", n_items: int = 20
    ) -> AttentionDisplay:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: axes of a new figure. A title that they have
            is kept.
        kind : {"bar", "heads"}, default="bar"
            "bar": the attention rollout over all layers. "heads": an image with the weights
            of the last place in each head of each layer.
        n_items : int, default=20
            How many of the latest items are drawn, at most. The weights of the earlier ones
            are added up.

        Returns
        -------
        display : AttentionDisplay
            The display itself.
        """
        _check_options(kind, n_items)
        attention = np.asarray(self.attention, dtype=float)
        self.weights_ = _rollout(attention)[-1]
        n_drawn = min(int(n_items), len(self.items))
        n_before = len(self.items) - n_drawn
        labels = ["start", *[f"{n_before} earlier"] * (n_before > 0)]
        labels += [str(item) for item in self.items[n_before:]]

        def drawn(weights: np.ndarray) -> np.ndarray:
            earlier = weights[..., 1 : 1 + n_before].sum(-1, keepdims=True)
            parts = [weights[..., :1], *[earlier] * (n_before > 0)]
            return np.concatenate([*parts, weights[..., 1 + n_before :]], axis=-1)

        with axes_to_draw_on(ax, f"{type(self).__name__}.plot") as ax:
            rows = np.arange(len(labels))
            if kind == "bar":
                colors = ["C0" if row >= len(labels) - n_drawn else "0.7" for row in rows]
                self.artist_ = ax.barh(rows, drawn(self.weights_), color=colors)
                percent_ticks(ax.xaxis)
                ax.set(xlabel="weight in the last vector")
                set_title(ax, "Attention to the history")
                ax.grid(alpha=0.3, axis="x")
                ax.set_axisbelow(True)
            else:
                n_layers, n_heads = attention.shape[:2]
                image = drawn(attention[:, :, -1]).reshape(n_layers * n_heads, -1).T
                self.artist_ = ax.imshow(image, aspect="auto", cmap="Blues", vmin=0)
                names = [
                    f"layer {layer + 1}\nhead {head + 1}"
                    for layer in range(n_layers)
                    for head in range(n_heads)
                ]
                ax.set_xticks(np.arange(len(names)), names)
                ax.set(xlabel="head")
                set_title(ax, "Attention of each head to the history")
                ax.figure.colorbar(self.artist_, ax=ax, label="attention of the last place")
            ax.set_yticks(rows, labels)
            ax.set_ylim(len(labels) - 0.5, -0.5)  # the latest item is the lowest
            ax.set(ylabel="history, the latest item last")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _check_options(kind: str, n_items: int) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; it is 'bar' or 'heads'.")
    check_count("n_items", n_items)


def _rollout(attention: np.ndarray) -> np.ndarray:
    """Attention rollout of all places, (n_places, n_places)."""
    identity = np.eye(attention.shape[-1])
    rollout = identity
    for of_heads in attention:
        rollout = (of_heads.mean(0) + identity) / 2 @ rollout
    return rollout


def _attention_of(
    state: ModelState, user_id: Any, history: Any, *, caller: str
) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the items that a user's vector reads, and the attention of all places."""
    users = EntityEmbedder.of(state, "user")
    if users.past is None or users.tower.reader is None:
        raise ValueError(
            f"{caller} needs a model with history=TransformerHistory(); the history of "
            f"this one is {state.settings.history}."
        )
    query = users.query([user_id], "user_id")
    _, windows = users.later_history(query, history, state.item.vocabulary)
    inputs = users.inputs(query.codes, windows=windows)
    past = inputs.take(torch.zeros(1, dtype=torch.int64)).history
    assert isinstance(past, Sequences)
    if not len(past.items):
        raise ValueError(
            f"{caller} has nothing to draw: user {user_id!r} has no known item in the "
            "training data or in history."
        )
    ids = state.item.vocabulary.ids[past.items.numpy() - 1]
    return ids, users.tower.reader.attention(past)[:, 0].numpy()
