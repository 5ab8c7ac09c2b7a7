"""``tail.onnx``: the tail on 8-bit integers, by ONNX Runtime's post-training quantization.

Weights are symmetric, a scale for each output channel, on 7 bits: on processors without an 8-bit
dot product two products of 8-bit weights would overflow the 16 bits that they are added in. What
is between layers is unsigned, a scale for each tensor, from the least and greatest value that
calibration images give. The decoder's first convolution and the classifier stay in float32: a
thirtieth of the work, and most of the error.
Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, arXiv 1712.05877.
"""

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from spikebottlenet.bundle import TAIL_ONNX, TAIL_WEIGHTS
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.layers import TailKind
from spikebottlenet.runtime.folded_tail import FoldedDecoder
from spikebottlenet.runtime.onnx_tail import INPUT, stacked_rates
from spikebottlenet.runtime.torch_tail import load_folded

CALIBRATION_IMAGES = 512
_BATCH = 32
_OPSET = 17
_KINDS = ("Conv", "Relu", "Clip", "Add", "MaxPool", "GlobalAveragePool")  # that run on integers

Spikes = npt.NDArray[np.uint8]


def write_onnx_tail(folder: Path, architecture: Architecture, spikes: Spikes) -> bool:
    """Write a bundle's ``tail.onnx`` from its ``tail.safetensors``; whether there can be one.

    Calibrated on every prefix of the timesteps of ``spikes`` [T, N, C, H, W]. A spiking tail has no
    such form.
    """
    if architecture.tail is TailKind.SNN:
        return False
    tail = load_folded(folder / TAIL_WEIGHTS, architecture)
    with tempfile.TemporaryDirectory() as scratch:
        plain, shaped = Path(scratch, "plain.onnx"), Path(scratch, "shaped.onnx")
        _export(tail, stacked_rates(spikes[:, :1], len(spikes)), plain)
        quant_pre_process(str(plain), str(shaped), skip_symbolic_shape=True)
        quantize_static(
            str(shaped),
            str(folder / TAIL_ONNX),
            _Calibration(spikes),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_KINDS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[_first_convolution(shaped)],
        )
    return True


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # has no types
    def __init__(self, spikes: Spikes) -> None:
        self._batches = self._all(spikes)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self._batches, None)

    @staticmethod
    def _all(spikes: Spikes) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        for start in range(0, spikes.shape[1], _BATCH):
            for timesteps in range(1, len(spikes) + 1):
                batch = spikes[:timesteps, start : start + _BATCH]
                yield {INPUT: stacked_rates(batch, len(spikes))}


class _FromRates(nn.Module):
    def __init__(self, tail: nn.Module) -> None:
        super().__init__()
        self.tail = tail

    def forward(self, rates: torch.Tensor) -> torch.Tensor:
        decoder = self.tail.get_submodule("decoder")
        assert isinstance(decoder, FoldedDecoder)  # noqa: S101, load_folded makes no other
        return self.tail.classify(decoder.decode(rates))  # type: ignore[operator,no-any-return]


def _export(tail: nn.Module, example: npt.NDArray[np.float32], path: Path) -> None:
    with warnings.catch_warnings():
        # The other exporter wants a package that nothing else here needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)  # of tracing shapes, which do not change
        torch.onnx.export(
            _FromRates(tail).eval(),
            (torch.from_numpy(example),),
            str(path),
            input_names=[INPUT],
            output_names=["logits"],
            dynamic_axes={INPUT: {0: "images"}, "logits": {0: "images"}},
            opset_version=_OPSET,
            dynamo=False,
        )


def _first_convolution(path: Path) -> str:
    nodes = onnx.load_model(str(path), load_external_data=False).graph.node
    return next(str(node.name) for node in nodes if node.op_type == "Conv")
