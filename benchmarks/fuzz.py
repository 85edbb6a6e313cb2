"""Answers to interactions of random dtype, layout and order, against plain Python.

    python -m benchmarks.fuzz [--examples 2000] [--seed 0]

Each example has interactions as numbers, and the same interactions as a caller may have
them: a frame of pandas, polars or pyarrow, an array or a list; ids of any dtype; columns by
name or by position, in any order, beside others. Labels, weights and a feature may come
along. Then

- a model of that X is bit-equal to the model of a frame of ordinary columns;
- ``predict``, ``recommend``, ``similar_items`` and ``score`` agree with loops over Python
  values (``Plain``), and answer with ids that are equal to the caller's;
- an X with a fault (``FAULTS``) is refused with a ValueError or TypeError that names the
  argument or the column.

The first example that fails is printed in its smallest form. Two thousand models,
and as many faults, take a minute and a half on one core.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import re
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import PopularRecommender

UNKNOWN = 90  # the number of an id that no X has
# Scores that are nearer than this may be ranked in either order.
CLOSE = 1e-5

# For each kind of ids: the id of a number, and what dtypes a column of them may have.
KINDS: dict[str, tuple[Callable[[int], Any], list[Any]]] = {
    "integer": (
        lambda n: n,
        ["int8", "int16", "int64", "uint8", "uint32", "uint64", "Int64", "UInt16"]
        + ["float32", "float64", "Float64", object, "category", "int32[pyarrow]"],
    ),
    "large integer": (lambda n: 2**53 + 1 + n, ["int64", "uint64", "Int64", object]),
    "larger integer": (lambda n: 2**63 + n, ["uint64", "UInt64", object]),
    "negative integer": (lambda n: -1 - n, ["int8", "int64", "float64", "Int16", object]),
    "half": (lambda n: n + 0.5, ["float32", "float64", object]),
    "string": (
        lambda n: f"id {n}",
        [object, "string[python]", "string[pyarrow]", "category"],
    ),
    "digits": (lambda n: str(100 + n), [object, "string[python]", "category"]),
    "day": (
        lambda n: pd.Timestamp(2020, 1, 1) + pd.Timedelta(days=n),
        ["datetime64[ns]", "datetime64[s]", object],
    ),
    "date": (lambda n: dt.date(2020, 1, 1) + dt.timedelta(days=n), [object]),
    "bytes": (lambda n: f"id {n}".encode(), [object]),
    "uuid": (lambda n: uuid.UUID(int=n), [object]),
    "decimal": (lambda n: Decimal(n) + Decimal("0.1"), [object]),
    "tuple": (lambda n: ("shop", n), [object]),
}
# Arrow infers no uint64 from objects; polars turns dates into datetimes.
ARROW_HAS_NO = ("uuid", "tuple", "date", "larger integer")
# The feature of a user, and what dtypes a column of it may have.
FEATURES: dict[str, tuple[Callable[[int], Any], list[Any]]] = {
    "number": (lambda n: n / 2, ["float32", "float64", "Float64", object]),
    "integer": (lambda n: n, ["int8", "int64", "uint16", "Int32", "float64", object]),
    "category": (lambda n: "abcd"[n % 4], [object, "category", "string[pyarrow]"]),
    "flag": (lambda n: n % 2 == 0, ["bool", "boolean", object]),
    "tags": (lambda n: [["a", "b"], ["a"], ["b", "c"]][n % 3], [object]),
}
# What may be wrong with X, y or sample_weight, and what the message must say.
FAULTS = {
    "missing id": "'?who'?.* missing user id",
    "infinite id": "'?who'?.* infinite user id",
    "no such column": "user_column='whom'",
    "repeated name": "'who'",
    "no rows": "0 sample",
    "one column": "X has 1 feature",
    "sparse": "X",
    "short y": "\\by\\b",
    "missing label": "\\by\\b",
    "negative weight": "sample_weight",
}


@dataclass(frozen=True)
class Values:
    """A kind of ids or features, and the dtype of a column of them."""

    kind: str
    dtype: Any
    of_number: Callable[[int], Any]

    def __repr__(self) -> str:
        return f"{self.kind} as {self.dtype}"

    def __call__(self, number: int) -> Any:
        return self.of_number(number)

    def column(self, numbers: Sequence[int]) -> pd.Series:
        """A column as the caller has it."""
        values = [self(n) for n in numbers]
        if self.dtype == "category":
            return pd.Series(pd.Categorical(values))
        series = pd.Series(values, dtype=object)
        return series if self.dtype is object else series.astype(self.dtype)


@dataclass(frozen=True)
class Case:
    """Interactions as numbers, and how the caller has them."""

    model: str
    rows: list[tuple[int, int]]
    labels: list[int] | None
    weights: list[int] | None
    user_ids: Values
    item_ids: Values
    feature: Values | None
    layout: str
    order: list[str]
    index: str

    @property
    def has_names(self) -> bool:
        """Whether columns are found by name."""
        return self.layout in ("pandas", "polars", "pyarrow")

    def laid_out(self, rows: Sequence[tuple[int, int]]) -> Any:
        """Rows as the caller has them."""
        users, items = [user for user, _ in rows], [item for _, item in rows]
        columns = {"who": self.user_ids.column(users), "what": self.item_ids.column(items)}
        if self.has_names:
            columns["noise"] = pd.Series(np.arange(len(rows)) / 3)
            if self.feature is not None:
                columns["trait"] = self.feature.column(users)
            columns = {name: columns[name] for name in self.order if name in columns}
        frame = pd.DataFrame(columns)
        if self.layout == "list":
            return [list(row) for row in frame.astype(object).itertuples(index=False)]
        if self.layout == "object array":
            return frame.astype(object).to_numpy()
        if self.layout == "array":
            return frame.to_numpy()
        if self.layout in ("polars", "pyarrow"):
            table = pa.Table.from_pandas(frame, preserve_index=False)
            return table if self.layout == "pyarrow" else pl.from_arrow(table)
        if self.index == "reversed":
            frame.index = pd.RangeIndex(len(frame), 0, -1)
        elif self.index == "repeated":
            frame.index = pd.Index(["a"] * len(frame))
        return frame

    def ordinary(self) -> pd.DataFrame:
        """The interactions with numbers as ids."""
        frame = pd.DataFrame(self.rows, columns=["who", "what"])
        if self.feature is not None and self.has_names:
            frame["trait"] = [self.feature(user) for user in frame["who"]]
        return frame

    def estimator(self, **columns: str) -> Any:
        """The estimator of this example, not fitted."""
        if self.model == "popular":
            return PopularRecommender(**columns)
        features = ["trait"] if self.feature is not None and self.has_names else None
        return TwoTowerRecommender(
            **columns,
            user_features=features,
            embedding_dim=3,
            hidden_layer_sizes=None,
            max_iter=1,
            batch_size=8,
            random_state=0,
        )

    def fitted(self) -> Any:
        """The estimator fitted to X as the caller has it."""
        columns = {"user_column": "who", "item_column": "what"} if self.has_names else {}
        model = self.estimator(**columns)
        X = self.laid_out(self.rows)
        return model.fit(X, self.labels, sample_weight=self.weights)


class Plain:
    """Answers by loops over Python values, from a fitted model's vectors alone."""

    def __init__(self, case: Case, model: Any) -> None:
        kept = [True] * len(case.rows)
        if case.weights is not None:
            kept = [weight > 0 for weight in case.weights]
        labels = case.labels or [1] * len(case.rows)
        rows = [row for row, keep in zip(case.rows, kept, strict=True) if keep]
        liked = [y > 0 for y, keep in zip(labels, kept, strict=True) if keep]
        positive = [row for row, like in zip(rows, liked, strict=True) if like]
        self.users = list(dict.fromkeys(user for user, _ in rows))
        self.items = list(dict.fromkeys(item for _, item in rows))
        self.seen = set(rows)
        found = {item for _, item in positive}
        self.catalogue = [item for item in self.items if item in found]
        if case.model == "popular":
            counts = dict.fromkeys(self.items, 0)
            for row, weight in enumerate(case.weights or [1] * len(case.rows)):
                if labels[row] > 0 and weight > 0:
                    counts[case.rows[row][1]] += weight
            self.item_vectors: dict[int, Any] = {i: [n] for i, n in counts.items()}
            self.user_vectors: dict[int, Any] = {}
            self.unknown: Any = [1.0]
        else:
            self.item_vectors = dict(zip(self.items, model.item_embeddings_, strict=True))
            self.user_vectors = dict(zip(self.users, model.user_embeddings_, strict=True))
            self.unknown = model.user_tower_.transform(case.user_ids.column([UNKNOWN]))[0]

    def score(self, user: int, item: int) -> float:
        """Score of a user, known or not, and of a known item."""
        return _dot(self.user_vectors.get(user, self.unknown), self.item_vectors[item])

    def candidates(self, user: int, among: Sequence[int], hidden: set) -> list[int]:
        """Items of a list, best first, without hidden pairs; ties in order of training."""
        left = [i for i in self.items if i in among and (user, i) not in hidden]
        return sorted(left, key=lambda item: -self.score(user, item))

    def ndcg(self, pairs: Sequence[tuple[int, int]], *, exclude_seen: bool) -> float | None:
        """NDCG@10, all rows relevant; None where the order of two items is open."""
        relevant = {pair for pair in pairs if pair[1] in self.catalogue}
        hidden = self.seen if exclude_seen else set()
        if relevant <= hidden:
            hidden = hidden - relevant
        relevant -= hidden
        values = []
        for user in {user for user, _ in relevant}:
            ranking = self.candidates(user, self.catalogue, hidden)
            scores = [self.score(user, item) for item in ranking]
            gaps = [a - b for a, b in zip(scores, scores[1:], strict=False)]
            if any(0 < gap < CLOSE for gap in gaps):
                return None
            found = [(user, item) in relevant for item in ranking]
            values.append(_dcg(found[:10]) / _dcg(sorted(found, reverse=True)[:10]))
        return math.fsum(values) / len(values) if values else math.nan


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def _dcg(found: Sequence[bool]) -> float:
    return math.fsum(1 / math.log2(rank + 2) for rank, hit in enumerate(found) if hit)


# --- examples --------------------------------------------------------------------------


@st.composite
def values(draw: Any, kinds: dict[str, Any], without: Sequence[str] = ()) -> Values:
    """A kind and a dtype of it."""
    kind = draw(st.sampled_from([kind for kind in kinds if kind not in without]))
    of_number, dtypes = kinds[kind]
    return Values(kind, draw(st.sampled_from(dtypes)), of_number)


@st.composite
def cases(draw: Any) -> Case:
    """Interactions of random size, ids, layout and order."""
    number = st.integers(0, 7)
    rows = draw(st.lists(st.tuples(number, number), min_size=2, max_size=24))
    labels = draw(
        st.none() | st.lists(st.sampled_from([0, 1, 3]), min_size=24, max_size=24)
    )
    weights = draw(st.none() | st.lists(st.integers(0, 3), min_size=24, max_size=24))
    labels = None if labels is None else labels[: len(rows)]
    weights = None if weights is None else weights[: len(rows)]
    trained = zip(rows, labels or [1] * len(rows), weights or [1] * len(rows), strict=True)
    # There must be something to rank an item against.
    assume(len({item for (_, item), y, weight in trained if y > 0 and weight > 0}) > 1)
    layouts = ["pandas", "polars", "pyarrow", "list", "array", "object array"]
    layout = draw(st.sampled_from(layouts))
    without: tuple[str, ...] = ()
    if layout in ("polars", "pyarrow"):
        without = ARROW_HAS_NO
    elif layout == "list":
        without = ("tuple",)  # a list of lists with tuples in it is a 3-D array
    return Case(
        draw(st.sampled_from(["two towers", "two towers", "popular"])),
        rows,
        labels,
        weights,
        draw(values(KINDS, without)),
        draw(values(KINDS, without)),
        draw(st.none() | values(FEATURES)),
        layout,
        draw(st.permutations(["who", "what", "noise", "trait"])),
        draw(st.sampled_from(["plain", "reversed", "repeated"])),
    )


# --- checks ----------------------------------------------------------------------------


def check(case: Case, data: st.DataObject) -> None:
    """Check the answers of a model that is fitted to the interactions of a case.

    Parameters
    ----------
    case : Case
        The interactions.
    data : DataObject
        Draws the queries.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ids that are unknown, of another kind
        if is_inexact(case):
            refused(case.fitted, "user id|item id")
            return
        model = case.fitted()
        plain = Plain(case, model)
        assert ids_of(model.user_ids_) == [case.user_ids(user) for user in plain.users]
        assert ids_of(model.item_ids_) == [case.item_ids(item) for item in plain.items]
        if case.model == "two towers":
            check_ordinary(case, model)
            check_similar(case, plain, model, data)
        check_predict(case, plain, model, data)
        check_recommend(case, plain, model, data)
        check_score(case, plain, model, data)


def is_inexact(case: Case) -> bool:
    """Whether an array of the case has large ids as floats."""
    if case.layout != "array":
        return False
    dtype = np.result_type(case.laid_out(case.rows))
    kinds = {case.user_ids.kind, case.item_ids.kind}
    return dtype.kind == "f" and bool(kinds & {"large integer", "larger integer"})


def check_ordinary(case: Case, model: Any) -> None:
    """The same vectors as those of a frame of ordinary columns."""
    ordinary = case.estimator(user_column="who", item_column="what")
    ordinary.fit(case.ordinary(), case.labels, sample_weight=case.weights)
    assert np.array_equal(model.user_embeddings_, ordinary.user_embeddings_)
    assert np.array_equal(model.item_embeddings_, ordinary.item_embeddings_)


def check_predict(case: Case, plain: Plain, model: Any, data: st.DataObject) -> None:
    """A score for each row, of known items."""
    rows = data.draw(pairs(plain, case), label="rows of predict")
    expected = [plain.score(user, item) for user, item in rows]
    np.testing.assert_allclose(model.predict(case.laid_out(rows)), expected, atol=CLOSE)


def check_recommend(case: Case, plain: Plain, model: Any, data: st.DataObject) -> None:
    """The best items of users, among candidates and without pairs that are left out."""
    users = data.draw(st.lists(known_or_not(plain.users), min_size=1, max_size=4), "users")
    among = data.draw(st.none() | st.lists(known_or_not(plain.items), min_size=1), "among")
    left_out = data.draw(st.just([]) | pairs(plain, case), label="left out")
    seen = data.draw(st.booleans(), label="exclude_seen")
    found, scores = model.recommend(
        query(case, "user", users, data),
        n_recommendations=4,
        candidates=None
        if among is None
        else query(case, "item", among, data, frames=False),
        exclude_seen=seen,
        exclude_interactions=case.laid_out(left_out) if left_out else None,
    )
    hidden = set(left_out) | (plain.seen if seen else set())
    for user, ids, values in zip(users, found, scores, strict=True):
        items = plain.catalogue if among is None else among
        expected = plain.candidates(user, items, hidden)
        best = {item: plain.score(user, item) for item in expected}
        check_ranking(case.item_ids, best, ids, values)


def check_similar(case: Case, plain: Plain, model: Any, data: st.DataObject) -> None:
    """The nearest items of known items, which are not among them."""
    items = data.draw(
        st.lists(st.sampled_from(plain.items), min_size=1, max_size=4), "items"
    )
    asked = query(case, "item", items, data)
    found, scores = model.similar_items(asked, n_recommendations=3)
    for item, ids, values in zip(items, found, scores, strict=True):
        # Popularity, the entry after the others, is no likeness.
        taste = {
            i: vector[: model.embedding_dim_] for i, vector in plain.item_vectors.items()
        }
        best = {i: _dot(taste[item], taste[i]) for i in plain.catalogue if i != item}
        check_ranking(case.item_ids, best, ids, values)


def check_ranking(
    of_number: Values, best: dict[int, float], ids: Sequence[Any], values: Sequence[float]
) -> None:
    """The best of some items, in order of their scores; what is lacking is padding."""
    expected = sorted(best.values(), reverse=True)[: len(ids)]
    scores = {of_number(item): score for item, score in best.items()}
    answers = ids_of(ids[: len(expected)])
    assert len(set(answers)) == len(answers)
    np.testing.assert_allclose([scores[id_] for id_ in answers], expected, atol=CLOSE)
    np.testing.assert_allclose(values[: len(expected)], expected, atol=CLOSE)
    assert all(id_ is None for id_ in ids[len(expected) :])


def check_score(case: Case, plain: Plain, model: Any, data: st.DataObject) -> None:
    """NDCG@10 of some rows, whatever their order."""
    rows = data.draw(pairs(plain, case), label="rows of score")
    expected = plain.ndcg(rows, exclude_seen=True)
    if expected is not None:
        np.testing.assert_allclose(model.score(case.laid_out(rows)), expected, atol=1e-6)
        np.testing.assert_allclose(
            model.score(case.laid_out(rows[::-1])), expected, atol=1e-6
        )


def known_or_not(numbers: list[int]) -> st.SearchStrategy[int]:
    """Known numbers, and one that is not known."""
    return st.sampled_from([*numbers, UNKNOWN])


def pairs(plain: Plain, case: Case) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Some pairs of a user and a known item."""
    users = [*plain.users, UNKNOWN]
    if case.feature is not None and case.has_names:  # a new user has a feature of its own
        users = plain.users
    pair = st.tuples(st.sampled_from(users), st.sampled_from(plain.items))
    return st.lists(pair, min_size=1, max_size=8)


def query(
    case: Case, side: str, numbers: list[int], data: st.DataObject, *, frames: bool = True
) -> Any:
    """Ids of users or items as a caller may have them; in frames, too, where they fit."""
    ids = case.user_ids if side == "user" else case.item_ids
    column = ids.column(numbers)
    shapes = ["list", "array", "series", "pyarrow"]
    if frames and case.has_names:
        shapes += ["frame", "index"]
    shape = data.draw(st.sampled_from(shapes))
    if shape == "list":
        return [ids(number) for number in numbers]
    if shape == "array":
        return column.to_numpy()
    name = "who" if side == "user" else "what"
    if shape == "frame":
        return pd.DataFrame({"noise": 0.0, name: column})
    if shape == "index":
        return pd.DataFrame({"noise": 0.0}, index=pd.Index(column, name=name))
    if shape == "pyarrow" and ids.kind not in ARROW_HAS_NO and ids.dtype != "category":
        return pa.array(column, from_pandas=True)
    return column


def ids_of(ids: Any) -> list[Any]:
    """Ids as Python values."""
    return pd.Series(ids).tolist()


def check_fault(case: Case, fault: str) -> None:
    """A fault in X, y or sample_weight is refused with its name."""
    case = replace(case, feature=None)
    X, y, weights = case.ordinary(), None, None
    columns = {"user_column": "who", "item_column": "what"}
    if fault in ("missing id", "infinite id"):
        X = X.astype({"who": float})
        X.loc[0, "who"] = np.nan if fault == "missing id" else np.inf
    elif fault == "no such column":
        columns["user_column"] = "whom"
    elif fault == "repeated name":
        X = pd.concat([X, X[["who"]]], axis=1)
    elif fault == "no rows":
        X = X[:0]
    elif fault == "one column":
        X = X[["who"]]
    elif fault == "sparse":
        X = sp.csr_matrix(X.to_numpy())
    elif fault == "short y":
        y = [1] * (len(X) - 1)
    elif fault == "missing label":
        y = [np.nan] + [1.0] * (len(X) - 1)
    else:
        weights = [-1.0] + [1.0] * (len(X) - 1)
    refused(
        lambda: case.estimator(**columns).fit(X, y, sample_weight=weights), FAULTS[fault]
    )


def refused(call: Callable[[], Any], message: str) -> None:
    """Check that a call raises ValueError or TypeError with a message."""
    try:
        call()
    except (ValueError, TypeError) as error:
        assert re.search(message, str(error)), str(error)
    else:
        raise AssertionError(f"It was not refused: {message}.")


def main() -> None:
    """Check many examples, and say how many and how long."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the models are small
    several = settings(
        max_examples=options.examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    start = time.perf_counter()
    seed(options.seed)(several(given(cases(), st.data())(check)))()
    seed(options.seed)(
        several(given(cases(), st.sampled_from(list(FAULTS)))(check_fault))
    )()
    seconds = time.perf_counter() - start
    print(f"{options.examples} models and as many faults: no difference, {seconds:.0f} s.")


if __name__ == "__main__":
    main()
