"""Square pieces of real photos."""

from pathlib import Path

import numpy as np
from PIL import Image

_NAMES = ("motorcycle_left.png", "coffee.png", "rocket.jpg", "clock_motion.png", "chelsea.png")


def crop_photos(photo_folder: Path, count: int) -> np.ndarray:
    """So many pieces, the same each time, uint8 [count, 32, 32, 3]."""
    paths = [photo_folder / name for name in _NAMES]
    photos = [Image.open(path).convert("RGB") for path in paths if path.exists()]
    random = np.random.default_rng(0)
    pieces = []
    for index in range(count):
        image = photos[index % len(photos)]
        edge = int(random.integers(32, min(image.size)))
        left = int(random.integers(0, image.width - edge + 1))
        top = int(random.integers(0, image.height - edge + 1))
        box = (left, top, left + edge, top + edge)
        pieces.append(np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR, box=box)))
    return np.stack(pieces)


def write_crops(crops: np.ndarray, folder: Path) -> list[Path]:
    """The pieces as PNG files, in order."""
    paths = [folder / f"{index:04}.png" for index in range(len(crops))]
    for path, crop in zip(paths, crops, strict=True):
        Image.fromarray(crop).save(path)
    return paths
