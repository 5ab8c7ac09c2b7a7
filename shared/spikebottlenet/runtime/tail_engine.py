"""A bundle's tail, loaded by whichever engine runs it; each is imported once it is wanted."""

from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spikebottlenet.bundle import TAIL_ONNX, TAIL_WEIGHTS, Bundle
from spikebottlenet.errors import ConfigError
from spikebottlenet.runtime.scores import Probabilities


class Precision(StrEnum):
    """What a tail computes with."""

    AUTO = "auto"  # int8 on a cpu, where the bundle has it
    FLOAT32 = "float32"
    INT8 = "int8"


class TailEngine(Protocol):
    """Decoder and tail, ready to run."""

    def classify(self, spikes: npt.NDArray[np.uint8], *, threads: int = 0) -> Probabilities:
        """Map spikes [t, B, C, H, W], t <= T, to probabilities [B, classes].

        On so many threads of a processor; 0: as many as the last time, or the engine's own choice.
        """


def load_tail(bundle: Bundle, *, device: str, precision: Precision, threads: int) -> TailEngine:
    """Load a tail that runs on ``device``, on 1 and on ``threads`` threads of a processor.

    Raises:
        BundleError: its file cannot be used.
        ConfigError: the bundle or the device has no such tail.
    """
    has_integers = TAIL_ONNX in bundle.manifest.files
    if precision is Precision.INT8 and device != "cpu":
        raise ConfigError(
            f"precision is int8 on {device}: it runs on a cpu; say float32, or --device cpu"
        )
    if precision is Precision.INT8 and not has_integers:
        raise ConfigError(
            f"precision is int8, and {bundle.folder} has no {TAIL_ONNX}: say float32, or make one "
            "with `spikebottlenet model refit --only-tail`"
        )
    architecture = bundle.manifest.architecture
    if precision is Precision.FLOAT32 or device != "cpu" or not has_integers:
        from spikebottlenet.runtime.torch_tail import TorchTail

        return TorchTail(bundle.path(TAIL_WEIGHTS), architecture, device=device)
    from spikebottlenet.runtime.onnx_tail import OnnxTail

    return OnnxTail(bundle.path(TAIL_ONNX), architecture, threads={1, threads})
