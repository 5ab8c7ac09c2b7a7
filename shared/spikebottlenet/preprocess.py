"""Any image that Pillow opens to the pixels that the head takes: uint8 [side, side, 3], RGB.

Upright by its EXIF orientation, first frame, transparency over the bundle's mean colour, 16-bit and
floating-point samples scaled to 8, then the centre square (``crop`` of the shorter side) resized to
``side`` x ``side``. An image of that size is taken whole. Images are hostile input: sizes are read
from the header and refused before anything is decoded.
"""

from collections.abc import Iterator
from functools import cache
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import ImageError, SpikeBottleNetError, TooLargeError
from spikebottlenet.event_frames import bin_events
from spikebottlenet.image_limits import (
    REFUSED_FORMATS,
    ImageBytes,
    check_decoder,
    check_file,
    drop_long_exif,
    format_of_small,
)
from spikebottlenet.recordings import read_recording

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom

# Bytes a pixel, measured: 8 at most for PNG, TIFF and the like, 16 for WebP, 22 for JPEG 2000; far
# less for a JPEG (see draft). So 50 megapixels may take 1.1 GB: a small device should allow fewer.
MAX_IMAGE_PIXELS = 50_000_000
_TILE_PIXELS = 1 << 16

# EXIF 2.32, tag 274: what turns the stored image upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_USUAL_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
_DRAFT_FACTOR = 4  # a JPEG is decoded at no less than this many times the side wanted


def read_input(
    data: bytes, wanted: Preprocess, *, max_image_pixels: int = MAX_IMAGE_PIXELS
) -> Pixels:
    """Bytes of an image file, or of a recording where the bundle wants those, to ``wanted.shape``.

    Raises:
        ImageError: empty, truncated or not of the kind that is wanted.
        TooLargeError: more than ``max_image_pixels``, or than a limit of ``image_limits`` or
            ``recordings``.
    """
    if wanted.events is None:
        return read_image(data, wanted, max_image_pixels=max_image_pixels)
    return bin_events(read_recording(data), wanted.events, side=wanted.side)


def read_image(
    data: bytes, wanted: Preprocess, *, max_image_pixels: int = MAX_IMAGE_PIXELS
) -> Pixels:
    """Decode the bytes of an image file to uint8 [side, side, 3].

    Raises:
        ImageError: empty, truncated or not an image.
        TooLargeError: more than ``max_image_pixels``, or than a limit of ``image_limits``.
    """
    if not data:
        raise ImageError("image is empty (0 bytes): give the bytes of an image file")
    try:
        check_file(data, max_pixels=max_image_pixels)
        with _opened(data) as image:
            width, height = image.size
            if width * height > max_image_pixels:
                raise TooLargeError(
                    f"image is {width} x {height}, wanted at most {max_image_pixels} pixels: "
                    "scale it down, or raise max_image_pixels"
                )
            check_decoder(image)
            drop_long_exif(image)
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


def _opened(data: bytes) -> ImageFile.ImageFile:
    """An image file as Pillow opens it; one of a usual format without a look at the others."""
    usual = format_of_small(data)
    if usual is None:
        return Image.open(ImageBytes(data), formats=_formats())
    Image.preinit()
    open_one, _ = Image.OPEN[usual]
    try:
        return open_one(BytesIO(data), "")
    except SyntaxError as error:  # a plugin's word for a file that is none of its format
        raise UnidentifiedImageError from error


def fit_square(image: Image.Image, wanted: Preprocess) -> Pixels:
    """Give the centre square, upright, on 8 bits, RGB, as uint8 [side, side, 3]."""
    image.load()
    # Where nothing is said of an image there is no EXIF either, and none to be looked for.
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if image.info else 1
    width, height = reversed(image.size) if orientation in _SIDEWAYS else image.size
    box, size = (0, 0, width, height), (wanted.side, wanted.side)
    if (width, height) != size:
        # Cropping first keeps a 1 x 50,000,000 strip from being blown up.
        edge = max(1, round(wanted.crop * min(width, height)))
        left, top = (width - edge) // 2, (height - edge) // 2
        box = (left, top, left + edge, top + edge)
    square = _rgb(image, orientation, box, wanted.mean_colour)
    if square.size != size:
        # Down by area averages, which neither blur nor ring; up by straight lines.
        shrinks = square.width >= wanted.side
        square = square.resize(size, Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
    return np.frombuffer(square.tobytes(), dtype=np.uint8).reshape(wanted.side, wanted.side, 3)


@cache
def _formats() -> tuple[str, ...]:
    """Those that are sent most come first: Pillow tries one after another."""
    Image.init()
    rest = set(Image.OPEN) - REFUSED_FORMATS - set(_USUAL_FORMATS)
    return (*_USUAL_FORMATS, *sorted(rest))


def _rgb(
    image: Image.Image, orientation: int, box: Box, mean_colour: tuple[int, int, int]
) -> Image.Image:
    """A part of the upright image as RGB, made tile by tile.

    On the whole, the turn and the conversions would hold up to 24 bytes a pixel.
    """
    turn = _TURNS.get(orientation)
    if image.mode == "RGB" and turn is None and not image.has_transparency_data:
        return image if box == (0, 0, *image.size) else image.crop(box)
    full = _full_scale(image)
    left, top, right, bottom = box
    square = Image.new("RGB", (right - left, bottom - top))
    for tile in _tiles(box):
        part = image.crop(_before_turn(tile, orientation, image.size))
        upright = part if turn is None else part.transpose(turn)
        colours = _flatten(_to_eight_bits(upright, full), mean_colour)
        square.paste(colours, (tile[0] - left, tile[1] - top))
    return square


def _before_turn(box: Box, orientation: int, size: tuple[int, int]) -> Box:
    """Where a box of the upright image lies in the stored one of ``size``."""
    left, top, right, bottom = box
    width, height = size
    match orientation:
        case 2:
            return width - right, top, width - left, bottom
        case 3:
            return width - right, height - bottom, width - left, height - top
        case 4:
            return left, height - bottom, right, height - top
        case 5:
            return top, left, bottom, right
        case 6:
            return top, height - right, bottom, height - left
        case 7:
            return width - bottom, height - right, width - top, height - left
        case 8:
            return width - bottom, left, width - top, right
        case _:
            return box


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
