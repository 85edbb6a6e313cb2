"""The training loop."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch.optim.swa_utils import AveragedModel

from sktwotower._nn.batch_losses import B, Objective
from sktwotower._nn.batches import Batches
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.divided_tables import DividedTables
from sktwotower._nn.gathering import gathered_epoch
from sktwotower._nn.inputs import EntityRows, TowerRows
from sktwotower._nn.kept_memory import kept_memory
from sktwotower._nn.lazy_tables import LookedUpTables
from sktwotower._nn.runtime import Generators
from sktwotower._nn.self_supervision import SelfSupervision
from sktwotower._nn.step import DistributedStep, Step
from sktwotower._nn.threads import Prefetched, SecondThread
from sktwotower._nn.two_towers import TwoTowers


def train(
    towers: TwoTowers,
    user_rows: TowerRows,
    item_rows: EntityRows,
    batches: Batches[B],
    objective: Objective[B],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    tables: LookedUpTables,
    generators: Generators,
    *,
    self_supervision: SelfSupervision | None = None,
    average: AveragedModel | None = None,
    max_grad_norm: float | None = None,
    ranks: Ranks | None = None,
) -> Generator[float, None, None]:
    """Train an epoch each time that a value is requested, without end.

    The caller decides when to stop. The towers can be used after every epoch.

    Parameters
    ----------
    towers : TwoTowers
        Trained in place.
    user_rows, item_rows : TowerRows
        Inputs of the towers, of which batches are indices.
    batches : Batches
        Batches of rows with their candidates or negatives; of this rank.
    objective : Objective
        The loss of a batch.
    optimizer, schedule : Optimizer, LRScheduler
        Step all parameters but the lazy tables.
    tables : LookedUpTables
        Step the lazy tables; with ranks, :class:`DividedTables`.
    generators : Generators
        Random numbers.
    self_supervision : SelfSupervision, optional
        A further loss of the item tower.
    average : AveragedModel, optional
        Updated with the weights after each epoch.
    max_grad_norm : float, optional
        Gradients of a larger norm are scaled down to it.
    ranks : Ranks, optional
        The processes, each of which trains its own rows.

    Yields
    ------
    float
        Mean loss over the rows of the epoch, weighted.
    """
    parameters = list(towers.parameters())
    device = parameters[0].device
    local: Step[B] = Step(towers, objective, self_supervision, ranks, generators)
    step: Step[B] | DistributedStep[B] = local
    n_rows = 0.0
    if ranks is not None:
        assert isinstance(tables, DividedTables)
        step = DistributedStep(local, ranks, tables)
        n_rows = ranks.total(batches.n_expected) / batches.n_batches
    # Both threads add to the gradient of a tied table: two terms, but three with views, of
    # which the order would matter.
    is_ordered = towers.tied_table is None or self_supervision is None
    # Two halves of the sequences of a batch would have statistics of their own.
    reads_sequences = towers.user_tower.reader is not None
    has_statistics = any(True for _ in towers.user_tower.buffers())
    is_divided = is_ordered and not (reads_sequences and has_statistics)
    two_threads = ranks is None and device.type == "cpu" and is_divided
    while True:
        towers.train()
        with (
            torch.inference_mode(False),  # whatever mode the caller is in
            torch.enable_grad(),
            kept_memory() as memory,
            SecondThread(wanted=two_threads) as second,
        ):
            second.start(memory.use_here)()
            total = torch.zeros((), device=device)
            epoch = gathered_epoch(
                batches,
                user_rows,
                item_rows,
                generators,
                self_supervision=self_supervision,
                ranks=ranks,
                n_rows=n_rows,
                in_halves=two_threads,
            )
            upcoming = Prefetched(epoch, second)
            for gathered in upcoming:
                gathered = gathered.with_table_rows(towers, tables).to(device)
                optimizer.zero_grad(set_to_none=True)
                value = step.backward(gathered, upcoming, second)
                if max_grad_norm is not None:
                    tables.clip_gradients(parameters, max_grad_norm)
                optimizer.step()
                tables.step()
                schedule.step()
                towers.clamp_temperature()
                total += value.detach() * gathered.n_rows  # no graph, no device sync
            tables.settle()
            n_trained: float = batches.n_rows
            if ranks is not None:
                total, n_trained = ranks.sum(total) / ranks.size, ranks.total(n_trained)
                ranks.broadcast(towers.buffers())
            if average is not None:
                average.update_parameters(towers)
        yield float(total) / n_trained
