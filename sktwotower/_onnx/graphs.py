"""Towers and top-k search as ONNX graphs, built node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from sktwotower._data.entities import Entities
from sktwotower._data.histories import PastItems
from sktwotower._nn.towers import Tower
from sktwotower._onnx.nodes import Declarations, Graph
from sktwotower._onnx.sequences import read_history

_MIN_NORM = 1e-12  # as in torch.nn.functional.normalize


def tower_graph(side: str, entities: Entities, tower: Tower, past: PastItems | None) -> Any:
    """The graph of a tower: codes, encoded features and histories to vectors.

    Parameters
    ----------
    side : {"user", "item"}
        The side of the tower, for the name of the graph.
    entities : Entities
        Rows of the id table by code, and the fields.
    tower : Tower
        The weights.
    past : PastItems or None
        How items are read in a history; None without one.
    """
    graph = Graph()
    inputs: Declarations = {"code": (np.int64, ["n"])}
    size = graph.add("Shape", "code")  # (1,)
    width = tower.dim
    parts = []
    if tower.id_table is not None:
        rows = graph.add("Gather", graph.constant(entities.id_codes, np.int64), "code")
        vectors = graph.add("Gather", _weights(graph, tower.id_table), rows)
        parts.append(graph.add("Unsqueeze", vectors, graph.constant([1])))
    if past is not None:
        inputs["history_row"] = (np.int64, ["n_history"])
        inputs["history_item"] = (np.int64, ["n_history"])
        if tower.reader is not None and past.vectors is not None:
            of_items = past.vectors.numpy()
            parts.append(read_history(graph, tower.reader, of_items, size))
        else:
            parts.append(_pooled_history(graph, tower, past.id_codes, size, width))
    table, slots, n_slots = _columns(entities, tower)
    if n_slots:
        inputs["feature_row"] = (np.int64, ["n_nonzero"])
        inputs["feature_column"] = (np.int64, ["n_nonzero"])
        inputs["feature_value"] = (np.float32, ["n_nonzero"])
        parts.append(_bags(graph, table, slots, n_slots, size, width))
    fields = graph.add("Concat", *parts, axis=1)  # (n, n_fields, width)
    if tower.is_sum:
        hidden = graph.add("ReduceSum", fields, graph.constant([1]), keepdims=0)
    else:
        hidden = _layers(graph, tower.mlp, graph.add("Flatten", fields, axis=1))
    if tower.normalize:
        hidden = _unit_length(graph, hidden)
    if entities.popularity is not None:
        last = graph.add("Gather", graph.constant(entities.popularity), "code")
        last = graph.add("Unsqueeze", last, graph.constant([1]))
        hidden, width = graph.add("Concat", hidden, last, axis=1), width + 1
    graph.add("Identity", hidden, output="vector")
    outputs: Declarations = {"vector": (np.float32, ["n", width])}
    return graph.model(f"{side}_tower", inputs, outputs)


def top_k_graph(vectors: np.ndarray, codes: np.ndarray, n_items: int, k: int) -> Any:
    """The graph of the search: user vectors and excluded pairs to item codes and scores.

    Parameters
    ----------
    vectors : ndarray of shape (n_catalogue, width)
        Vectors of the catalogue.
    codes : ndarray of shape (n_catalogue,)
        Item codes of the catalogue.
    n_items : int
        Number of known items, which is the largest code.
    k : int
        Length of the answers, at most ``n_catalogue``.
    """
    graph = Graph()
    n, width = vectors.shape
    scores = graph.add("MatMul", "vector", graph.constant(vectors.T))  # (n_queries, n)
    # Pairs whose item is not in the catalogue go to an additional column.
    size = graph.add("Shape", "vector", start=0, end=1)
    shape = graph.add("Concat", size, graph.constant([1]), axis=0)
    worst = graph.add("Expand", graph.constant(-np.inf, np.float32), shape)
    scores = graph.add("Concat", scores, worst, axis=1)
    column_of = np.full(n_items + 1, n, dtype=np.int64)
    column_of[codes] = np.arange(n)
    columns = graph.add("Gather", graph.constant(column_of), "exclude_item")
    rows = graph.add("Unsqueeze", "exclude_row", graph.constant([1]))
    columns = graph.add("Unsqueeze", columns, graph.constant([1]))
    pairs = graph.add("Concat", rows, columns, axis=1)
    minus_infinity = graph.add(
        "Expand", graph.constant(-np.inf, np.float32), graph.add("Shape", "exclude_row")
    )
    scores = graph.add("ScatterND", scores, pairs, minus_infinity)
    best, columns = graph.add_top_k(scores, k)
    items = graph.add("Gather", graph.constant([*codes.tolist(), 0]), columns)
    is_excluded = graph.add("IsInf", best)
    graph.add("Where", is_excluded, graph.constant(0, np.int64), items, output="item")
    graph.add("Identity", best, output="score")
    inputs: Declarations = {
        "vector": (np.float32, ["n", width]),
        "exclude_row": (np.int64, ["n_exclude"]),
        "exclude_item": (np.int64, ["n_exclude"]),
    }
    outputs: Declarations = {"item": (np.int64, ["n", k]), "score": (np.float32, ["n", k])}
    return graph.model("top_k", inputs, outputs)


def _weights(graph: Graph, tensor: torch.Tensor) -> str:
    return graph.constant(tensor.detach().numpy())


def _columns(entities: Entities, tower: Tower) -> tuple[np.ndarray, np.ndarray, int]:
    """Vectors and slots of the encoder's output columns, and the number of slots.

    A slot is the position of a field among the fields of features.
    """
    sparse, dense = entities.field_order()
    width = tower.dim
    table = np.zeros((entities.features.shape[1], width), dtype=np.float32)
    slots = np.zeros(len(table), dtype=np.int64)  # columns without a field add zeros
    start = 0
    for slot, name in enumerate([*sparse, *dense]):
        columns = entities.fields[name]
        slots[columns] = slot
        if slot < len(sparse):
            assert tower.column_table is not None
            end = start + columns.stop - columns.start
            table[columns], start = tower.column_table[start:end].detach().numpy(), end
        else:
            table[columns] = tower.dense_tables[slot - len(sparse)].detach().numpy()
    return table, slots, len(sparse) + len(dense)


def _bags(
    graph: Graph, table: np.ndarray, slots: np.ndarray, n_slots: int, size: str, width: int
) -> str:
    """Vectors of the fields of features, (n, n_slots, width)."""
    vectors = graph.add("Gather", graph.constant(table), "feature_column")
    values = graph.add("Unsqueeze", "feature_value", graph.constant([1]))
    vectors = graph.add("Mul", vectors, values)
    slot = graph.add("Gather", graph.constant(slots), "feature_column")
    bag = graph.add("Mul", "feature_row", graph.constant(n_slots, np.int64))
    bag = graph.add("Add", bag, slot)
    n_bags = graph.add("Mul", size, graph.constant([n_slots]))
    bags = _summed(graph, vectors, bag, n_bags, width)
    return graph.add("Reshape", bags, graph.constant([-1, n_slots, width]))


def _pooled_history(
    graph: Graph, tower: Tower, history_codes: np.ndarray, size: str, width: int
) -> str:
    """Vectors of the history field, (n, 1, width)."""
    assert tower.history_table is not None
    rows = graph.add("Gather", graph.constant(history_codes, np.int64), "history_item")
    known = graph.add("Greater", rows, graph.constant(0, np.int64))
    known = graph.add("Cast", known, to=1)  # float
    zeros = graph.add("Expand", graph.constant(0.0, np.float32), size)
    counts = graph.add(
        "ScatterElements", zeros, "history_row", known, axis=0, reduction="add"
    )
    counts = graph.add("Max", counts, graph.constant(1.0, np.float32))
    scale = graph.add("Reciprocal", graph.add("Sqrt", counts))
    weights = graph.add("Mul", graph.add("Gather", scale, "history_row"), known)
    weights = graph.add("Unsqueeze", weights, graph.constant([1]))
    vectors = graph.add("Gather", _weights(graph, tower.history_table), rows)
    if tower.has_unit_history:
        vectors = _unit_length(graph, vectors)
    vectors = graph.add("Mul", vectors, weights)
    pooled = _summed(graph, vectors, "history_row", size, width)
    return graph.add("Unsqueeze", pooled, graph.constant([1]))


def _unit_length(graph: Graph, vectors: str) -> str:
    """Vectors (n, width) of length 1."""
    norm = graph.add("ReduceL2", vectors, graph.constant([1]), keepdims=1)
    norm = graph.add("Max", norm, graph.constant(_MIN_NORM, np.float32))
    return graph.add("Div", vectors, norm)


def _summed(graph: Graph, vectors: str, bag: str, n_bags: str, width: int) -> str:
    """Sums of vectors by bag, (n_bags, width)."""
    shape = graph.add("Concat", n_bags, graph.constant([width]), axis=0)
    zeros = graph.add("Expand", graph.constant(0.0, np.float32), shape)
    rows = graph.add("Unsqueeze", bag, graph.constant([1]))
    return graph.add("ScatterND", zeros, rows, vectors, reduction="add")


def _layers(graph: Graph, layers: nn.Sequential, hidden: str) -> str:
    for layer in layers:
        if isinstance(layer, nn.Linear):
            hidden = graph.add(
                "Gemm",
                hidden,
                _weights(graph, layer.weight),
                _weights(graph, layer.bias),
                transB=1,
            )
        elif isinstance(layer, nn.BatchNorm1d):
            assert layer.running_mean is not None and layer.running_var is not None
            statistics = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
            hidden = graph.add(
                "BatchNormalization",
                hidden,
                *(_weights(graph, tensor) for tensor in statistics),
                epsilon=layer.eps,
            )
        elif isinstance(layer, nn.ReLU):
            hidden = graph.add("Relu", hidden)
        elif isinstance(layer, nn.Tanh):
            hidden = graph.add("Tanh", hidden)
        elif isinstance(layer, nn.SiLU):
            hidden = graph.add("Mul", hidden, graph.add("Sigmoid", hidden))
        elif isinstance(layer, nn.GELU):
            # x / 2 * (1 + erf(x / sqrt(2)))
            scaled = graph.add("Mul", hidden, graph.constant(0.5**0.5, np.float32))
            erf = graph.add("Erf", scaled)
            shifted = graph.add("Add", erf, graph.constant(1.0, np.float32))
            half = graph.add("Mul", hidden, graph.constant(0.5, np.float32))
            hidden = graph.add("Mul", half, shifted)
    return hidden  # without dropout, which is for training
