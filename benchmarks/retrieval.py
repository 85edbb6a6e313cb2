"""Speed of exact and approximate search, and of `recommend`.

    python -m benchmarks.retrieval [--data DIR] [--n 1000000] [--threads 2] [--repeats 5]
                                   [--recommend]

1. The exact top 100 over n x 64 vectors, against faiss ``IndexFlatIP`` with the same
   number of threads: queries per second in batches of 1, 32 and 1024. The two searches
   are called in turn; medians of the repeats are shown.
2. A graph and lists over the same vectors: recall of the exact top 100, queries per second
   against the exact search, one by one and in a batch of 1024, seconds to build, bytes.
3. With ``--data``, a folder with train and test parquet, and a model with default
   parameters: milliseconds of `recommend` for one user (10 items, seen items excluded),
   median and 99th percentile, and users per second in one batch, exact and with an index.
   Also the memory that a process needs, beyond the model, to recommend for all users at
   once.

In Gaussian noise all vectors are equally far from each other. The vectors here resemble
the vectors of a trained model: 2000 clusters of Zipf sizes, with centres and with
differences from them (half as long) whose i-th coordinate is scaled by ``i ** -0.7``. A
query mixes three clusters, the first with the largest weight, and noise in all directions.
All vectors have unit length. `shape` shows the numbers by which this was chosen, for these
vectors and, with ``--data``, for the vectors of a model: the number of dimensions in use
(participation ratio of the covariance), the dimension of the neighbourhood of an item and
of a user (maximum-likelihood estimate from 50 neighbours), and the cosine with the nearest
and the 50th nearest item.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks._common import (
    BY_ID,
    COLUMNS,
    Anonymous,
    arguments,
    from_folder,
    write,
)
from sktwotower import TwoTowerRecommender
from sktwotower._search.faiss_index import FaissIndex, import_faiss, recall_of
from sktwotower._search.top_k import DotScores, top_k

DIM, K = 64, 100
INDEXES: dict[str, list[dict[str, int]]] = {
    "hnsw": [{}, {"efSearch": 256}],
    "ivf": [{}, {"nprobe": 64}],
}


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clusters(n: int, n_queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of items and of queries, unit length, float32."""
    rng = np.random.default_rng(0)
    scale = np.arange(1, DIM + 1, dtype=np.float32) ** -0.7
    scale /= np.linalg.norm(scale)
    centres = unit(rng.standard_normal((2000, DIM), dtype=np.float32) * scale)
    share = 1 / np.arange(10, 10 + len(centres))

    def around(n: int) -> np.ndarray:
        vectors = rng.standard_normal((n, DIM), dtype=np.float32)
        vectors *= 0.5 * scale
        vectors += centres[rng.choice(len(centres), n, p=share / share.sum())]
        return unit(vectors)

    tastes = around(n_queries) + 0.5 * around(n_queries) + 0.25 * around(n_queries)
    noise = rng.standard_normal((n_queries, DIM), dtype=np.float32) / DIM**0.5
    return around(n), unit(unit(tastes) + 0.5 * noise)


def shape(name: str, items: np.ndarray, users: np.ndarray) -> dict[str, object]:
    """Statistics of the vectors that matter to a search."""
    variances = np.linalg.eigvalsh(np.cov(items.T))
    row: dict[str, object] = {
        "vectors": f"{name}, {len(items)} items",
        "dimensions used": variances.sum() ** 2 / (variances**2).sum(),
    }
    for side, queries, first in (("item", items[:500], 1), ("user", users[:500], 0)):
        cosines = -np.sort(-(queries @ items.T), axis=1)[:, first : first + 50]
        distances = np.sqrt(np.maximum(2 - 2 * cosines, 1e-9))
        ratios = np.log(distances[:, :-1] / distances[:, -1:])
        row[f"{side} dimension"] = float(np.mean(-1 / ratios.mean(axis=1)))
        row[f"{side} 1st"] = float(cosines[:, 0].mean())
        row[f"{side} 50th"] = float(cosines[:, -1].mean())
    return row


def seconds(call: Callable[[], object]) -> float:
    """Duration of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def in_turn(
    one: Callable[[np.ndarray], object],
    other: Callable[[np.ndarray], object],
    queries: np.ndarray,
    size: int,
    repeats: int,
) -> tuple[float, float, float]:
    """Median queries per second of two searches, and the median of their ratios."""
    times = []
    for repeat in range(repeats if size > 100 else 20 * repeats):
        batch = np.roll(queries, repeat, axis=0)[:size]
        times.append([seconds(partial(search, batch)) for search in (one, other)])
    first, second = np.array(times).T
    median = np.median
    return size / median(first), size / median(second), median(second / first)


def exact(vectors: np.ndarray, queries: np.ndarray, repeats: int) -> list[dict]:
    """Exact search against the exact search of faiss."""
    flat = FaissIndex("flat", vectors)
    rows = []
    for size in (1, 32, len(queries)):
        here, faiss, ratio = in_turn(
            lambda batch: top_k(DotScores(batch, vectors), K),
            lambda batch: flat._index.search(batch, K),
            queries,
            size,
            repeats,
        )
        rows.append(
            {"batch": size, "queries/s": here, "IndexFlatIP": faiss, "times": ratio}
        )
    return rows


def approximate(vectors: np.ndarray, queries: np.ndarray, repeats: int) -> list[dict]:
    """Each index against the exact search."""
    best, _ = top_k(DotScores(queries, vectors), K)
    rows = []
    for name, variants in INDEXES.items():
        index = FaissIndex(name, vectors)
        defaults, n_bytes = index.parameters, index.n_bytes()
        for parameters in variants:
            index.parameters = {**defaults, **parameters}
            found, _ = index.search(queries, K)
            row: dict[str, object] = {
                "index": index.factory,
                "parameters": index.parameters,
                "recall": recall_of(found, best),
            }
            for size in (1, len(queries)):
                by_index, exactly, ratio = in_turn(
                    partial(index.search, k=K),
                    lambda batch: top_k(DotScores(batch, vectors), K),
                    queries,
                    size,
                    repeats,
                )
                row |= {
                    f"queries/s, {size}": by_index,
                    f"exact, {size}": exactly,
                    f"times, {size}": ratio,
                }
            rows.append(row | {"build s": index.build_seconds, "MB": n_bytes / 2**20})
    return rows


def recommend(
    model: TwoTowerRecommender, name: str, n_single: int, repeats: int
) -> list[dict]:
    """One user at a time, and all users at once."""
    users = np.random.default_rng(0).permutation(model.user_ids_)
    rows = []
    for index in (None, "hnsw"):
        model.build_index(index)
        single = [
            seconds(partial(model.recommend, [user])) for user in users[: n_single + 10]
        ]
        batch = [seconds(partial(model.recommend, users)) for _ in range(repeats)]
        p50, p99 = 1000 * np.quantile(single[10:], [0.5, 0.99])
        rows.append(
            {
                "data": name,
                "search": index or "exact",
                "p50 ms": p50,
                "p99 ms": p99,
                "users/s in batch": len(users) / np.median(batch),
            }
        )
    return rows


def memory(model: TwoTowerRecommender, threads: int) -> dict[str, object]:
    """Megabytes to recommend for all users, beyond the size of the model."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        megabytes = pool.submit(recommend_for_all, model, threads).result()
    return {"MB beyond the model": megabytes}


def recommend_for_all(model: TwoTowerRecommender, threads: int) -> float:
    """Peak megabytes of `recommend`, in a process that has only loaded the model."""
    torch.set_num_threads(threads)
    watch = Anonymous()
    time.sleep(0.1)
    before = watch.peak()
    model.recommend(model.user_ids_)
    return watch.peak() - before


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--n-single", type=int, default=2000)
    parser.add_argument("--recommend", action="store_true", help="the third part alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    import_faiss("The benchmark").omp_set_num_threads(options.threads)
    settings = {"n": options.n, "dim": DIM, "k": K, "repeats": options.repeats}
    with threadpool_limits(options.threads):
        shapes = [shape("planted", *clusters(3700, 500))]
        if options.data is not None:
            split = from_folder(options.data)
            model = TwoTowerRecommender(**COLUMNS, **BY_ID, random_state=0)
            if options.recommend:  # the time does not depend on the training
                model.set_params(max_iter=1)
            model.fit(split.train)
            vectors = model.item_embeddings_[model._state.catalogue - 1]
            shapes.append(shape(split.name, vectors, model.user_embeddings_))
            model.build_index(None)
            of_all = memory(model, options.threads)
            rows = recommend(model, split.name, options.n_single, options.repeats)
            rows[0] |= of_all
            write("retrieval_recommend", rows, **settings)
        write("retrieval_vectors", shapes)
        if options.recommend:
            return
        vectors, queries = clusters(options.n, 1024)
        write("retrieval_exact", exact(vectors, queries, options.repeats), **settings)
        rows = approximate(vectors, queries, options.repeats)
        write("retrieval_approximate", rows, **settings)


if __name__ == "__main__":
    main()
