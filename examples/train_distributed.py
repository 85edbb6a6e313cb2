"""Train one model with several processes, on one machine or on several.

    torchrun --nproc-per-node 2 examples/train_distributed.py

Every process calls ``fit`` with the same data and parameters. Each process embeds its share
of each batch. At the end all processes have the same model.
"""

from __future__ import annotations

import time

import torch
import torch.distributed as dist

from sktwotower import TwoTowerRecommender
from sktwotower.datasets import load_movielens_small


def main() -> None:
    """Train, and print the result from the first process."""
    on_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if on_gpu else "gloo")
    if on_gpu:
        torch.cuda.set_device(dist.get_node_local_rank())
    data = load_movielens_small()
    model = TwoTowerRecommender(
        user_column="user_id",
        item_column="item_id",
        item_table=data.item_table,
        max_iter=3,
        random_state=0,
    )
    started = time.perf_counter()
    model.fit(data.interactions)
    if dist.get_rank() == 0:
        seconds = time.perf_counter() - started
        losses = ", ".join(f"{loss:.3f}" for loss in model.loss_curve_)
        print(f"{dist.get_world_size()} processes, {seconds:.1f} s, loss {losses}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
