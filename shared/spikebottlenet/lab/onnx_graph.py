"""An ONNX graph under construction, node by node."""

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Graph:
    """Nodes in order, each with a name of its own for its one output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(
        self, operator: str, *inputs: str, output: str | None = None, **attributes: object
    ) -> str:
        """Append a node; an attribute ``domain`` names the operator's set."""
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def split(self, source: str, parts: int, *, axis: int = 0, opset: int = 18) -> list[str]:
        """Append a node that cuts ``source`` into equal parts along an axis."""
        names = [f"split_{len(self.nodes)}_{part}" for part in range(parts)]
        told = {"num_outputs": parts} if opset >= 18 else {}  # before, as many as have names
        self.nodes.append(helper.make_node("Split", [source], names, axis=axis, **told))
        return names

    def constant(self, name: str, value: object) -> str:
        """Append an initializer."""
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name
