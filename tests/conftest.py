"""Settings of the whole test suite."""

import os

# Before SciPy is imported: scikit-learn skips its array API checks without it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import torch

# On two threads the small batches of the tests take four times as long.
torch.set_num_threads(1)
