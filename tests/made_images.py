"""Folders of made images: classes told apart by which colour is strong, under noise."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue", "green", "red", "yellow")
_STRONG = {"blue": (0, 0, 1), "green": (0, 1, 0), "red": (1, 0, 0), "yellow": (1, 1, 0)}


def made_pixels(name: str, count: int, *, side: int, seed: int = 0) -> np.ndarray:
    """uint8 [N, side, side, 3]."""
    random = np.random.default_rng([seed, CLASSES.index(name)])
    noise = random.integers(0, 120, (count, side, side, 3))
    return (noise + 130 * np.asarray(_STRONG[name])).astype(np.uint8)


def write_images(folder: Path, pixels: np.ndarray, suffix: str = "png") -> None:
    """One file an image."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:04d}.{suffix}")


def write_classes(
    folder: Path,
    counts: dict[str, int],
    *,
    side: int = 16,
    seed: int = 0,
    suffix: str = "png",
) -> Path:
    """A folder a class."""
    for name, count in counts.items():
        write_images(folder / name, made_pixels(name, count, side=side, seed=seed), suffix)
    return folder
