"""The web service of ``examples/app.py`` under load, while its model is replaced.

    python -m benchmarks.service [--seconds 20] [--clients 200]

Starts the service with one worker and a model of the bundled MovieLens data, and asks it
over loopback from ``--clients`` connections, each of which sends its next request as soon
as it has an answer. Of ten requests seven name a known user, one a user with five further
items, one a hundred candidates, and one is for similar items. Another process saves two
other models to the same place meanwhile, after a third of the time and after two thirds.
Latencies are those that the clients see. The memory is the resident size of the service:
before, when all requests are answered, and its peak. Needs what the example needs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._common import COLUMNS, bundled, write
from sktwotower import TwoTowerRecommender, load

EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass
class Load:
    """What clients ask, and what they get.

    Attributes
    ----------
    port : int
        Where the service listens on loopback.
    requests : list of bytes
        What is sent, one after the other.
    statuses : Counter
        Number of answers by status.
    seconds : list of float
        How long each answer took.
    """

    port: int
    requests: list[bytes]
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    async def run(self, n_clients: int, seconds: float) -> None:
        """Ask from so many connections for so long."""
        until = time.perf_counter() + seconds
        await asyncio.gather(
            *(self._client(number, n_clients, until) for number in range(n_clients))
        )

    async def _client(self, number: int, step: int, until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while time.perf_counter() < until:
            started = time.perf_counter()
            writer.write(self.requests[number % len(self.requests)])
            status, _ = await answer_of(reader)
            self.seconds.append(time.perf_counter() - started)
            self.statuses[status] += 1
            number += step
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of an HTTP answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    assert length is not None, head
    return int(head.split(maxsplit=2)[1]), await reader.readexactly(int(length[1]))


async def asked(port: int, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to a single request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    found = await answer_of(reader)
    writer.close()
    return found


def post(body: dict[str, Any]) -> bytes:
    """A request for recommendations."""
    content = json.dumps(body).encode()
    head = (
        "POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def get(path: str) -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def mixed_requests(model: TwoTowerRecommender, n: int = 2000) -> list[bytes]:
    """Requests of four kinds, drawn at random."""
    rng = np.random.default_rng(0)
    users, items = model.user_ids_.tolist(), model.item_ids_.tolist()
    requests = []
    for kind in rng.integers(10, size=n):
        user: dict[str, Any] = {"id": users[rng.integers(len(users))]}
        few = [items[i] for i in rng.integers(len(items), size=100)]
        if kind == 7:
            user["history"] = few[:5]
        if kind == 9:
            requests.append(get(f"/similar?item={few[0]}"))
        else:
            body = {"users": [user]} | ({"candidates": few} if kind == 8 else {})
            requests.append(post(body))
    return requests


def save_again(source: Path, path: Path | None) -> None:
    """Save the model of one place to another; None: only get ready for it."""
    model = load(source)
    if path is not None:
        model.save(path)


@contextmanager
def service(path: Path) -> Iterator[tuple[int, int]]:
    """The service of a model, ready to answer: its port and the id of its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = str(torch.get_num_threads())
    environment = {"MODEL": str(path), "OMP_NUM_THREADS": threads}
    command = ["-m", "uvicorn", "--app-dir", EXAMPLES, "app:app", "--port", str(port)]
    with subprocess.Popen(
        [sys.executable, *command, "--log-level", "warning"], env=os.environ | environment
    ) as process:
        try:
            wait_until_ready(process, port)
            yield port, process.pid
        finally:
            process.terminate()


def wait_until_ready(process: subprocess.Popen, port: int) -> None:
    """Return when the service has its model; RuntimeError if it ends before."""
    while process.poll() is None:
        try:
            status, _ = asyncio.run(asked(port, get("/ready")))
        except ConnectionError:
            status = 0
        if status == 200:
            return
        time.sleep(0.2)
    raise RuntimeError("The service has ended before it was ready.")


def megabytes(pid: int, name: str) -> float:
    """A size of a process, as Linux names it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(rf"{name}:\s*(\d+)", status)[0]) / 2**10


async def under_load(load: Load, n_clients: int, seconds: float, saver: Any) -> None:
    """Ask, and save two models meanwhile."""
    loop = asyncio.get_running_loop()

    async def replace() -> None:
        for save in saver:
            await asyncio.sleep(seconds / 3)
            await loop.run_in_executor(None, save)

    await asyncio.gather(load.run(n_clients, seconds), replace())


def measure(
    models: list[TwoTowerRecommender], *, n_clients: int, seconds: float
) -> dict[str, Any]:
    """A row of the table: the first model answers, and the others replace it."""
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
    ):
        sources = [Path(name) / str(number) for number in range(len(models))]
        for model, source in zip(models, sources, strict=True):
            model.save(source)
        served = Path(name) / "served"
        models[0].save(served)
        pool.submit(save_again, sources[0], None).result()
        savers = [
            lambda source=source: pool.submit(save_again, source, served).result()
            for source in sources[1:]
        ]
        with service(served) as (port, pid):
            requests = mixed_requests(models[0])
            asyncio.run(Load(port, requests[:200]).run(10, 1))  # warms it up
            before = megabytes(pid, "VmRSS")
            load = Load(port, requests)
            started = time.perf_counter()
            asyncio.run(under_load(load, n_clients, seconds, savers))
            took = time.perf_counter() - started
            time.sleep(2)  # for the last model that was saved
            _, metrics = asyncio.run(asked(port, get("/metrics")))
            after, peak = megabytes(pid, "VmRSS"), megabytes(pid, "VmHWM")
    loads = re.search(rb'recommender_model_loads_total{result="loaded"} (\d+)', metrics)
    milliseconds = 1e3 * np.array(load.seconds)
    return {
        "clients": n_clients,
        "requests": len(milliseconds),
        "failures": {s: n for s, n in sorted(load.statuses.items()) if s != 200},
        "models": int(loads[1]) if loads else 0,
        "requests/s": len(milliseconds) / took,
        "p50 ms": float(np.quantile(milliseconds, 0.5)),
        "p99 ms": float(np.quantile(milliseconds, 0.99)),
        "MB before": before,
        "MB after": after,
        "MB peak": peak,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 200])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    split = bundled()
    models = [
        TwoTowerRecommender(
            **COLUMNS, timestamp_column="timestamp", max_iter=2, random_state=seed
        ).fit(split.train)
        for seed in range(3)
    ]
    rows = [
        measure(models, n_clients=n_clients, seconds=options.seconds)
        for n_clients in options.clients
    ]
    write("service", rows, seconds=options.seconds)


if __name__ == "__main__":
    main()
