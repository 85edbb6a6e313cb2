"""The nodes of an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktwotower.utils._extra import extra

OPSET = 18
_IR_VERSION = 9  # the version that goes with the opset

# Inputs or outputs of a graph: dtype and shape by name.
Declarations = dict[str, tuple[type[np.generic], list[str | int]]]


class Graph:
    """Collects the nodes and constants of an ONNX model."""

    def __init__(self) -> None:
        self._onnx: Any = extra("onnx", name="onnx", caller="export_onnx needs")
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a constant; return its name."""
        name = f"constant_{len(self._constants)}"
        array = np.require(np.asarray(value, dtype=dtype), requirements="C")
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def add(
        self, operator: str, *inputs: str, output: str | None = None, **attributes: Any
    ) -> str:
        """Add an operator; return the name of its output."""
        output = output or f"{operator}_{len(self._nodes)}"
        # Names tell nodes apart: some versions of onnxruntime fail to fuse nodes without.
        node = self._onnx.helper.make_node(
            operator, inputs, [output], name=output, **attributes
        )
        self._nodes.append(node)
        return output

    def add_top_k(self, scores: str, k: int) -> tuple[str, str]:
        """Add a search for the k largest of each row; return names of both outputs."""
        outputs = "top_scores", "top_columns"
        node = self._onnx.helper.make_node(
            "TopK", [scores, self.constant([k])], outputs, axis=1, largest=1, sorted=1
        )
        self._nodes.append(node)
        return outputs

    def model(self, name: str, inputs: Declarations, outputs: Declarations) -> Any:
        """Build the model of the nodes so far."""
        helper = self._onnx.helper

        def declare(values: Declarations) -> list[Any]:
            return [
                helper.make_tensor_value_info(
                    value, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
                )
                for value, (dtype, shape) in values.items()
            ]

        graph = helper.make_graph(
            self._nodes, name, declare(inputs), declare(outputs), self._constants
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="sktwotower",
        )
        model.ir_version = _IR_VERSION
        return model
