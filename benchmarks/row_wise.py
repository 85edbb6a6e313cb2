"""A table of ids divided by row between two processes: this package, torch, and TorchRec.

    python -m benchmarks.row_wise [--rows 100000 1000000] [--repeats 3]
                                  [--torchrec PYTHON]

A step looks up 1,024 random rows of 64 numbers in each process, and updates them from
their gradients. One process has the even rows, the other the odd ones or the first half
and the second. Milliseconds of a step, the median of 40, and the memory of the first
process at most, each in processes of its own, by turns:

- sktwotower: its divided tables, with adamw, of which rows are stepped when they are
  looked up;
- torch: ``RowwiseParallel`` of ``torch.distributed.tensor``, with AdamW, which steps all
  rows;
- TorchRec, if ``--torchrec`` names a Python that has torchrec and fbgemm-gpu-cpu: an
  ``EmbeddingCollection`` divided ``ROW_WISE``, with row-wise Adagrad, since it has no Adam
  on a CPU.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

WIDTH, CODES, N_STEPS, N_FIRST = 64, 1024, 40, 5


def of_sktwotower(n_rows: int) -> Callable[[Tensor], None]:
    """A step of this package."""
    from sktwotower._nn.distributed import Ranks
    from sktwotower._nn.divided_tables import DividedTable
    from sktwotower._nn.lazy_tables import Clock
    from sktwotower._nn.optim import make_optimizer
    from sktwotower._nn.segments import distinct

    ranks = Ranks.current()
    assert ranks is not None
    rows = nn.Parameter(torch.randn(len(range(ranks.rank, n_rows, ranks.size)), WIDTH))
    optimizer = make_optimizer(
        *("adamw", [rows], [rows]), learning_rate=1e-3, weight_decay=0.01, epsilon=1e-8
    )
    clock = Clock(optimizer.param_groups[0], 0)
    table = DividedTable(
        *(rows, n_rows, 0, optimizer, "adamw", clock, ranks), is_exchanged=True
    )

    def step(codes: Tensor) -> None:
        found, positions = distinct(codes, n_rows)
        vectors = table.look_up(found)[table.placed(positions)]
        vectors.square().sum().backward()
        table.send_gradients()
        table.receive_gradients()
        table.step()
        clock.tick()

    return step


def of_torch(n_rows: int) -> Callable[[Tensor], None]:
    """A step of torch's own row-wise table."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard
    from torch.distributed.tensor.parallel import RowwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    plan = RowwiseParallel(input_layouts=Shard(0), output_layouts=Shard(0))
    table = parallelize_module(nn.Embedding(n_rows, WIDTH), mesh, plan)
    optimizer = torch.optim.AdamW(table.parameters(), lr=1e-3)

    def step(codes: Tensor) -> None:
        optimizer.zero_grad()
        vectors = table(codes)
        getattr(vectors, "to_local", lambda: vectors)().square().sum().backward()
        optimizer.step()

    return step


def of_torchrec(n_rows: int) -> Callable[[Tensor], None]:
    """A step of TorchRec."""
    from torchrec import EmbeddingCollection, EmbeddingConfig, KeyedJaggedTensor
    from torchrec.distributed.embedding import EmbeddingCollectionSharder
    from torchrec.distributed.model_parallel import DistributedModelParallel
    from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
    from torchrec.distributed.planner.types import ParameterConstraints
    from torchrec.distributed.types import ShardingType
    from torchrec.optim import RowWiseAdagrad
    from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

    config = EmbeddingConfig(
        name="ids", embedding_dim=WIDTH, num_embeddings=n_rows, feature_names=["id"]
    )
    module = EmbeddingCollection(tables=[config], device=torch.device("meta"))
    apply_optimizer_in_backward(RowWiseAdagrad, module.parameters(), {"lr": 1e-3})
    sharders = [EmbeddingCollectionSharder()]
    row_wise = ParameterConstraints(sharding_types=[ShardingType.ROW_WISE.value])
    planner = EmbeddingShardingPlanner(
        topology=Topology(world_size=dist.get_world_size(), compute_device="cpu"),
        constraints={"ids": row_wise},
    )
    table = DistributedModelParallel(
        module,
        device=torch.device("cpu"),
        plan=planner.collective_plan(module, sharders, dist.group.WORLD),
        sharders=sharders,
    )

    def step(codes: Tensor) -> None:
        lengths = torch.ones(len(codes), dtype=torch.long)
        found = table(KeyedJaggedTensor(keys=["id"], values=codes, lengths=lengths)).wait()
        found["id"].values().square().sum().backward()

    return step


WAYS = {"sktwotower": of_sktwotower, "torch": of_torch, "TorchRec": of_torchrec}


def measure(way: str, n_rows: int) -> None:
    """Take some steps in this process of two; the first one prints what they took."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, step, seconds = dist.get_rank(), WAYS[way](n_rows), []
    for number in range(N_FIRST + N_STEPS):
        generator = torch.Generator().manual_seed(2 * number + rank)
        codes = torch.randint(1, n_rows, (CODES,), generator=generator)
        dist.barrier()
        started = time.perf_counter()
        step(codes)
        seconds.append(time.perf_counter() - started)
    status = Path("/proc/self/status").read_text()
    megabytes = int(re.findall(r"VmHWM:\s*(\d+)", status)[0]) / 2**10
    if rank == 0:
        print(json.dumps([1e3 * statistics.median(seconds[N_FIRST:]), megabytes]))
    dist.destroy_process_group()


def main() -> None:
    """Measure and print."""
    from benchmarks._common import arguments, write

    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torchrec", help="a Python that has torchrec")
    options = parser.parse_args()
    pythons = {"sktwotower": sys.executable, "torch": sys.executable}
    if options.torchrec is not None:
        pythons["TorchRec"] = options.torchrec
    found: dict[tuple[str, int], list[list[float]]] = {}
    for _, n_rows, way in itertools.product(range(options.repeats), options.rows, pythons):
        torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2".split()
        done = subprocess.run(
            [pythons[way], *torchrun, __file__, way, str(n_rows)],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
        found.setdefault((way, n_rows), []).append(json.loads(lines[-1]))
    rows = [
        {
            "way": way,
            "rows": n_rows,
            "ms a step": statistics.median(ms for ms, _ in turns),
            "peak MB": max(megabytes for _, megabytes in turns),
        }
        for (way, n_rows), turns in found.items()
    ]
    write("row_wise", rows, repeats=options.repeats)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in WAYS:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        main()
