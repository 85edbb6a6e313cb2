"""Training loss and validation metric over the epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sktwotower.inspection._plotting import (
    axes_to_draw_on,
    check_matplotlib,
    mark_best,
    refuse,
    set_title,
    whole_ticks,
)
from sktwotower.metrics._sources import Model, last_estimator


class TrainingCurveDisplay:
    """Training loss and, on a second axis, the validation metric over the epochs.

    Use it to see whether the loss has converged, and from which epoch on the model
    overfits. Make one with :meth:`from_estimator`.

    Parameters
    ----------
    loss : array-like of shape (n_epochs,)
        Mean training loss of each epoch.
    validation_scores : array-like of shape (n_epochs,), default=None
        Validation metric after each epoch; None: draw the loss alone.
    metric : str, default=None
        Name of the validation metric, for the label.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the loss.
    validation_ax_ : matplotlib Axes or None
        The axes with the metric, over the same epochs; None without validation.
    figure_ : matplotlib Figure
        The figure of these axes.
    loss_line_, validation_line_ : matplotlib Line2D or None
        The curves.
    best_ : matplotlib Line2D or None
        The mark at the best epoch.

    See Also
    --------
    RankingCurveDisplay : The quality of the fitted model on other rows.

    Examples
    --------
    >>> from sktwotower import TwoTowerRecommender
    >>> from sktwotower.datasets import make_interactions
    >>> from sktwotower.inspection import TrainingCurveDisplay
    >>> X = make_interactions(random_state=0).interactions
    >>> model = TwoTowerRecommender(early_stopping=True, random_state=0).fit(X)
    >>> display = TrainingCurveDisplay.from_estimator(model)
    >>> display.validation_ax_.get_ylabel()
    'validation ndcg@10'
    """

    def __init__(
        self,
        loss: ArrayLike,
        *,
        validation_scores: ArrayLike | None = None,
        metric: str | None = None,
    ) -> None:
        self.loss = loss
        self.validation_scores = validation_scores
        self.metric = metric

    @classmethod
    def from_estimator(
        cls,
        model: Model,
        *,
        metric: str | None = None,
        ax: Any = None,
        loss_kwargs: dict[str, Any] | None = None,
        validation_kwargs: dict[str, Any] | None = None,
    ) -> TrainingCurveDisplay:
        """Draw the curves of a fitted model.

        Parameters
        ----------
        model : TwoTowerRecommender
            A fitted model, a Pipeline that ends in one, or a fitted search over either.
        metric : str, default=None
            Which metric to draw of a model that was validated on several; None: the one
            that decides.
        ax, loss_kwargs, validation_kwargs
            As in :meth:`plot`.

        Returns
        -------
        display : TrainingCurveDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the model has no ``loss_curve_``.
        NotFittedError
            If the model is not fitted.
        ValueError
            If the model was not validated on `metric`.
        ImportError
            If Matplotlib is not installed.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        last = last_estimator(model)
        if isinstance(last, type) or not hasattr(last, "fit"):
            raise refuse(last, caller, "a fitted TwoTowerRecommender")
        check_is_fitted(last)
        if not hasattr(last, "loss_curve_"):
            raise refuse(last, caller, "an estimator that keeps its loss_curve_")
        scores = getattr(last, "validation_scores_", None)
        if not isinstance(scores, dict):
            name = getattr(last, "validation_metric", None)
            name = name if isinstance(name, str) else "score"
            scores = {} if scores is None else {name: scores}
        if metric is None:
            metric = next(iter(scores), None)
        elif metric not in scores:
            names = ", ".join(map(repr, scores)) or "nothing"
            raise ValueError(f"metric={metric!r}: the model was validated on {names}.")
        display = cls(
            list(last.loss_curve_),
            validation_scores=None if metric is None else scores[metric],
            metric=metric,
        )
        return display.plot(
            ax, loss_kwargs=loss_kwargs, validation_kwargs=validation_kwargs
        )

    def plot(
        self,
        ax: Any = None,
        *,
        loss_kwargs: dict[str, Any] | None = None,
        validation_kwargs: dict[str, Any] | None = None,
    ) -> TrainingCurveDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: axes of a new figure. A title that they have
            is kept.
        loss_kwargs, validation_kwargs : dict, default=None
            Arguments of Matplotlib's ``plot`` for each of the curves.

        Returns
        -------
        display : TrainingCurveDisplay
            The display itself.
        """
        loss = np.asarray(self.loss, dtype=np.float64)
        scores = self.validation_scores
        values = None if scores is None else np.asarray(scores, dtype=np.float64)
        if values is not None and values.shape != loss.shape:
            raise ValueError(
                f"loss has {len(loss)} epochs and validation_scores has {len(values)}."
            )
        epochs = np.arange(1, len(loss) + 1)
        style = {"color": "C0", "marker": ".", "label": "training loss"}
        with axes_to_draw_on(ax, f"{type(self).__name__}.plot") as ax:
            (self.loss_line_,) = ax.plot(epochs, loss, **(style | (loss_kwargs or {})))
            ax.set(xlabel="epoch", ylabel="training loss")
            whole_ticks(ax.xaxis)
            self.validation_ax_: Any = None
            self.validation_line_: Any = None
            self.best_: Any = None
            set_title(ax, "Training loss" if values is None else "Training and validation")
            if values is not None:
                self._plot_validation(ax, epochs, values, validation_kwargs or {})
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_validation(
        self, ax: Any, epochs: np.ndarray, values: np.ndarray, kwargs: dict[str, Any]
    ) -> None:
        label = f"validation {self.metric or 'score'}"
        style = {"color": "C1", "marker": ".", "label": label}
        twin = ax.twinx()
        (line,) = twin.plot(epochs, values, **(style | kwargs))
        best = int(np.argmax(values))
        self.best_ = mark_best(
            twin,
            epochs[best],
            values[best],
            markersize=9,
            color=line.get_color(),
            label=f"best: {values[best]:.3f} after epoch {epochs[best]}",
        )
        twin.set_ylabel(label)
        # The label of each axis has the colour of its curve.
        for axis, curve in ((ax.yaxis, self.loss_line_), (twin.yaxis, line)):
            axis.label.set_color(curve.get_color())
        lines = [self.loss_line_, line, self.best_]
        twin.legend(
            lines, [each.get_label() for each in lines], loc="center right", framealpha=0.9
        )
        self.validation_ax_, self.validation_line_ = twin, line
