"""The head on ONNX Runtime: what the edge runs, and evaluation with it. Imports no torch."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from spikebottlenet.accounting.operations import fan_out, fixed_accumulates, stem_macs
from spikebottlenet.errors import BundleError
from spikebottlenet.model.architecture import Architecture

Spikes = npt.NDArray[np.uint8]


class HeadResult(NamedTuple):
    """Spikes of a batch and what they took."""

    spikes: Spikes  # [T, B, C, H, W] in {0, 1}
    macs: int  # of each image
    accumulates: npt.NDArray[np.int64]  # [B], from the spikes that fired
    activity: tuple[npt.NDArray[Any], ...] = ()  # each layer's spikes, [B, H, W]


class OnnxHead:
    """One inference session; ``run`` from one thread at a time."""

    def __init__(self, path: Path, architecture: Architecture, *, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # An idle edge device must not spin between images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The arena keeps freed blocks; so small a head does not need it, the device does.
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no root but Exception
            raise BundleError(f"cannot load {path}: {error}") from error
        self._path = path
        self._shape = (architecture.side, architecture.side, architecture.samples)
        outflows = [outflow.ravel() for outflow in fan_out(architecture)]
        self._fan_out = np.concatenate(outflows).astype(np.float64)  # of all layers, in a row
        self._macs = stem_macs(architecture)
        self._fixed = float(fixed_accumulates(architecture))

    def warm_up(self) -> None:
        """Run one black image, so that the first real one is as fast as the others.

        Raises:
            BundleError: the graph loads and does not run.
        """
        try:
            self.run(np.zeros((1, *self._shape), dtype=np.uint8))
        except Exception as error:  # as above
            raise BundleError(f"cannot run {self._path}: {error}") from error

    def outputs(self, pixels: npt.NDArray[np.uint8]) -> list[Any]:
        """The bare graph: spikes and every layer's activity, for pixels as ``run``'s."""
        return list(self._session.run(None, {"pixels": pixels}))

    def run(self, pixels: npt.NDArray[np.uint8]) -> HeadResult:
        """Run pixels [B, side, side, samples]: an image's three, or two for each event frame."""
        spikes, *activity = self.outputs(pixels)
        layers = [fired.reshape(len(pixels), -1) for fired in activity]
        fired = np.concatenate(layers, axis=1, dtype=np.float64)
        accumulates = fired @ self._fan_out + self._fixed
        return HeadResult(spikes, self._macs, accumulates.astype(np.int64), tuple(activity))
