"""What a fit will take, from a fit to a sample of its rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike

from sktwotower._data.roles import SIDES
from sktwotower._nn.batches import batch_sizes
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.products import counted_products
from sktwotower._search.faiss_index import FaissIndex
from sktwotower._training.configuration import Configuration
from sktwotower._training.data import (
    TrainingData,
    encode,
    read_training_rows,
    rows_that_train,
)
from sktwotower._training.defaults import choose
from sktwotower._training.facts import DataFacts, facts_of
from sktwotower._training.memory import of_size, row_bytes
from sktwotower._training.objective import SAMPLING
from sktwotower._training.run import TrainingRun
from sktwotower._training.settings import Settings
from sktwotower._training.state import TrainingLog
from sktwotower._training.training import Training
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.inspection._plotting import check_count, refuse

# A sample has so many batches, so that they are of as many users and items as those of all
# rows, and one of them takes its usual time.
_LEAST_BATCHES = 10
_LEAST_SHARE = 0.9  # of the items, where each step ranks all of them


@dataclass(frozen=True, eq=False)
class CostEstimate:
    """What a fit takes; :func:`estimate_cost` makes it.

    Attributes
    ----------
    memory : Series of int
        Bytes that are needed at once at the end of training, by part: the embedding
        ``"tables"``, their ``"moments"`` in the optimizer, the ``"average"`` of the
        weights, their ``"gradient"`` (of an L2 penalty only), ``"matrices"`` of features
        of few columns, the ``"embeddings"`` of all users and items, the ``"entities"``
        (their ids and encoded features), and the ``"rows"`` of X. Python and its
        libraries take a few hundred MB more, and so does X, unless it is a file.
    disk : int
        Bytes in temporary files; 0 up to 16.8 million rows.
    index : int or None
        Bytes of the search index; None: none was wanted.
    n_steps, n_epochs : int
        Steps of an epoch, and epochs.
    flops : int
        Floating-point operations of the matrix products of a step, forward and backward.
        Attention is not counted.
    seconds : float
        Seconds of an epoch, at the rate of the sample.
    parameters : dict
        The parameters that may be ``"auto"``, as they are for all rows.
    """

    memory: pd.Series
    disk: int
    index: int | None
    n_steps: int
    n_epochs: int
    flops: int
    seconds: float
    parameters: dict[str, Any]

    def __str__(self) -> str:
        sizes = {f"memory: {part}": n for part, n in self.memory.items() if n}
        sizes["memory"] = self.memory.sum()
        sizes |= {"temporary files": self.disk} if self.disk else {}
        sizes |= {} if self.index is None else {"search index": self.index}
        lines = {name: f"{n / 1e9:,.3g} GB" for name, n in sizes.items()}
        lines["batch_size"] = f"{self.parameters['batch_size']:,}"
        lines["steps of an epoch"] = f"{self.n_steps:,}"
        lines["products of a step"] = f"{self.flops / 1e9:,.3g} GFLOP"
        lines["an epoch"] = f"{self.seconds:,.3g} s"
        lines["epochs"] = f"{self.n_epochs:,}"
        return "\n".join(f"{name:26}{value:>16}" for name, value in lines.items())


def estimate_cost(
    model: TwoTowerRecommender,
    X: Any,
    y: ArrayLike | str | None = None,
    *,
    n_rows: int,
    n_users: int,
    n_items: int,
    index: str | None = None,
) -> CostEstimate:
    """What memory and time a fit to many rows will take, from a sample of them.

    Use it before a fit that may be too large or too long, and compare parameters with it.
    It trains for two epochs on the sample, with the parameters that the model would have
    on all rows, and does not change the model. The second epoch is timed. The time of a
    step does not depend on the size of the tables, so that of an epoch is in proportion to
    its steps. Bytes follow from the numbers of rows, users and items; those of ids and
    features are in proportion to the sample.

    Start with some hundred thousand rows, of users chosen at random with all of their rows:
    histories are then as long as they will be. A batch of a small sample names fewer
    different users and items than one of all rows, which costs less; an epoch of a small
    sample has more users and items for each step, which costs a little more.

    Parameters
    ----------
    model : TwoTowerRecommender
        The parameters, with tables and encoders; it need not be fitted.
    X : DataFrame or array-like of shape (n_samples, n_columns), path, or Dataset
        The sample, as ``fit`` takes it: all rows, or at least ten batches.
    y : array-like of shape (n_samples,) or str, default=None
        Its labels, as ``fit`` takes them.
    n_rows, n_users, n_items : int
        Rows of all data, their users and their items, with those of the tables.
    index : str or None, default=None
        Search index over the items, as ``build_index`` takes it; its bytes are in
        proportion to the sample. None: search is exact and needs none.

    Returns
    -------
    cost : CostEstimate
        ``print(cost)`` shows it.

    Raises
    ------
    TypeError
        If the model is no TwoTowerRecommender.
    ValueError
        If there are fewer rows, users or items than in X, or fewer rows than users or
        items; if X has too few rows or items to time a step; and as ``fit`` does.

    See Also
    --------
    sktwotower.TwoTowerRecommender.fit : Warns if memory is too small.

    Notes
    -----
    Early stopping, the reading of X, the building of the index and the writing of the model
    are not timed. For each pair of user and item there is taken to be one row. Steps need
    more memory for a moment, the more the larger the batch.

    Examples
    --------
    >>> from sktwotower import TwoTowerRecommender
    >>> from sktwotower.datasets import make_interactions
    >>> from sktwotower.inspection import estimate_cost
    >>> X = make_interactions(2000, 1000, 30_000, random_state=0).interactions
    >>> model = TwoTowerRecommender(history=None, embedding_dim=32)
    >>> cost = estimate_cost(model, X, n_rows=10**9, n_users=10**8, n_items=10**7)
    >>> f"{cost.memory['tables'] / 1e9:.1f} GB, steps: {cost.n_steps:,}"
    '14.1 GB, steps: 1,953,125'
    """
    if not isinstance(model, TwoTowerRecommender):
        raise refuse(model, "estimate_cost", "a TwoTowerRecommender")
    sizes = {"n_rows": n_rows, "n_users": n_users, "n_items": n_items}
    for name, value in sizes.items():
        check_count(name, value)
    model._validate_params()
    configuration = replace(model._configuration(), verbose=0)
    roles, interactions = read_training_rows(X, y, None, configuration)
    train_rows = rows_that_train(interactions, configuration.objective)
    data = encode(interactions, train_rows, roles, configuration, None)
    del interactions
    _refuse_sizes(data, configuration, **sizes)
    of_sample = facts_of(data, data.interactions)
    of_all = _scaled_facts(of_sample, **sizes)
    choices = choose(configuration, of_all)
    settings = Settings(**{name: choice.value for name, choice in choices.items()})
    _refuse_sample(of_sample, of_all, settings)
    configuration = configuration.resolved(settings)
    training = Training(configuration, data, None, seed=0)
    run = training.start(train_rows)
    n_steps, n_timed = (_n_steps(configuration, one) for one in (of_all, of_sample))
    flops, seconds = _of_an_epoch(run)
    in_memory, on_disk = row_bytes(
        n_rows,
        n_users,
        has_times=data.interactions.times is not None,
        history=settings.history,
        masks=configuration.objective.mask_known_positives,
    )
    user_rows = _scaled_rows(training.user_rows, len(data.user.entities), n_users)
    item_rows = _scaled_rows(training.item_rows, len(data.item.entities), n_items)
    memory = training.bytes_of(user_rows, item_rows, n_items + 1)
    memory["entities"] = sum(_entity_bytes(training, sizes))
    memory["rows"] = in_memory
    return CostEstimate(
        memory=pd.Series(memory, name="bytes"),
        disk=on_disk,
        index=None if index is None else _index_bytes(training, run, index, n_items),
        n_steps=n_steps,
        n_epochs=settings.max_iter,
        flops=flops // n_timed,
        seconds=seconds / n_timed * n_steps,
        parameters=_as_parameters(settings),
    )


def _as_parameters(settings: Settings) -> dict[str, Any]:
    """The values as a TwoTowerRecommender takes them."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    if settings.history is not None:
        values["history"] = settings.history.as_parameter()
    return values


def _refuse_sizes(
    data: TrainingData,
    configuration: Configuration,
    *,
    n_rows: int,
    n_users: int,
    n_items: int,
) -> None:
    """Raise ValueError for numbers that contradict the sample or each other."""
    if n_rows < len(data.interactions):
        raise ValueError(
            f"n_rows={n_rows} is less than the {len(data.interactions)} rows of X, which "
            "are a sample of them."
        )
    for side, n in zip(SIDES, (n_users, n_items), strict=True):
        found = len(data.side(side).entities)
        has_table = configuration.side(side).table is not None
        if n < found:
            where = f"X and {side}_table have" if has_table else "X has"
            raise ValueError(
                f"n_{side}s={n} is less than the {found} {side}s that {where}."
            )
        if n > n_rows and not has_table:
            raise ValueError(
                f"n_{side}s={n} is more than n_rows={n_rows}, and without {side}_table "
                f"each {side} has a row."
            )


def _scaled_facts(
    facts: DataFacts, *, n_rows: int, n_users: int, n_items: int
) -> DataFacts:
    """The facts of all rows, whose labels are mixed as in a sample."""
    n_positives = round(
        n_rows * facts.n_positives / (facts.n_positives + facts.n_negatives)
    )
    return replace(
        facts,
        n_positives=n_positives,
        n_negatives=n_rows - n_positives,
        n_users=n_users,
        n_items=n_items,
        n_items_with_rows=n_items,
    )


def _refuse_sample(sample: DataFacts, everything: DataFacts, settings: Settings) -> None:
    """Raise ValueError for a sample of which a step would take less than its time."""
    n_rows = sample.n_positives + sample.n_negatives
    least = _LEAST_BATCHES * settings.batch_size
    if n_rows < min(least, everything.n_positives + everything.n_negatives):
        raise ValueError(
            f"X has {n_rows} rows, fewer than {_LEAST_BATCHES} batches of "
            f"{settings.batch_size}, the batch_size for all rows; give {least} rows or "
            "more, or set a smaller batch_size."
        )
    ranked = 0
    if settings.negatives == "full":
        ranked = int(_LEAST_SHARE * everything.n_items)
    elif settings.negatives in SAMPLING:
        ranked = settings.n_negatives
    if sample.n_items_with_rows < ranked:
        raise ValueError(
            f"X has rows of {sample.n_items_with_rows} items, and with negatives="
            f"{settings.negatives!r} a step needs at least {ranked}; give more rows, or "
            "set other negatives."
        )


def _n_steps(configuration: Configuration, facts: DataFacts) -> int:
    """Steps of an epoch."""
    n_rows = facts.n_positives
    if configuration.objective.loss == "cross_entropy":  # which learns labels
        n_rows += facts.n_negatives
    return batch_sizes(n_rows, configuration.settings.batch_size)[0]


def _of_an_epoch(run: TrainingRun) -> tuple[int, float]:
    """Operations of matrix products, and seconds of another epoch."""
    with counted_products() as counter:
        next(run.epochs)
    started = time.perf_counter()
    next(run.epochs)
    return counter.get_total_flops(), time.perf_counter() - started


def _scaled_rows(rows: EntityRows, n_sample: int, n: int) -> EntityRows:
    """Rows of n entities; some have several rows, of different times."""
    return of_size(rows, round(len(rows) / (n_sample + 1) * (n + 1)))


def _entity_bytes(training: Training, sizes: dict[str, int]) -> Iterator[int]:
    """Bytes of the ids of each side, and of what its tower reads of them."""
    for side, rows in zip(SIDES, (training.user_rows, training.item_rows), strict=True):
        entities = training.data.side(side).entities
        tensors = [rows.id_codes, rows.pointers, rows.columns, rows.values, *rows.dense]
        found = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        found += entities.vocabulary.n_bytes()
        yield round(found * sizes[f"n_{side}s"] / len(entities))


def _index_bytes(training: Training, run: TrainingRun, index: str, n_items: int) -> int:
    """Bytes of a search index, in proportion to one of the items of the sample."""
    items = training.models.complete(run, TrainingLog(())).item
    found = FaissIndex(index, items.embeddings).n_bytes()
    return round(found * n_items / len(items.embeddings))
