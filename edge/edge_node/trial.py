"""A trial of a bundle's edge half, before it takes the place of one that works."""

from pathlib import Path

import numpy as np

from spikebottlenet.bundle import EXIT_WEIGHTS, HEAD_ONNX, Half, open_bundle
from spikebottlenet.errors import BundleError, SpikeBottleNetError
from spikebottlenet.runtime.edge_exit import EdgeExit
from spikebottlenet.runtime.onnx_head import OnnxHead


def try_bundle(folder: Path) -> None:
    """Run one black image through head, codec and edge exit.

    Hashes say that files came whole, not that this device can run them.

    Raises:
        BundleError: where it fails.
    """
    bundle = open_bundle(folder, Half.EDGE)
    manifest = bundle.manifest
    side = manifest.preprocess.side
    try:
        codec = bundle.codec()
        head = OnnxHead(bundle.path(HEAD_ONNX), manifest.architecture, threads=1)
        spikes = head.run(np.zeros((1, side, side, 3), np.uint8)).spikes
        codec.decode_spikes(codec.encode_spikes(spikes[:, 0]))
        probabilities = EdgeExit.load(bundle.path(EXIT_WEIGHTS)).classify(spikes)
    except SpikeBottleNetError:
        raise
    except Exception as error:  # the engine's errors, and arrays that do not fit together
        raise BundleError(
            f"bundle {bundle.model} does not run here: {error}; export it again"
        ) from error
    if probabilities.shape != (1, len(manifest.class_names)):
        raise BundleError(
            f"edge exit of {bundle.model} gives {probabilities.shape[-1]} probabilities for "
            f"{len(manifest.class_names)} classes: export it again"
        )
