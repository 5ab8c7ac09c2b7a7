"""What is measured: a bundle, images, and the frames that its edge would send for them."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikebottlenet.bench.images import ImageSet, load_images
from spikebottlenet.bench.machine import usable_cores
from spikebottlenet.bundle import HEAD_ONNX, Bundle, Half, bundle_folder, open_bundle
from spikebottlenet.errors import UnavailableError
from spikebottlenet.runtime.onnx_head import OnnxHead

Spikes = npt.NDArray[np.uint8]

_BATCH = 32
_HELP_WITHIN_S = 60.0


@dataclass(frozen=True)
class Subject:
    """One bundle under measurement."""

    bundle: Bundle
    bundle_name: str  # as daemons take it
    images: ImageSet
    spikes: Spikes  # [N, T, C, H, W]
    frames: tuple[bytes, ...]  # scheme auto, as an edge-node sends them
    quick: bool  # a run that shows that it works, whose figures say little
    folder: Path  # for logs and files of this run

    @property
    def fingerprint(self) -> bytes:
        """As an edge tells it to a cloud."""
        return bytes.fromhex(self.bundle.fingerprint)


@contextmanager
def prepared(bundle: str, data: str | None, *, count: int, quick: bool) -> Iterator[Subject]:
    """Load images, run the head on them, encode; files live as long as the block."""
    opened = open_bundle(bundle_folder(bundle), Half.LAB)
    images = load_images(data, opened.manifest.preprocess, count)
    head = OnnxHead(opened.path(HEAD_ONNX), opened.manifest.architecture, threads=usable_cores())
    spikes = np.concatenate(
        [
            head.run(images.pixels[start : start + _BATCH]).spikes.swapaxes(0, 1)
            for start in range(0, len(images.pixels), _BATCH)
        ]
    )
    spikes = np.ascontiguousarray(spikes)
    codec = opened.codec()
    frames = tuple(codec.encode_spikes(each) for each in spikes)
    with tempfile.TemporaryDirectory(prefix="spikebottlenet-bench-") as folder:
        yield Subject(opened, bundle, images, spikes, frames, quick, Path(folder))


def daemon_default(module: str, setting: str) -> int:
    """A daemon's default of a whole-number setting, as its own help says it.

    Raises:
        UnavailableError: it has no such setting.
    """
    return int(_default(module, setting, "N"))


def daemon_default_real(module: str, setting: str) -> float:
    """The same of a setting that may be any number."""
    return float(_default(module, setting, "X"))


@cache
def _default(module: str, setting: str, kind: str) -> str:
    text = subprocess.check_output(  # noqa: S603, our own module by our own interpreter
        [sys.executable, "-m", module, "--help"], text=True, timeout=_HELP_WITHIN_S
    )
    flag = f"--{setting.replace('_', '-')}"
    # An option begins two spaces in; what is said of it goes on further in.
    mine = [each for each in re.split(r"\n {2}(?=-)", text) if each.split()[:2] == [flag, kind]]
    found = re.search(r"\(default: ([\d.]+)\)", " ".join(mine[0].split())) if mine else None
    if found is None:
        raise UnavailableError(f"{module} --help names no default of {flag}: check its version")
    return found[1]
