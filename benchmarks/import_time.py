"""What importing the recommender takes beyond importing torch and scikit-learn.

    python -m benchmarks.import_time [--repeats 7]

Each import is timed in ``--repeats`` fresh processes that have imported torch and
scikit-learn before, in turns. ``import sklearn`` does not import what estimators are made
of: ``sklearn.callback`` is measured as well, which this package needs. It imports rich
where it is installed. Bytecode is read from its files, as after an installation, also
where PYTHONDONTWRITEBYTECODE is set.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import numpy as np

from benchmarks._common import write

PROGRAM = """
import time
{before}
clock, processor = time.perf_counter(), time.process_time()
import {names}
print(time.perf_counter() - clock, time.process_time() - processor)
"""
BASE = "torch, sklearn"
RECOMMENDER = "sktwotower._two_tower, sktwotower._persistence.loading"
IMPORTS = {BASE: "", RECOMMENDER: f"import {BASE}", "sklearn.callback": f"import {BASE}"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    for names in IMPORTS:
        seconds(names)  # compiles what has never been imported
    turns = np.array([[seconds(names) for names in IMPORTS] for _ in range(repeats)])
    rows = [
        {
            "import": names,
            "after": before.removeprefix("import "),
            "seconds median": float(np.median(clock)),
            "best": float(clock.min()),
            "worst": float(clock.max()),
            "of the processor": float(np.median(processor)),
        }
        for (names, before), (clock, processor) in zip(
            IMPORTS.items(), turns.transpose(1, 2, 0), strict=True
        )
    ]
    write("import_time", rows, repeats=repeats)


def seconds(names: str) -> tuple[float, float]:
    """Of the clock and of the processor, in a process of its own."""
    program = PROGRAM.format(names=names, before=IMPORTS[names])
    cached = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=cached,
    )
    clock, processor = map(float, done.stdout.split())
    return clock, processor


if __name__ == "__main__":
    main()
