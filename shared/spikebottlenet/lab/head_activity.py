"""What fires in a bundle's head, a mean over images, for energy estimates."""

import numpy as np
import numpy.typing as npt

from spikebottlenet.accounting.energy_head import Activity
from spikebottlenet.bundle import HEAD_ONNX, Bundle
from spikebottlenet.errors import DataError
from spikebottlenet.model.architecture import head_layers
from spikebottlenet.runtime.onnx_head import OnnxHead

_BATCH = 100


def head_activity(bundle: Bundle, images: npt.NDArray[np.uint8], *, threads: int) -> Activity:
    """Run images [N, side, side, 3] through the exact head.

    Raises:
        DataError: no images.
    """
    if len(images) == 0:
        raise DataError("no images to run the head on: choose another split or a higher limit")
    architecture = bundle.manifest.architecture
    head = OnnxHead(bundle.path(HEAD_ONNX), architecture, threads=threads)
    sums = [np.zeros((layer.side, layer.side)) for layer in head_layers(architecture)]
    for start in range(0, len(images), _BATCH):
        _, *fired = head.outputs(images[start : start + _BATCH])
        for total, maps in zip(sums, fired, strict=True):
            total += maps.sum(axis=0, dtype=np.float64)
    return Activity(tuple(total / len(images) for total in sums))
