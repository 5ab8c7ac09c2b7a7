"""The ordinary head's features, sent as float32, float16, 8-bit or 4-bit integers and Zstandard.

The integers' scale is chosen on held-out images among a few quantiles of training features. A
payload counts the bytes of a spike frame's header and checksum beside its own.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import zstandard

from spikebottlenet.accounting.operations import ann_head_macs
from spikebottlenet.codec.frame import OVERHEAD_BYTES
from spikebottlenet.lab.baselines.ground import Ground
from spikebottlenet.lab.baselines.quantise import CLIPS, levels, scale_for
from spikebottlenet.lab.baselines.tally import BATCH, Answers, Rival, count, rival_point
from spikebottlenet.lab.bundle_point import head_estimates
from spikebottlenet.lab.results import Method, Point

_CALIBRATION = 500  # training images
_ZSTD_LEVEL = 19  # as the spike codec's


class Form(NamedTuple):
    """How features are written."""

    name: str
    bits: int  # a value
    integer: bool


FORMS = (
    Form("float32", 32, integer=False),
    Form("float16", 16, integer=False),
    Form("8-bit", 8, integer=True),
    Form("4-bit", 4, integer=True),
)


def zstd_bytes(rows: npt.NDArray[np.generic]) -> list[int]:
    """Frame bytes of each row [B, ...] through Zstandard, without its optional fields."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _ZSTD_LEVEL,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_checksum=False,
        write_content_size=False,
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    return [
        len(compressor.compress(np.ascontiguousarray(row).tobytes())) + OVERHEAD_BYTES
        for row in rows
    ]


def packed_levels(integers: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Levels [B, n] of 8 bits as they are, of 4 bits two a byte."""
    if bits == 8:
        return integers
    if integers.shape[1] % 2:
        integers = np.pad(integers, ((0, 0), (0, 1)))
    return np.asarray(integers[:, 0::2] << 4 | integers[:, 1::2], dtype=np.uint8)


def features_rival(ground: Ground, form: Form, scale: float) -> Rival:
    """Head, features written and read, tail; ``scale`` is that of integers."""

    def answer(images: torch.Tensor) -> Answers:
        features = ground.uncut.features(ground.pixels.normalise(images), ground.cut)
        features = features.contiguous()
        if form.integer:
            integers = levels(features, scale, form.bits)
            received = integers * scale
            flat = integers.flatten(1).to(torch.uint8).numpy()
            rows: npt.NDArray[np.generic] = packed_levels(flat, form.bits)
        else:
            kept = features.half() if form.bits == 16 else features
            received, rows = kept.float(), kept.flatten(1).numpy()
        return Answers(ground.uncut.classify(received, ground.cut), zstd_bytes(rows))

    return answer


def chosen_scale(ground: Ground, bits: int) -> float:
    """The scale with the highest accuracy on the images for choosing; the widest of equals."""
    seen = training_features(ground)
    best, found = 0.0, -1.0
    for clip in CLIPS:
        scale = scale_for(seen, clip, bits)
        right = 0
        for start in range(0, len(ground.choosing), BATCH):
            images = torch.from_numpy(
                np.ascontiguousarray(ground.choosing.images[start : start + BATCH])
            )
            labels = torch.from_numpy(ground.choosing.labels[start : start + BATCH])
            with torch.inference_mode():
                features = ground.uncut.features(ground.pixels.normalise(images), ground.cut)
                received = levels(features, scale, bits) * scale
                answers = ground.uncut.classify(received, ground.cut).argmax(1)
            right += int((answers == labels).sum())
        if right >= found:
            best, found = scale, float(right)
    return best


def training_features(ground: Ground) -> torch.Tensor:
    """Features at the cut of some training images."""
    chosen = ground.train_split.sample(_CALIBRATION).images
    images = torch.from_numpy(np.ascontiguousarray(chosen))
    with torch.inference_mode():
        return ground.uncut.features(ground.pixels.normalise(images), ground.cut)


def features_points(ground: Ground, *, log: str, command: str) -> Iterator[Point]:
    """One point a form."""
    architecture = ground.architecture
    values = architecture.cut_channels * architecture.cut_side**2
    energy = head_estimates(architecture, ann_head_macs(architecture), 0)
    for form in FORMS:
        scale = chosen_scale(ground, form.bits) if form.integer else 1.0
        rival = features_rival(ground, form, scale)
        yield rival_point(
            ground,
            Method.FEATURES,
            f"{form.name} + zstd",
            count(rival, ground.test, title=f"features {form.name}"),
            bits=values * form.bits,
            energy=energy,
            log=log,
            command=command,
            chosen_on=ground.chosen_on if form.integer else "",
        )
