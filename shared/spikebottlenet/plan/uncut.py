"""The un-cut network whole and in parts, for ONNX Runtime (an edge) and for torch (a cloud).

Random weights: a bundle holds the cut network's alone. Norms are folded into convolutions.
"""

from collections.abc import Callable
from typing import NamedTuple

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from spikebottlenet.bench.peers.uncut import fold_norms
from spikebottlenet.lab.onnx_graph import Graph
from spikebottlenet.model.architecture import (
    STAGES,
    Architecture,
    stage_channels,
    stage_side,
)
from spikebottlenet.model.blocks import Block
from spikebottlenet.model.resnet import ResNet18

_OPSET, _IR_VERSION = 17, 8  # as the head's graph
_LAST = STAGES + 1  # pool and classifier


class Part(NamedTuple):
    """Consecutive pieces: 0 is the stem, 1 to 4 the stages, 5 pool and classifier."""

    name: str
    first: int
    last: int


PARTS = (
    Part("stem", 0, 0),
    *(Part(f"stage {stage}", stage, stage) for stage in range(1, STAGES + 1)),
    Part("pool and classifier", _LAST, _LAST),
)
WHOLE = Part("whole", 0, _LAST)


def uncut_network(architecture: Architecture) -> ResNet18:
    """Folded, in evaluation, channels last."""
    torch.manual_seed(0)
    network = ResNet18(width=architecture.width, classes=architecture.classes).eval()
    fold_norms(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
    return network.requires_grad_(False)


def input_shape(architecture: Architecture, part: Part) -> tuple[int, int, int]:
    """What a part takes of one image, [C, H, W]."""
    if part.first == 0:
        return (3, architecture.side, architecture.side)
    stage = max(1, part.first - 1)
    side = stage_side(architecture.side, stage)
    return (stage_channels(architecture.width, stage), side, side)


def output_shape(architecture: Architecture, part: Part) -> tuple[int, ...]:
    """What a part gives of one image: [C, H, W], or [classes]."""
    if part.last == _LAST:
        return (architecture.classes,)
    stage = max(1, part.last)
    side = stage_side(architecture.side, stage)
    return (stage_channels(architecture.width, stage), side, side)


def on_torch(network: ResNet18, part: Part) -> Callable[[torch.Tensor], torch.Tensor]:
    """A part as a function of features [B, C, H, W]."""

    def run(x: torch.Tensor) -> torch.Tensor:
        if part.first == 0:
            x = network.act1(network.conv1(x))
        for stage in range(max(1, part.first), min(STAGES, part.last) + 1):
            x = network.get_submodule(f"layer{stage}")(x)
        return network.fc(x.mean(dim=(2, 3))) if part.last == _LAST else x

    return run


def on_onnx(network: ResNet18, architecture: Architecture, part: Part) -> onnx.ModelProto:
    """A part as a graph, input ``features`` float32 [B, C, H, W], output ``out``."""
    graph = Graph()
    x = "features"
    if part.first == 0:
        x = graph.add("Relu", _convolve(graph, x, network.conv1, "conv1"))
    for stage in range(max(1, part.first), min(STAGES, part.last) + 1):
        for index, block in enumerate(network.get_submodule(f"layer{stage}").children()):
            if isinstance(block, Block):
                x = _block(graph, x, block, f"layer{stage}.{index}")
    if part.last == _LAST:
        pooled = graph.add("Flatten", graph.add("GlobalAveragePool", x), axis=1)
        weight, bias = (
            _values(graph, f"fc.{n}", network.fc.get_parameter(n)) for n in ("weight", "bias")
        )
        x = graph.add("Gemm", pooled, weight, bias, transB=1)
    graph.add("Identity", x, output="out")
    taken = ["B", *input_shape(architecture, part)]
    given = ["B", *output_shape(architecture, part)]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "uncut",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, taken)],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, given)],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="spikebottlenet",
    )
    onnx.checker.check_model(model)
    return model


def _block(graph: Graph, x: str, block: Block, name: str) -> str:
    shortcut = x
    if block.downsample is not None:
        shortcut = _convolve(graph, x, block.downsample[0], f"{name}.downsample")
    for order, (part, convolution) in enumerate(block.convolutions(), 1):
        x = _convolve(graph, x, convolution, f"{name}.{part}")
        if order == block.steps:
            x = graph.add("Add", x, shortcut)
        x = graph.add("Relu", x)
    return x


def _convolve(graph: Graph, x: str, convolution: nn.Module, name: str) -> str:
    if not isinstance(convolution, nn.Conv2d) or convolution.bias is None:
        raise ValueError(f"{name} has no folded convolution: fold the network first")
    side, stride = convolution.kernel_size[0], convolution.stride[0]
    return graph.add(
        "Conv",
        x,
        _values(graph, f"{name}.weight", convolution.weight),
        _values(graph, f"{name}.bias", convolution.bias),
        kernel_shape=[side] * 2,
        strides=[stride] * 2,
        pads=[side // 2] * 4,
    )


def _values(graph: Graph, name: str, tensor: torch.Tensor) -> str:
    return graph.constant(name, tensor.detach().contiguous().numpy())
