"""The tail in float32, on torch: on GPUs, and where a bundle has no tail of integers."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from spikebottlenet.errors import BundleError
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.tail import Tail
from spikebottlenet.runtime.folded_tail import fold_tail
from spikebottlenet.runtime.scores import Probabilities


class TorchTail:
    """Decoder and tail, folded; ``classify`` from one thread at a time."""

    def __init__(self, path: Path, architecture: Architecture, *, device: str) -> None:
        try:
            self._device = torch.device(device)
            self._tail = load_folded(path, architecture).to(self._device)
            # How convolutions run fastest, on processors and GPUs.
            self._tail.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
        except RuntimeError as error:
            raise BundleError(f"cannot load {path} on {device!r}: {error}") from error

    def classify(self, spikes: npt.NDArray[np.uint8], *, threads: int = 0) -> Probabilities:
        """Map spikes [t, B, C, H, W], t <= T, to probabilities [B, classes].

        ``threads`` is for this thread's batches from now on; 0 changes nothing.
        """
        if threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            received = torch.from_numpy(spikes).to(self._device, torch.float32)
            probabilities = self._tail(received).softmax(dim=1)
        return np.asarray(probabilities.cpu().numpy(), dtype=np.float32)


def load_folded(path: Path, architecture: Architecture) -> nn.Module:
    """A tail from its file, as ``fold_tail`` gives it.

    Raises:
        BundleError: it is not such a file.
    """
    try:
        weights = {name: value.float() for name, value in load_file(path).items()}
        tail = Tail(architecture)
        tail.load_state_dict(weights)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise BundleError(f"cannot load {path}: {error}") from error
    return fold_tail(tail)
