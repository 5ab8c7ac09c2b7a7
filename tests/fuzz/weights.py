"""A bundle's arrays, whose hashes a stranger's manifest would give.

byte 0, bit 0   0: the rest is prior.npy; 1: the rest is exit.safetensors
"""

import tempfile
from pathlib import Path

import numpy as np

from spikebottlenet.bundle import EXIT_WEIGHTS, PRIOR, Bundle, Half, default_bundle, open_bundle
from spikebottlenet.runtime.edge_exit import EdgeExit
from tests.fuzz.limits import Target

_SMALL = {"channels": 1, "side": 8, "after_stage": 4}  # one site a timestep: a prior of 4 bytes


def open_target() -> Target:
    """Load the file under a small architecture."""
    holder = tempfile.TemporaryDirectory(prefix="fuzz-weights-")
    manifest = open_bundle(default_bundle(), Half.EDGE).manifest
    architecture = manifest.architecture.model_copy(update=_SMALL)
    small = manifest.model_copy(update={"architecture": architecture})
    bundle = Bundle(Path(holder.name), small)

    def run(data: bytes) -> None:
        assert holder.name
        if data[:1] and data[0] & 1:
            bundle.path(EXIT_WEIGHTS).write_bytes(data[1:])
            EdgeExit.load(bundle.path(EXIT_WEIGHTS))
        else:
            bundle.path(PRIOR).write_bytes(data[1:])
            prior = bundle.codec().prior
            assert prior.dtype == np.uint16
            assert prior.shape == tuple(architecture.spike_shape)

    return run
