"""The tail on torch: what the cloud runs, and evaluation with it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from spikebottlenet.errors import BundleError
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.tail import Tail
from spikebottlenet.runtime.folded_tail import fold_tail
from spikebottlenet.runtime.scores import Probabilities


class TorchTail:
    """Decoder and tail, folded; ``classify`` from one thread at a time."""

    def __init__(self, path: Path, architecture: Architecture, *, device: str) -> None:
        try:
            weights = {name: value.float() for name, value in load_file(path).items()}
            tail = Tail(architecture)
            tail.load_state_dict(weights)
            self._device = torch.device(device)
            self._tail = fold_tail(tail).to(self._device)
            # How convolutions run fastest, on processors and GPUs.
            self._tail.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
        except (OSError, RuntimeError, SafetensorError) as error:
            raise BundleError(f"cannot load {path} on {device!r}: {error}") from error

    def classify(self, spikes: npt.NDArray[np.uint8]) -> Probabilities:
        """Map spikes [t, B, C, H, W], t <= T, to probabilities [B, classes]."""
        with torch.inference_mode():
            received = torch.from_numpy(spikes).to(self._device, torch.float32)
            probabilities = self._tail(received).softmax(dim=1)
        return np.asarray(probabilities.cpu().numpy(), dtype=np.float32)
