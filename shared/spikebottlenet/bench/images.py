"""Images to measure with: a data set's held-out split, or pieces of photos that are at hand."""

import importlib.util
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import ConfigError, DataError

Pixels = npt.NDArray[np.uint8]

# Photos that scikit-image ships: colour, of things.
_PHOTOS = ("motorcycle_left.png", "coffee.png", "rocket.jpg", "clock_motion.png", "chelsea.png")


class ImageSet(NamedTuple):
    """Images as the head takes them."""

    pixels: Pixels  # [N, side, side, 3]
    source: str
    held_out: bool  # a data set's split that no training saw


class Encoding(NamedTuple):
    """A way to write an image file, as a client of a model server would."""

    name: str
    pillow_format: str
    quality: int | None = None
    optimised: bool = False  # the encoder's slower search for fewer bytes


ENCODINGS = (
    Encoding("PNG", "PNG", optimised=True),
    Encoding("JPEG q75", "JPEG", 75),  # as Pillow writes it, and most clients send it
    Encoding("JPEG q75 optimised", "JPEG", 75, optimised=True),
    Encoding("JPEG q95", "JPEG", 95),
    Encoding("WebP q80", "WEBP", 80),
)


def load_images(data: str | None, wanted: Preprocess, count: int) -> ImageSet:
    """``count`` images of a data set's test split, or of photos if no data set is named.

    Raises:
        ConfigError: the bundle is not for images.
        DataError: no such data set, or no photos.
    """
    if wanted.events is not None:
        raise ConfigError(
            "this bundle takes an event camera's recordings: a bench or profile sends images, so "
            "name a bundle of images"
        )
    if data is None:
        crops = _photo_crops(wanted.side, count)
        return ImageSet(crops, "pieces of scikit-image's photos", held_out=False)
    from spikebottlenet.lab.data import load_split

    split = load_split(data, "test", wanted)
    order = np.random.default_rng(0).permutation(len(split))[:count]
    return ImageSet(
        split.images[order],
        f"data set {Path(data).name!r}, test split, {len(order)} images at random",
        held_out=True,
    )


def image_file(pixels: Pixels, encoding: Encoding) -> bytes:
    """One image [side, side, 3] as the bytes of a file."""
    out = BytesIO()
    image = Image.fromarray(pixels)
    wanted: dict[str, Any] = {} if encoding.quality is None else {"quality": encoding.quality}
    if encoding.optimised:
        wanted["optimize"] = True
    image.save(out, encoding.pillow_format, **wanted)
    return out.getvalue()


def _photo_crops(side: int, count: int) -> Pixels:
    """Square pieces at random places and scales, the same each time."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DataError("no photos here: pip install scikit-image, or name a data set with --data")
    folder = Path(spec.origin).parent / "data"
    photos = [
        Image.open(folder / name).convert("RGB") for name in _PHOTOS if (folder / name).exists()
    ]
    if not photos:
        raise DataError(f"none of {', '.join(_PHOTOS)} in scikit-image: name data with --data")
    random = np.random.default_rng(0)
    pieces = []
    for index in range(count):
        photo = photos[index % len(photos)]
        edge = int(random.integers(min(side, *photo.size), min(photo.size)))
        left = int(random.integers(0, photo.width - edge + 1))
        top = int(random.integers(0, photo.height - edge + 1))
        box = (left, top, left + edge, top + edge)
        pieces.append(np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR, box=box)))
    return np.stack(pieces)
