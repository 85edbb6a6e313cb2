"""The transformer of a history as nodes of an ONNX graph."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn

from sktwotower._nn.attention import ReaderLayer, SequenceReader
from sktwotower._onnx.nodes import Graph

_MASKED = -1e9  # added to the scores of places that come later


def read_history(
    graph: Graph, reader: SequenceReader, vectors: np.ndarray, size: str
) -> str:
    """Vectors of the history field, (n, 1, width).

    Parameters
    ----------
    graph : Graph
        Has the inputs ``history_row``, ascending, and ``history_item``, by row and then by
        time.
    reader : SequenceReader
        The weights.
    vectors : ndarray of shape (n_items + 1, width)
        Embeddings of the items by code.
    size : str
        Name of the number of rows, (1,).
    """
    width = vectors.shape[1]
    one = graph.constant([1])
    known = graph.add("Greater", "history_item", graph.constant(0, np.int64))
    items = graph.add("Compress", "history_item", known, axis=0)
    rows = graph.add("Compress", "history_row", known, axis=0)
    ones = graph.add("Expand", one, graph.add("Shape", rows))
    zeros = graph.add("Expand", graph.constant([0]), size)
    counts = graph.add("ScatterElements", zeros, rows, ones, axis=0, reduction="add")
    ends = graph.add("CumSum", counts, graph.constant(0, np.int64))
    first = graph.add("Gather", graph.add("Sub", ends, counts), rows)
    number = _range(graph, graph.add("Shape", items))
    place = graph.add("Add", graph.add("Sub", number, first), one)
    longest = graph.add("ReduceMax", counts, keepdims=1)
    n_places = graph.add("Add", longest, one)  # (1,)
    at = graph.add("Add", graph.add("Mul", rows, n_places), place)
    cells = graph.add("Mul", size, n_places)
    empty = graph.add(
        "Expand",
        graph.constant(0.0, np.float32),
        graph.add("Concat", cells, graph.constant([width]), axis=0),
    )
    found = graph.add("Gather", graph.constant(vectors), items)
    grid = graph.add("ScatterND", empty, graph.add("Unsqueeze", at, one), found)
    shape = graph.add("Concat", size, n_places, graph.constant([width]), axis=0)
    grid = graph.add("Reshape", grid, shape)
    positions = reader.positions.detach().clone()
    positions[0] += reader.start.detach()
    table = graph.constant(positions.numpy())
    places = graph.add("Slice", table, graph.constant([0]), n_places, graph.constant([0]))
    hidden = graph.add("Add", grid, places)
    mask = _later_places(graph, n_places)
    for layer in reader.layers:
        assert isinstance(layer, ReaderLayer)
        hidden = _layer(graph, layer, hidden, mask, shape)
    hidden = _normed(graph, reader.norm, hidden)
    flat = graph.add("Reshape", hidden, graph.constant([-1, width]))
    last = graph.add("Add", graph.add("Mul", _range(graph, size), n_places), counts)
    return graph.add("Unsqueeze", graph.add("Gather", flat, last), one)


def _range(graph: Graph, size: str) -> str:
    """The numbers below ``size`` (1,)."""
    end = graph.add("Squeeze", size, graph.constant([0]))
    return graph.add("Range", graph.constant(0, np.int64), end, graph.constant(1, np.int64))


def _later_places(graph: Graph, n_places: str) -> str:
    """What is added to scores, (n_places, n_places): much less than 0 for later places."""
    shape = graph.add("Concat", n_places, n_places, axis=0)
    square = graph.add("Expand", graph.constant(_MASKED, np.float32), shape)
    return graph.add("Trilu", square, graph.constant(1, np.int64), upper=1)


def _layer(graph: Graph, layer: ReaderLayer, hidden: str, mask: str, shape: str) -> str:
    attended = _attended(graph, layer, _normed(graph, layer.attention_norm, hidden), mask)
    attended = graph.add("Reshape", attended, shape)
    hidden = graph.add("Add", hidden, _linear(graph, layer.attended, attended))
    wider, _, narrower = layer.layer
    inner = _linear(graph, wider, _normed(graph, layer.layer_norm, hidden))
    inner = _linear(graph, narrower, _gelu(graph, inner))
    return graph.add("Add", hidden, inner)


def _attended(graph: Graph, layer: ReaderLayer, hidden: str, mask: str) -> str:
    """The mixed values of all heads, (n, n_places, n_heads, width of a head)."""
    three = _linear(graph, layer.queries_keys_values, hidden)
    width = layer.queries_keys_values.in_features // layer.n_heads
    heads = graph.constant([0, 0, 3, layer.n_heads, width])
    three = graph.add("Reshape", three, heads)
    three = graph.add("Transpose", three, perm=[2, 0, 3, 1, 4])
    queries, keys, values = (
        graph.add("Gather", three, graph.constant(k, np.int64)) for k in range(3)
    )
    keys = graph.add("Transpose", keys, perm=[0, 1, 3, 2])
    scale = graph.constant(1 / math.sqrt(width), np.float32)
    scores = graph.add("Mul", graph.add("MatMul", queries, keys), scale)
    weights = graph.add("Softmax", graph.add("Add", scores, mask), axis=-1)
    return graph.add("Transpose", graph.add("MatMul", weights, values), perm=[0, 2, 1, 3])


def _linear(graph: Graph, layer: nn.Module, hidden: str) -> str:
    assert isinstance(layer, nn.Linear)
    weight, bias = _array(layer.weight).T, _array(layer.bias)
    product = graph.add("MatMul", hidden, graph.constant(weight))
    return graph.add("Add", product, graph.constant(bias))


def _normed(graph: Graph, norm: nn.LayerNorm, hidden: str) -> str:
    weights = graph.constant(_array(norm.weight)), graph.constant(_array(norm.bias))
    return graph.add("LayerNormalization", hidden, *weights, axis=-1, epsilon=norm.eps)


def _gelu(graph: Graph, hidden: str) -> str:
    """``x (1 + erf(x / sqrt 2)) / 2``."""
    root = graph.constant(1 / math.sqrt(2), np.float32)
    share = graph.add("Erf", graph.add("Mul", hidden, root))
    share = graph.add("Add", share, graph.constant(1.0, np.float32))
    half = graph.add("Mul", hidden, graph.constant(0.5, np.float32))
    return graph.add("Mul", half, share)


def _array(weight: Tensor) -> np.ndarray:
    array: np.ndarray = weight.detach().numpy()
    return array
