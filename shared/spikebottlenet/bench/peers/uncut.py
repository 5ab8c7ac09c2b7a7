"""The un-cut network as a model server runs it: image file in, best five classes out.

Its weights are random (the bundle holds the cut network's alone), which changes neither its time
nor its bytes; it is given what is free on torch: norms folded into convolutions (as in our tail),
channels-last memory and inference mode.
"""

from io import BytesIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from spikebottlenet.bundle import Bundle, Half, bundle_folder, open_bundle
from spikebottlenet.model.blocks import Block, fold_norm
from spikebottlenet.model.exact import PixelScale
from spikebottlenet.model.uncut import UncutNetwork, uncut_network
from spikebottlenet.runtime.scores import best_classes

Pixels = npt.NDArray[np.uint8]

# Of pixels / 255, CIFAR-100's: what the network is trained with (lab.config has the same).
_SCALE = PixelScale((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


class Uncut:
    """The network and what stands before and behind it; from one thread at a time."""

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        architecture = bundle.manifest.architecture
        network = uncut_network(architecture).eval()
        fold_norms(network)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
        self._network = network
        self._names = bundle.manifest.class_names
        self._side = architecture.side

    def decode(self, data: bytes) -> Pixels:
        """An image file to uint8 [side, side, 3]."""
        with Image.open(BytesIO(data)) as image:
            pixels = image.convert("RGB")
        if pixels.size != (self._side, self._side):
            pixels = pixels.resize((self._side, self._side))
        return np.asarray(pixels)

    def classify(self, images: list[Pixels]) -> list[dict[str, float]]:
        """The five most probable classes of each image, by name."""
        with torch.inference_mode():
            batch = _SCALE.normalise(torch.from_numpy(np.stack(images)))
            probabilities = self._network(batch).softmax(dim=1).numpy()
        return [
            {self._names[s.class_index]: round(s.probability, 4) for s in best_classes(row)}
            for row in probabilities
        ]


def fold_norms(network: UncutNetwork) -> None:
    """Fold every norm of a network in evaluation into its convolution, in place."""
    for module in list(network.modules()):
        if isinstance(module, Block):
            module.fold_norms()
    fold_norm(network, "conv1", "bn1")


def load_uncut(bundle: str, *, threads: int) -> Uncut:
    """The un-cut network of a bundle's architecture."""
    return Uncut(open_bundle(bundle_folder(bundle), Half.CLOUD), threads=threads)
