"""Ranks that are threads of one process, so that what they exchange is quick to test."""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from sktwotower._nn.distributed import Ranks

# Types of tensors that a process group of gloo or of NCCL can send.
SENT = {torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64}
SENT |= {torch.float32, torch.float64}


class ThreadRanks(Ranks):
    """One of several threads, which pass tensors over a common table."""

    def __init__(self, rank, size, barrier, table):
        super().__init__(rank, size)
        object.__setattr__(self, "barrier", barrier)
        object.__setattr__(self, "table", table)

    def pass_round(self, value):
        """The values of all threads."""
        self.table[self.rank] = value
        self.barrier.wait(timeout=30)
        values = [self.table[rank] for rank in range(self.size)]
        self.barrier.wait(timeout=30)
        return values

    def send(self, tensor):
        """The tensors of all threads, of a type that processes can send as well."""
        assert tensor.dtype in SENT
        return self.pass_round(tensor.clone())

    def start_sum(self, values):
        summed = sum(self.send(values))
        return lambda: summed

    def start_all_gather(self, values):
        gathered = torch.stack(self.send(values))  # of one shape
        return lambda: gathered

    def start_exchange(self, sent, n_sent, n_received):
        sizes = self.pass_round(n_sent)
        found = [one.split(n) for one, n in zip(self.send(sent), sizes, strict=True)]
        parts = [parts[self.rank] for parts in found]
        assert [len(part) for part in parts] == n_received
        received = torch.cat(parts)
        return lambda: received

    def exchange(self, sent, n_sent, n_received):
        return self.start_exchange(sent, n_sent, n_received)()

    def objects(self, own):
        yield from self.pass_round(own)

    def broadcast(self, tensors):
        for tensor in tensors:
            tensor.copy_(self.send(tensor)[0])


def on_ranks(size, call):
    """What a call returns on each of some ranks."""
    barrier, table = threading.Barrier(size), {}

    def run(rank):
        try:
            return call(ThreadRanks(rank, size, barrier, table))
        except BaseException:
            barrier.abort()  # the others do not wait
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))
