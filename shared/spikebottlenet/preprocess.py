"""Any image that Pillow opens to the pixels that the head takes: uint8 [side, side, 3], RGB.

Upright by its EXIF orientation, first frame, transparency over the bundle's mean colour, 16-bit and
floating-point samples scaled to 8, then the centre square (``crop`` of the shorter side) resized to
``side`` x ``side``. An image of that size is taken whole. Images are hostile input: sizes are read
from the header and refused before anything is decoded.
"""

import io
from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import ImageError, SpikeBottleNetError, TooLargeError

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom

# Decoded and turned or cropped, 8 bytes a pixel at most: 400 MB. Pillow keeps RGB in 4 bytes. A
# JPEG takes far less (see draft); a small device should allow fewer pixels.
MAX_IMAGE_PIXELS = 50_000_000
_TILE_PIXELS = 1 << 16
_DRAFT_FACTOR = 4  # a JPEG is decoded at no less than this many times the side wanted
_REFUSED_FORMATS = {"EPS"}  # Pillow starts an outside interpreter for it


def read_image(
    data: bytes, wanted: Preprocess, *, max_image_pixels: int = MAX_IMAGE_PIXELS
) -> Pixels:
    """Decode the bytes of an image file to uint8 [side, side, 3].

    Raises:
        ImageError: empty, truncated or not an image.
        TooLargeError: more pixels than ``max_image_pixels``.
    """
    if not data:
        raise ImageError("image is empty (0 bytes): give the bytes of an image file")
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            width, height = image.size
            if width * height > max_image_pixels:
                raise TooLargeError(
                    f"image is {width} x {height}, wanted at most {max_image_pixels} pixels: "
                    "scale it down, or raise max_image_pixels"
                )
            image.draft("RGB", (wanted.side * _DRAFT_FACTOR, wanted.side * _DRAFT_FACTOR))
            return fit_square(image, wanted)
    except SpikeBottleNetError:
        raise
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"image has too many pixels: {error}; scale it down") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{len(data)} bytes are not an image of a known format (they start with "
            f"{data[:8].hex()}): give a JPEG, PNG, WebP or the like"
        ) from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        raise ImageError(
            f"image of {len(data)} bytes cannot be decoded ({error}): it is damaged or cut short"
        ) from error


def fit_square(image: Image.Image, wanted: Preprocess) -> Pixels:
    """Turn ``image`` upright, and give its centre square on 8 bits, RGB, uint8 [side, side, 3]."""
    ImageOps.exif_transpose(image, in_place=True)  # a copy would be held beside the original
    box, size = (0, 0, *image.size), (wanted.side, wanted.side)
    if image.size != size:
        # Cropping first keeps a 1 x 50,000,000 strip from being blown up.
        width, height = image.size
        edge = max(1, round(wanted.crop * min(width, height)))
        left, top = (width - edge) // 2, (height - edge) // 2
        box = (left, top, left + edge, top + edge)
    square = _rgb(image, box, wanted.mean_colour)
    if square.size != size:
        # Down by area averages, which neither blur nor ring; up by straight lines.
        shrinks = square.width >= wanted.side
        square = square.resize(size, Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
    return np.asarray(square, dtype=np.uint8)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _REFUSED_FORMATS))


def _rgb(image: Image.Image, box: Box, mean_colour: tuple[int, int, int]) -> Image.Image:
    """A part of an image as RGB, made tile by tile: conversions take up to 24 bytes a pixel."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image.crop(box)
    full = _full_scale(image)
    left, top, right, bottom = box
    square = Image.new("RGB", (right - left, bottom - top))
    for tile in _tiles(box):
        part = _flatten(_to_eight_bits(image.crop(tile), full), mean_colour)
        square.paste(part, (tile[0] - left, tile[1] - top))
    return square


def _tiles(box: Box) -> Iterator[Box]:
    left, top, right, bottom = box
    wide = min(right - left, _TILE_PIXELS)
    high = _TILE_PIXELS // wide
    for y in range(top, bottom, high):
        for x in range(left, right, wide):
            yield x, y, min(x + wide, right), min(y + high, bottom)


def _full_scale(image: Image.Image) -> float:
    """The sample that is white."""
    if image.mode != "F":
        return 65535.0
    brightest = max(_samples(image.crop(tile)).max() for tile in _tiles((0, 0, *image.size)))
    return 1.0 if brightest <= 1.0 else 255.0 if brightest <= 255.0 else 65535.0


def _samples(image: Image.Image) -> npt.NDArray[np.float64]:
    return np.nan_to_num(np.asarray(image, dtype=np.float64))


def _to_eight_bits(image: Image.Image, full: float) -> Image.Image:
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    scaled = np.rint(np.clip(_samples(image), 0, full) * (255.0 / full))
    return Image.fromarray(scaled.astype(np.uint8))


def _flatten(image: Image.Image, mean_colour: tuple[int, int, int]) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, (*mean_colour, 255))
    return Image.alpha_composite(ground, layer).convert("RGB")
