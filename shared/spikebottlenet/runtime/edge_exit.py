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

# What safetensors and NumPy raise for headers that make no sense to them.
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, AttributeError, SafetensorError)

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
            BundleError: it is not such a file, or its layers do not fit each other.
        """
        try:
            tensors = load_file(path)
            names = ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
            loaded = cls(*(tensors[name] for name in names))
        except _UNREADABLE as error:
            raise BundleError(f"cannot load {path}: {type(error).__name__}: {error}") from error
        loaded._check(path)
        return loaded

    def _check(self, path: Path) -> None:
        parts = (self.hidden_weight, self.hidden_bias, self.out_weight, self.out_bias)
        hidden, classes = self.hidden_bias.size, self.out_bias.size
        fits = (
            all(part.dtype == np.float32 for part in parts)
            and [part.ndim for part in parts] == [2, 1, 2, 1]
            and self.hidden_weight.shape[0] == hidden
            and self.out_weight.shape == (classes, hidden)
        )
        if not fits:
            shapes = ", ".join(f"{part.dtype} {list(part.shape)}" for part in parts)
            raise BundleError(
                f"{path} holds {shapes}, wanted float32 [hidden, in], [hidden], [classes, hidden], "
                "[classes]: copy the bundle again"
            )

    def classify(self, spikes: npt.NDArray[np.uint8]) -> Probabilities:
        """Map spikes [T, B, C, H, W] to probabilities [B, classes]."""
        rates = firing_rates(spikes)
        hidden = np.maximum(rates @ self.hidden_weight.T + self.hidden_bias, 0.0)
        return softmax(hidden @ self.out_weight.T + self.out_bias)


def firing_rates(spikes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Mean over timesteps of spikes [T, B, C, H, W], flat: [B, C * H * W]."""
    rates = spikes.mean(axis=0, dtype=np.float32)
    return np.asarray(rates.reshape(spikes.shape[1], -1), dtype=np.float32)
