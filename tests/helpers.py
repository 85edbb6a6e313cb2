"""What tests of several rooms need: small models, rows, comparisons and parameter sets."""

import importlib.util
import mmap
import os
import runpy
import sys
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.fixes import parse_version

from sktwotower import TwoTowerRecommender

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

# The columns of the data that come with the package.
NAMES = {"user_column": "user_id", "item_column": "item_id"}


def make_model(**parameters):
    """A model that is fitted in a moment; parameters replace the defaults here."""
    defaults = dict(embedding_dim=4, max_iter=2, batch_size=32, random_state=0)
    return TwoTowerRecommender(**defaults | parameters)


def make_X(seed=0, n_rows=90, n_users=12, n_items=9):
    """Random interactions in a random order of time."""
    rng = np.random.RandomState(seed)
    return pd.DataFrame(
        {
            "user": rng.randint(0, n_users, n_rows),
            "item": rng.randint(0, n_items, n_rows),
            "time": rng.permutation(n_rows),
        }
    )


def other_pairs(rows, seen):
    """The rows whose pair of user and item is not among other rows."""
    both = pd.concat([seen[["user", "item"]], rows[["user", "item"]]])
    repeated = both.duplicated().to_numpy()[len(seen) :]
    return rows[~repeated].reset_index(drop=True)


def parity(seed=0, n_users=40, n_items=30, n_each=10):
    """Even users take even items at random, odd users take odd ones."""
    rng = np.random.RandomState(seed)
    users = np.repeat(np.arange(n_users), n_each)
    items = np.concatenate(
        [
            rng.choice(np.arange(user % 2, n_items, 2), n_each, replace=False)
            for user in range(n_users)
        ]
    )
    return pd.DataFrame({"user": users, "item": items}).sample(frac=1, random_state=rng)


# --- comparisons ---------------------------------------------------------------------


def same_embeddings(one, other):
    """Whether two models have the same embeddings, bit by bit."""
    return np.array_equal(one.user_embeddings_, other.user_embeddings_) and np.array_equal(
        one.item_embeddings_, other.item_embeddings_
    )


def assert_same_answer(one, other, atol=0.0):
    """Two answers of ``recommend`` or ``similar_items``: the same ids and scores."""
    assert one[0].tolist() == other[0].tolist()
    np.testing.assert_allclose(one[1], other[1], rtol=0, atol=atol)


def is_mapped(array):
    """Whether an array is a view of a file that is mapped into memory."""
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, memoryview):
        array = array.obj
    return isinstance(array, mmap.mmap)


# --- other versions ------------------------------------------------------------------

# The setting sparse_interface and sklearn.callback are new there. A test that sets a
# callback of its own needs no mark: see conftest.py.
needs_sklearn_1_9 = pytest.mark.skipif(
    importlib.util.find_spec("sklearn.callback") is None, reason="needs scikit-learn 1.9"
)


needs_pandas_3 = pytest.mark.skipif(
    parse_version(pd.__version__) < parse_version("3"), reason="needs pandas 3"
)
# pandas before 2.3 does not read the zones of a later dateutil.
BERLIN = "dateutil/Europe/Berlin"
if parse_version(pd.__version__) < parse_version("2.3"):
    BERLIN = "Europe/Berlin"


# --- other processes and files -------------------------------------------------------


def one_thread():
    """Environment of a subprocess that imports this tree and computes on one thread."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def example(name):
    """A script of ``examples``, imported as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_example(monkeypatch, name, *arguments):
    """Run a script of ``examples`` as a shell would, but in this process."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


# --- parameters ----------------------------------------------------------------------


def pairwise(options):
    """Few combinations in which each pair of values of two parameters occurs.

    Greedy and deterministic: each new combination starts from the first pair that has not
    occurred yet, and takes for every other parameter the value that adds most pairs.

    Parameters
    ----------
    options : dict of str to list
        The values of each of at least two parameters.

    Returns
    -------
    combinations : list of dict
    """
    names = list(options)

    def pairs_of(places):
        return set(combinations(sorted(places.items()), 2))

    left = {
        ((a, i), (b, j)): None
        for a, b in combinations(range(len(names)), 2)
        for i, j in product(range(len(options[names[a]])), range(len(options[names[b]])))
    }
    found = []
    while left:
        places = dict(next(iter(left)))
        for name in range(len(names)):
            if name not in places:
                gains = [
                    sum(pair in left for pair in pairs_of(places | {name: value}))
                    for value in range(len(options[names[name]]))
                ]
                places[name] = int(np.argmax(gains))
        for pair in pairs_of(places):
            left.pop(pair, None)
        found.append({name: options[name][places[n]] for n, name in enumerate(names)})
    return found
