"""Any image that Pillow opens to the pixels that the head takes: uint8 [side, side, 3], RGB.

Upright by its EXIF orientation, first frame, transparency over the bundle's mean colour, 16-bit and
floating-point samples scaled to 8, then the centre square (``crop`` of the shorter side) resized to
``side`` x ``side``. An image of that size is taken whole. Images are hostile input: sizes are read
from the header and refused before anything is decoded.
"""

import io
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import ImageError, SpikeBottleNetError, TooLargeError

Pixels = npt.NDArray[np.uint8]

MAX_IMAGE_PIXELS = 50_000_000  # 150 MB as RGB, the most that a small device can hold for a moment
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
    """Upright, on 8 bits, RGB, and the centre square resized to uint8 [side, side, 3]."""
    upright = ImageOps.exif_transpose(image)
    rgb = _to_rgb(_to_eight_bits(upright), wanted.mean_colour)
    if rgb.size != (wanted.side, wanted.side):
        # Cropping first keeps a 1 x 50,000,000 strip from being blown up.
        width, height = rgb.size
        edge = max(1, round(wanted.crop * min(width, height)))
        left, top = (width - edge) // 2, (height - edge) // 2
        square = rgb.crop((left, top, left + edge, top + edge))
        # Down by area averages, which neither blur nor ring; up by straight lines.
        shrinks = edge >= wanted.side
        filter_ = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
        rgb = square.resize((wanted.side, wanted.side), filter_)
    return np.asarray(rgb, dtype=np.uint8)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _REFUSED_FORMATS))


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    samples = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode == "F":
        full = 1.0 if samples.max() <= 1.0 else 255.0 if samples.max() <= 255.0 else 65535.0
    else:
        full = 65535.0
    scaled = np.clip(np.rint(samples * (255.0 / full)), 0, 255)
    return Image.fromarray(scaled.astype(np.uint8))


def _to_rgb(image: Image.Image, mean_colour: tuple[int, int, int]) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, (*mean_colour, 255))
    return Image.alpha_composite(ground, layer).convert("RGB")
