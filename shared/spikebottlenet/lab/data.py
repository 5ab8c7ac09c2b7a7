"""Image classification data sets, by public name or local path, decoded once into one array.

Everything goes through the ``datasets`` library, so ``uoft-cs/cifar100`` and a folder that holds
the same parquet files are the same code path. Decoded pixels are kept in memory as uint8
[N, H, W, 3] and cached on disk beside nothing that belongs to the user.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import DataError
from spikebottlenet.preprocess import fit_square

LABEL_COLUMNS = ("fine_label", "label", "labels")
IMAGE_COLUMNS = ("img", "image")


@dataclass(frozen=True)
class ImageSplit:
    """Images of one split, in the order of the data set."""

    images: npt.NDArray[np.uint8]  # [N, H, W, 3]
    labels: npt.NDArray[np.int64]  # [N]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64]) -> "ImageSplit":
        """A split of these rows."""
        return ImageSplit(self.images[indices], self.labels[indices], self.class_names)

    def first(self, count: int) -> "ImageSplit":
        """The first ``count`` rows."""
        return ImageSplit(self.images[:count], self.labels[:count], self.class_names)


def _cache_dir() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "spikebottlenet"


def _column(found: list[str], wanted: tuple[str, ...], what: str) -> str:
    for name in wanted:
        if name in found:
            return name
    raise DataError(f"no {what} column among {', '.join(found)}: wanted one of {', '.join(wanted)}")


def load_split(name_or_path: str, split: str, wanted: Preprocess) -> ImageSplit:
    """Load ``train`` or ``test`` of a data set, each image as a bundle would see it.

    Raises:
        DataError: the data set cannot be found, or has no such split or column.
    """
    try:
        rows = datasets.load_dataset(name_or_path, split=split)
    except (FileNotFoundError, ValueError, ConnectionError, OSError) as error:
        raise DataError(
            f"cannot load split {split!r} of {name_or_path!r}: {error}; "
            "give a public data set name or a folder of its files"
        ) from error
    image_column = _column(rows.column_names, IMAGE_COLUMNS, "image")
    label_column = _column(rows.column_names, LABEL_COLUMNS, "label")
    names = tuple(rows.features[label_column].names)
    key = hashlib.sha256(
        f"{rows._fingerprint}:{image_column}:{wanted.model_dump_json()}".encode()
    ).hexdigest()[:24]
    cached = _cache_dir() / f"{key}.npz"
    if cached.exists():
        with np.load(cached) as arrays:
            return ImageSplit(arrays["images"], arrays["labels"], names)
    images = np.stack([fit_square(row, wanted) for row in rows[image_column]])
    labels = np.asarray(rows[label_column], dtype=np.int64)
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_suffix(f".{os.getpid()}.npz")
    np.savez(partial, images=images, labels=labels)
    partial.replace(cached)
    return ImageSplit(images, labels, names)


def hold_out(whole: ImageSplit, count: int, *, seed: int) -> tuple[ImageSplit, ImageSplit]:
    """Part a training split into (rest, held-out) by a seeded shuffle; ``count`` are held out."""
    if not 0 <= count < len(whole):
        raise DataError(f"cannot hold out {count} of {len(whole)} images: choose fewer")
    order = np.random.default_rng(seed).permutation(len(whole))
    return whole.take(np.sort(order[count:])), whole.take(np.sort(order[:count]))
