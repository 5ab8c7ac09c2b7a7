"""The image itself as a file, to the un-cut network in the cloud: PNG, JPEG, WebP, AVIF.

Each image is written at the network's own side, read again and classified; every quality is a
point of its own, so none is chosen. A JPEG of so few pixels is mostly tables: ``jpeg, tables once``
leaves out all that is the same for every image of a quality (quantisation and Huffman tables and
application segments), as if both sides knew it. A file has a header of its own, so no frame is
added.
"""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, features

from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.baselines.ground import Ground
from spikebottlenet.lab.baselines.tally import Answers, Rival, count, rival_point
from spikebottlenet.lab.bundle_point import head_estimates
from spikebottlenet.lab.results import Method, Point

QUALITIES = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
_START_OF_IMAGE, _START_OF_FRAME, _START_OF_SCAN = 0xD8, 0xC0, 0xDA


@dataclass(frozen=True)
class FileForm:
    """A file format and how Pillow is asked for it."""

    name: str
    format: str
    has_quality: bool
    options: dict[str, Any] = field(default_factory=dict)
    tables_once: bool = False


FILE_FORMS = (
    FileForm("png", "PNG", has_quality=False, options={"optimize": True}),
    FileForm("webp lossless", "WEBP", has_quality=False, options={"lossless": True, "method": 6}),
    FileForm("jpeg", "JPEG", has_quality=True, options={"optimize": True}),
    FileForm("jpeg, tables once", "JPEG", has_quality=True, tables_once=True),
    FileForm("webp", "WEBP", has_quality=True, options={"method": 6}),
    FileForm("avif", "AVIF", has_quality=True, options={"speed": 4, "max_threads": 1}),
)


class Written(NamedTuple):
    """One image as a file, and as the receiver sees it."""

    payload_bytes: int
    pixels: npt.NDArray[np.uint8]


def written(pixels: npt.NDArray[np.uint8], form: FileForm, quality: int | None) -> Written:
    """Write pixels [H, W, 3] and read them again."""
    options = form.options if quality is None else {**form.options, "quality": quality}
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form.format, **options)
    data = file.getvalue()
    with Image.open(io.BytesIO(data)) as image:
        received = np.asarray(image.convert("RGB"))
    return Written(jpeg_own_bytes(data) if form.tables_once else len(data), received)


def jpeg_own_bytes(data: bytes) -> int:
    """Bytes of a JPEG's markers, frame header and scan: without tables, APPn and comments.

    Segments: marker FF xx, then a length of two bytes that counts itself (ITU-T T.81, annex B).
    """
    at, own = 2, 2  # past the start of the image
    while at < len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            return own + len(data) - at
        if _START_OF_FRAME <= marker <= _START_OF_FRAME + 2:
            own += 2 + length
        at += 2 + length
    return own


def file_rival(
    ground: Ground, form: FileForm, quality: int | None, pool: ThreadPoolExecutor
) -> Rival:
    """Image file, un-cut network."""

    def answer(images: torch.Tensor) -> Answers:
        files = list(pool.map(lambda pixels: written(pixels, form, quality), images.numpy()))
        received = torch.from_numpy(np.stack([file.pixels for file in files]))
        logits = ground.uncut(ground.pixels.normalise(received))
        return Answers(logits, [file.payload_bytes for file in files])

    return answer


def image_points(
    ground: Ground, *, qualities: Sequence[int], log: str, command: str, threads: int
) -> Iterator[Point]:
    """One point a format and quality.

    Raises:
        ConfigError: a quality outside 0 to 100, or Pillow was built without a format.
    """
    if not all(0 <= quality <= 100 for quality in qualities):
        raise ConfigError(f"found qualities {list(qualities)}, wanted numbers from 0 to 100")
    missing = [name for name in ("jpg", "webp", "avif") if not features.check(name)]
    if missing:
        raise ConfigError(
            f"this Pillow has no {', '.join(missing)}: install 11.3 or newer from PyPI"
        )
    pixels = 3 * ground.architecture.side**2
    with ThreadPoolExecutor(threads) as pool:
        for form in FILE_FORMS:
            for quality in qualities if form.has_quality else (None,):
                setting = form.name if quality is None else f"{form.name} {quality}"
                yield rival_point(
                    ground,
                    Method.IMAGE,
                    setting,
                    count(file_rival(ground, form, quality, pool), ground.test, title=setting),
                    bits=8 * pixels,
                    energy=head_estimates(ground.architecture, 0, 0),
                    log=log,
                    command=command,
                )
