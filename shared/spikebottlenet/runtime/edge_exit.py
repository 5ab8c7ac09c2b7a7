"""The edge exit: an answer from the bottleneck's firing rates alone, when the cloud is away.

rates = mean over timesteps of spikes, [C * H * W]
logits = W2 * ReLU(W1 * rates + b1) + b2
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from spikebottlenet.errors import BundleError
from spikebottlenet.runtime.scores import Probabilities, softmax

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EdgeExit:
    """Weights of the two layers."""

    hidden_weight: Weights  # [hidden, C * H * W]
    hidden_bias: Weights
    out_weight: Weights  # [classes, hidden]
    out_bias: Weights

    @classmethod
    def load(cls, path: Path) -> "EdgeExit":
        """Read ``exit.safetensors``.

        Raises:
            BundleError: it is not such a file.
        """
        try:
            tensors = load_file(path)
            return cls(
                tensors["hidden.weight"],
                tensors["hidden.bias"],
                tensors["out.weight"],
                tensors["out.bias"],
            )
        except (OSError, KeyError, SafetensorError) as error:
            raise BundleError(f"cannot load {path}: {error}") from error

    def classify(self, spikes: npt.NDArray[np.uint8]) -> Probabilities:
        """Map spikes [T, B, C, H, W] to probabilities [B, classes]."""
        rates = firing_rates(spikes)
        hidden = np.maximum(rates @ self.hidden_weight.T + self.hidden_bias, 0.0)
        return softmax(hidden @ self.out_weight.T + self.out_bias)


def firing_rates(spikes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Mean over timesteps of spikes [T, B, C, H, W], flat: [B, C * H * W]."""
    rates = spikes.mean(axis=0, dtype=np.float32)
    return np.asarray(rates.reshape(spikes.shape[1], -1), dtype=np.float32)
