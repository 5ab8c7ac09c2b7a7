"""The tail on 8-bit integers, by ONNX Runtime: what the cloud runs on a processor. No torch.

Weights and activations between the decoder's first convolution and the classifier are 8-bit
(``lab.onnx_tail`` makes the file). Any number of timesteps goes through one graph: those that have
not come are silent, and the spikes of the others are divided by how many have.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from spikebottlenet.errors import BundleError
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.runtime.scores import Probabilities, softmax

INPUT = "spikes"  # float32 [B, T * C, H, W], each timestep's spikes over the number that came


class OnnxTail:
    """A session for each number of threads; ``classify`` from any thread."""

    def __init__(self, path: Path, architecture: Architecture, *, threads: Collection[int]) -> None:
        self._timesteps = architecture.timesteps
        try:
            self._sessions = {count: _session(path, count) for count in sorted(threads)}
        except Exception as error:  # onnxruntime's errors share no root but Exception
            raise BundleError(f"cannot load {path}: {error}") from error

    def classify(self, spikes: npt.NDArray[np.uint8], *, threads: int = 0) -> Probabilities:
        """Map spikes [t, B, C, H, W], t <= T, to probabilities [B, classes].

        On so many threads, if it was loaded for that many; else on one.
        """
        session = self._sessions.get(threads) or next(iter(self._sessions.values()))
        (logits,) = session.run(None, {INPUT: stacked_rates(spikes, self._timesteps)})
        return softmax(np.asarray(logits))


def stacked_rates(spikes: npt.NDArray[np.uint8], timesteps: int) -> npt.NDArray[np.float32]:
    """What the graph takes for spikes [t, B, C, H, W] of so many timesteps: [B, T * C, H, W]."""
    count, images = spikes.shape[:2]
    rates = np.empty((images, timesteps, *spikes.shape[2:]), dtype=np.float32)
    np.multiply(spikes.swapaxes(0, 1), np.float32(1 / count), out=rates[:, :count])
    rates[:, count:] = 0
    return rates.reshape(images, -1, *spikes.shape[3:])


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Batches run beside each other and beside gRPC: nobody spins for work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
