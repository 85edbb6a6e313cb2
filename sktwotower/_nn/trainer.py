"""The training loop."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sktwotower._nn.batch_losses import B, Objective
from sktwotower._nn.batches import Batches
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.gathering import gathered_epoch
from sktwotower._nn.inputs import TowerRows
from sktwotower._nn.lazy_tables import LazyTables
from sktwotower._nn.runtime import Generators
from sktwotower._nn.self_supervision import SelfSupervision
from sktwotower._nn.step import DistributedStep, Step
from sktwotower._nn.threads import Prefetched, SecondThread
from sktwotower._nn.two_towers import TwoTowers


def train(
    towers: TwoTowers,
    user_rows: TowerRows,
    item_rows: TowerRows,
    batches: Batches[B],
    objective: Objective[B],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    tables: LazyTables,
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
        Batches of rows with their candidates or negatives.
    objective : Objective
        The loss of a batch.
    optimizer, schedule : Optimizer, LRScheduler
        Step all parameters but the lazy tables.
    tables : LazyTables
        Step the lazy tables.
    generators : Generators
        Random numbers.
    self_supervision : SelfSupervision, optional
        A further loss of the item tower.
    average : AveragedModel, optional
        Updated with the weights after each epoch.
    max_grad_norm : float, optional
        Gradients of a larger norm are scaled down to it.
    ranks : Ranks, optional
        The processes that share each batch.

    Yields
    ------
    float
        Mean loss over the rows of the epoch, weighted.
    """
    parameters = list(towers.parameters())
    device = parameters[0].device
    local: Step[B] = Step(towers, objective, self_supervision, ranks, generators)
    step = local if ranks is None else DistributedStep(local, ranks, tables)
    # Both threads add to the gradient of a tied table: two terms, but three with views, of
    # which the order would matter.
    is_ordered = towers.tied_table is None or self_supervision is None
    reads_sequences = towers.user_tower.reader is not None  # whose products use all threads
    is_divided = is_ordered and not reads_sequences
    two_threads = ranks is None and device.type == "cpu" and is_divided
    while True:
        towers.train()
        with (
            torch.inference_mode(False),  # whatever mode the caller is in
            torch.enable_grad(),
            SecondThread(wanted=two_threads) as second,
        ):
            total = torch.zeros((), device=device)
            epoch = gathered_epoch(
                batches,
                user_rows,
                item_rows,
                generators.host,
                self_supervision=self_supervision,
                ranks=ranks,
            )
            upcoming = Prefetched(epoch, second)
            for gathered in upcoming:
                gathered = gathered.with_table_rows(towers, tables).to(device)
                optimizer.zero_grad(set_to_none=True)
                value = step.backward(gathered, upcoming, second)
                if max_grad_norm is not None:
                    leaves = [*parameters, *tables.vectors]
                    nn.utils.clip_grad_norm_(leaves, max_grad_norm)
                optimizer.step()
                tables.step()
                schedule.step()
                towers.clamp_temperature()
                total += value.detach() * gathered.n_rows  # no graph, no device sync
            tables.settle()
            if ranks is not None:
                total = ranks.mean(total)
                ranks.broadcast(towers.buffers())
            if average is not None:
                average.update_parameters(towers)
        yield float(total) / batches.n_rows
