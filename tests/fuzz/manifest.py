"""The bundle's manifest: the input is ``manifest.yaml`` beside the shipped bundle's other files."""

import tempfile
from pathlib import Path

from spikebottlenet.bundle import MANIFEST, Half, default_bundle, open_bundle
from tests.fuzz.limits import Target


def open_target() -> Target:
    """Open a bundle as an edge does, and read what a daemon reads of it."""
    holder = tempfile.TemporaryDirectory(prefix="fuzz-manifest-")
    folder = Path(holder.name)
    shipped = open_bundle(default_bundle(), Half.EDGE).manifest
    for name in shipped.files_of(Half.EDGE):
        (folder / name).symlink_to(default_bundle() / name)

    def run(data: bytes) -> None:
        assert holder.name
        (folder / MANIFEST).write_bytes(data)
        bundle = open_bundle(folder, Half.EDGE)
        manifest = bundle.manifest
        assert len(bundle.fingerprint) == 64
        assert len(manifest.class_names) == manifest.architecture.classes
        assert len(manifest.operations.tail_macs) == manifest.architecture.timesteps
        assert bundle.model.encode()
        assert bundle.codec().shape == manifest.architecture.spike_shape

    return run
