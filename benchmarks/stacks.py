"""Where a training spends its time, of the stacks that py-spy has sampled.

    py-spy record --rate 200 --format raw -o FILE -- python -m benchmarks.train [...]
    python -m benchmarks.stacks FILE

Prints shares of the samples that are within an epoch.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from benchmarks._common import write

# What a stack is counted for: the first of these of which it has a frame.
PHASES = {
    "Tensor.backward (": "gradients",
    "Tower.forward (": "towers forward",
    "Step.loss (": "loss",
    "LRScheduler": "optimizer and schedule",
    "zero_grad (": "optimizer and schedule",
    "LazyTables": "large tables",
    "Batches.epoch (": "drawing the batch",
    "Rows.take (": "gathering its inputs",
}


def main() -> None:
    """Add up and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    samples = shares_of(parser.parse_args().file.read_text().splitlines())
    total = sum(samples.values())
    rows = [
        {"phase": phase, "share": n / total, "samples": n}
        for phase, n in samples.most_common()
    ]
    write("stacks", rows)


def shares_of(lines: list[str]) -> Counter[str]:
    """Samples by phase; a line is the frames of a stack, ``;`` in between, and a number."""
    samples: Counter[str] = Counter()
    for line in lines:
        stack, n = line.rsplit(" ", 1)
        if "train (sktwotower/_nn/trainer.py" in stack:
            found = (name for part, name in PHASES.items() if part in stack)
            samples[next(found, "other")] += int(n)
    return samples


if __name__ == "__main__":
    main()
