"""Image classification data sets, by public name or local path, decoded once.

A name or a folder of parquet files goes through the ``datasets`` library, so ``uoft-cs/cifar100``
and its local copy are the same code path; a folder of image files is walked. Decoded pixels lie on
disk as uint8 [N, H, W, 3] and are mapped into memory, so a data set may be larger than it. A folder
of an event camera's recordings becomes frames the same way, [N, H, W, T * 2].
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import DataError
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.data_cache import Cached, Chunk, cache_key, cached_or_made
from spikebottlenet.lab.data_corrupt import CorruptLimit
from spikebottlenet.lab.data_decode import decode_rows
from spikebottlenet.lab.data_rows import Labels, Rows
from spikebottlenet.lab.data_source import open_source

_CACHE_FORMAT = "images 1"
_IN_MEMORY_BYTES = 1 << 30  # a part of a split up to here is copied, a larger one gathered
Pixels = npt.NDArray[np.uint8]


class GatheredImages:
    """Some rows of a larger array, read when they are asked for; never whole in memory.

    ``images[rows]`` and ``images[a:b]`` are arrays [n, H, W, C] of their own.
    """

    def __init__(self, images: Pixels, rows: Labels) -> None:
        self._images = images
        self._rows = rows
        self.shape = (len(rows), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: "slice | Labels") -> Pixels:
        return self._images[self._rows[chosen]]

    def take(self, chosen: Labels) -> "GatheredImages":
        """Some of these rows."""
        return GatheredImages(self._images, self._rows[chosen])


@dataclass(frozen=True)
class ImageSplit:
    """Images of one split, in the order of the data set."""

    images: Pixels  # [N, H, W, C]; a GatheredImages where it would not fit in memory
    labels: Labels  # [N]
    class_names: tuple[str, ...]
    digests: npt.NDArray[np.uint64] | None = None  # [N], of the pixels
    corrupt: tuple[str, ...] = ()  # images that were left out: name and reason

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Labels) -> "ImageSplit":
        """A split of these rows."""
        digests = None if self.digests is None else self.digests[indices]
        images: Any = self.images
        if isinstance(images, GatheredImages):
            taken: Any = images.take(indices)
        elif len(indices) * images[:1].nbytes > _IN_MEMORY_BYTES:
            taken = GatheredImages(images, indices)
        else:
            taken = images[indices]
        return ImageSplit(taken, self.labels[indices], self.class_names, digests, self.corrupt)

    def sample(self, count: int) -> "ImageSplit":
        """``count`` rows drawn once and for all: the first of a folder would be of one class."""
        drawn = np.random.default_rng(0).permutation(len(self))[:count]
        return self.take(np.sort(drawn))


def load_split(
    name_or_path: str, split: str, wanted: Preprocess, settings: DataSettings | None = None
) -> ImageSplit:
    """Load ``train``, ``test`` or another split, each image as a bundle would see it.

    Images that cannot be decoded are left out, named and counted. Where the data set has no test
    split, ``test`` is a seeded part of each class of the training split, and ``train`` the rest.

    Raises:
        DataError: the data set cannot be found, has no such split or column, or too many images
            that cannot be decoded; or there is no room for the decoded ones.
    """
    options = settings or DataSettings()
    recordings = wanted.events is not None
    rows = open_source(name_or_path, options, recordings=recordings).rows(split)
    cached = _decoded(rows, wanted, CorruptLimit(rows.name, len(rows), options.max_corrupt))
    if not len(cached.labels):
        raise DataError(f"{rows.name} has no image: choose another split")
    if cached.labels.min() < 0:
        raise DataError(f"{rows.name} has images without a label (-1): choose another split")
    return ImageSplit(
        cached.images, cached.labels, rows.class_names, cached.digests, cached.corrupt
    )


def hold_out(whole: ImageSplit, count: float, *, seed: int) -> tuple[ImageSplit, ImageSplit]:
    """Part a training split into (rest, held-out) by a seeded shuffle.

    ``count`` are held out, or that share where it is below 1.
    """
    wanted = round(count * len(whole)) if 0 < count < 1 else int(count)
    if not 0 <= wanted < len(whole):
        raise DataError(
            f"cannot hold out {wanted} of {len(whole)} images: choose fewer as data.held_out, or a "
            "share such as 0.1"
        )
    order = np.random.default_rng(seed).permutation(len(whole))
    return whole.take(np.sort(order[wanted:])), whole.take(np.sort(order[:wanted]))


def _decoded(rows: Rows, wanted: Preprocess, limit: CorruptLimit) -> Cached:
    names = "\0".join(rows.class_names)
    key = cache_key(_CACHE_FORMAT, rows.content, names, wanted.model_dump_json())

    def chunks() -> Iterator[Chunk]:
        corrupt = list[str]()
        for done in decode_rows(rows, wanted):
            corrupt += done.corrupt
            limit.check(corrupt)
            yield Chunk(done.images, rows.labels[done.kept], done.digests, done.corrupt)

    cached = cached_or_made(key, chunks(), shape=wanted.shape, most=len(rows))
    limit.check(cached.corrupt)
    limit.say(cached.corrupt)
    return cached
