"""A bundle's arrays, whose hashes a stranger's manifest would give.

byte 0, bit 0   1: the rest is exit.safetensors
        bit 1   1: the rest is context.safetensors; 0: prior.npy
"""

import tempfile
from pathlib import Path

import numpy as np

from spikebottlenet.bundle import (
    CONTEXT,
    EXIT_WEIGHTS,
    PRIOR,
    Bundle,
    Half,
    default_bundle,
    open_bundle,
)
from spikebottlenet.codec.context import decode, encode
from spikebottlenet.codec.context_file import read_context
from spikebottlenet.codec.frame import dense_bytes
from spikebottlenet.runtime.edge_exit import EdgeExit
from tests.fuzz.limits import Target

_SMALL = {"channels": 1, "side": 8, "after_stage": 4}  # one site a timestep: a prior of 4 bytes


def open_target() -> Target:
    """Load the file under a small architecture."""
    holder = tempfile.TemporaryDirectory(prefix="fuzz-weights-")
    manifest = open_bundle(default_bundle(), Half.EDGE).manifest
    architecture = manifest.architecture.model_copy(update=_SMALL)
    files = {name: digest for name, digest in manifest.files.items() if name != CONTEXT}
    small = manifest.model_copy(update={"architecture": architecture, "files": files})
    bundle = Bundle(Path(holder.name), small)

    def run(data: bytes) -> None:
        assert holder.name
        if data[:1] and data[0] & 1:
            bundle.path(EXIT_WEIGHTS).write_bytes(data[1:])
            EdgeExit.load(bundle.path(EXIT_WEIGHTS))
        elif data[:1] and data[0] & 2:
            bundle.path(CONTEXT).write_bytes(data[1:])
            model = read_context(bundle.path(CONTEXT), architecture.spike_shape)
            spikes = np.ones(architecture.spike_shape.bits, np.uint8)
            payload = encode(spikes, model)
            if len(payload) <= dense_bytes(spikes.size):
                assert (decode(payload, model, architecture.timesteps) == spikes).all()
        else:
            bundle.path(PRIOR).write_bytes(data[1:])
            prior = bundle.codec().prior
            assert prior.dtype == np.uint16
            assert prior.shape == tuple(architecture.spike_shape)

    return run
