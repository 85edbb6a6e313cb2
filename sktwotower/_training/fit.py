"""One fit, epoch by epoch: losses, validation, and what is printed."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch

from sktwotower._nn.resize import rows_stay
from sktwotower._training.continuing import rows_that_stay
from sktwotower._training.divergence import divergence_message
from sktwotower._training.early_stopping import Validation
from sktwotower._training.memory import advice_when_out_of_memory
from sktwotower._training.state import ModelState, TrainingLog
from sktwotower._training.training import Training


class Fit:
    """Runs a training until its caller stops.

    Parameters
    ----------
    training : Training
        What is trained on, and how.
    train_rows : ndarray of shape (n_samples,), bool
        The rows that train.
    validation : Validation, optional
        Scores each epoch.
    loss_curve : tuple of float, default=()
        Losses of the epochs before, of a training that is continued.
    """

    @advice_when_out_of_memory()
    def __init__(
        self,
        training: Training,
        train_rows: np.ndarray,
        validation: Validation | None = None,
        *,
        loss_curve: tuple[float, ...] = (),
    ) -> None:
        self.training = training
        self.validation = validation
        self.loss_curve = loss_curve
        self.run = training.start(train_rows)
        self.best_weights: dict[str, torch.Tensor] = {}  # of this process's rows
        self.started: float | None = None  # with the first epoch

    @property
    def log(self) -> TrainingLog:
        """Losses and validation scores so far."""
        if self.validation is None:
            return TrainingLog(self.loss_curve)
        return TrainingLog(
            self.loss_curve,
            self.validation.rule.validation_metric,
            tuple(map(tuple, self.validation.scores.values())),
        )

    @advice_when_out_of_memory()
    def next_epoch(self, epoch: int, n_epochs: int) -> bool:
        """Train for one of some epochs, from 1; True if the validation says stop.

        Raises
        ------
        MemoryError
            If the memory of an accelerator is too small.
        ValueError
            If the loss is not finite.
        """
        started = time.perf_counter()
        if self.started is None:
            self.started = started
        loss = next(self.run.epochs)
        self.loss_curve = (*self.loss_curve, loss)
        configuration = self.training.configuration
        if not np.isfinite(loss):
            n_epochs = len(self.loss_curve)
            raise ValueError(divergence_message(configuration, "loss", loss, n_epochs))
        stop = False
        if self.validation is not None:
            stop = self.validation.score(self.training.models.validated(self.run, self.log))
            self.run.tables.release(self.run.served)
            if self.validation.keeps_weights:
                self.best_weights = {}  # frees its memory before the copy
                self.best_weights = deepcopy(self.run.served.state_dict())
        if configuration.verbose:
            now = time.perf_counter()
            times = duration(now - started)
            if epoch < n_epochs and not stop:
                left = (now - self.started) / epoch * (n_epochs - epoch)
                times += f", {duration(left)} left"
            print(f"epoch {epoch}/{n_epochs}  {self._losses()}  {times}")
        return stop

    def continue_for(self, n_epochs: int) -> None:
        """Train for some epochs; rows of tables without an interaction in X may stay."""
        run, training = self.run, self.training
        stay = rows_that_stay(training.data, run.trained) if training.rows_stay else {}
        with rows_stay(run.optimizer, run.tables, stay):
            for epoch in range(1, n_epochs + 1):
                self.next_epoch(epoch, n_epochs)

    def snapshot(self) -> ModelState:
        """A model of its own, as if training had stopped here."""
        state = self.training.models.complete(self.run, self.log)
        towers, optimizer, frequencies = deepcopy(
            (state.towers, state.optimizer, state.frequencies)
        )
        self.run.tables.release(self.run.served)
        return replace(
            state,
            towers=towers.cpu().eval(),
            optimizer=optimizer,
            frequencies=frequencies,
        )

    @advice_when_out_of_memory()
    def finish(self, refit_rows: np.ndarray | None = None) -> ModelState:
        """The model: the best epoch if training stops early, else the last one.

        Parameters
        ----------
        refit_rows : ndarray of shape (n_samples,), bool, optional
            Train on these rows instead, for as many epochs as the validation says.
        """
        validation = self.validation
        if validation is not None and validation.rule.early_stopping:
            if refit_rows is None:
                self.run.served.load_state_dict(self.best_weights)
                self.best_weights = {}
            else:
                n_epochs = validation.n_refit_epochs
                if self.training.configuration.verbose:
                    print(f"refit on all rows, epochs: {n_epochs}")
                self.run.epochs.close()
                del self.run  # its memory is for the next one
                self.run = self.training.start(refit_rows)
                for _ in range(n_epochs):
                    next(self.run.epochs)
        self.run.epochs.close()  # frees its rows before histories are made of all rows
        state = self.training.models.complete(self.run, self.log)
        state.towers.cpu().eval()
        return state

    def _losses(self) -> str:
        line = f"loss {self.loss_curve[-1]:.4f}"
        if self.validation is not None:
            for metric, scores in self.validation.scores.items():
                line += f"  {metric} {scores[-1]:.4f}"
        return line


def duration(seconds: float) -> str:
    """A time for people: "0.4 s", "25 s", "7 min" or "2.5 h"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    if seconds < 59.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
