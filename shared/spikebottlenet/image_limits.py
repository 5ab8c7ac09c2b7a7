"""What an image file may make Pillow do: formats, reads, embedded sizes, tags, scans.

Pixels are not all that costs. A few megabytes can hold millions of segments that Pillow walks in
Python, a tag with millions of values, thousands of scans of the same pixels, or an icon of 16 x 16
whose data are a picture of 9,000 x 9,000.
"""

import io
import struct
from collections.abc import Iterator

from PIL import Image, ImageFile

from spikebottlenet.errors import TooLargeError

REFUSED_FORMATS = {
    *("EPS", "IPTC"),  # starts an outside interpreter; opens another file inside, an EPS too
    *("ICNS", "FITS"),  # hold compressed data whose size no header tells
    *("BLP", "DDS", "FTEX"),  # decoded in Python, seconds a megapixel
}

_MAX_READS = 200_000  # a 50-megapixel PNG in pieces of 8 KiB takes 10,000
_MAX_TAG_VALUES = 200_000  # of a TIFF: strips, mostly; Python keeps each as an object
_MAX_SCANS = 64  # of a JPEG; encoders write about 10, and each is one pass over all pixels
_MAX_SLOW_PIXELS = 500_000  # of a format that Pillow decodes in Python: about 1 us each
_MAX_ICON_PIXELS = 1024 * 1024  # decoded as soon as it is opened, some of it in Python
_MAX_PLAIN_BYTES = 1 << 20  # of a PPM whose pixels are words
_MAX_TEXTS = 6  # compressed ones of a PNG; each may take 8 MiB
_MAX_EXIF_BYTES = 1 << 20

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_ICO = b"\0\0\1\0"
_TAG_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


class ImageBytes(io.BytesIO):
    """The bytes of an image file, to be read so many times and no more."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As a file.

        Raises:
            TooLargeError: read too often.
        """
        self._count()
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        """As a file; counted as ``read``."""
        self._count()
        return super().readline(size)

    def _count(self) -> None:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise TooLargeError(f"image has more than {_MAX_READS} pieces: save it again")


def format_of_small(data: bytes) -> str | None:
    """PNG or JPEG for a small file of those; it is read from front to back, so its reads need no
    count.
    """
    if len(data) > _MAX_READS:
        return None
    return "PNG" if data[:8] == _PNG else "JPEG" if data[:2] == _JPEG else None


def check_file(data: bytes, *, max_pixels: int) -> None:
    """Refuse a file for what its bytes alone tell, before Pillow reads it.

    Raises:
        TooLargeError: too many scans, texts, tag values, pixels as words or inside an icon.
    """
    if data[:2] in (b"P1", b"P2", b"P3") and len(data) > _MAX_PLAIN_BYTES:
        raise TooLargeError(
            f"PPM of {len(data)} bytes holds its pixels as words, wanted at most "
            f"{_MAX_PLAIN_BYTES}: save it as binary PPM or PNG"
        )
    if data[:2] == _JPEG:
        scans = data.count(b"\xff\xda")
        if scans > _MAX_SCANS:
            raise TooLargeError(f"JPEG has {scans} scans, wanted at most {_MAX_SCANS}: save it new")
    if data[:8] == _PNG:
        texts = data.count(b"zTXt") + data.count(b"iTXt")
        if texts > _MAX_TEXTS:
            raise TooLargeError(f"PNG has {texts} texts, wanted at most {_MAX_TEXTS}: drop some")
    if data[:4] == _ICO:
        found = max(_icon_pixels(data), default=0)
        wanted = min(max_pixels, _MAX_ICON_PIXELS)
        if found > wanted:
            raise TooLargeError(
                f"icon holds an image of {found} pixels, wanted at most {wanted}: scale it down"
            )
    if data[:2] in (b"II", b"MM"):
        values = _tag_values(data)
        if values > _MAX_TAG_VALUES:
            raise TooLargeError(
                f"TIFF has {values} tag values, wanted at most {_MAX_TAG_VALUES}: "
                "save it with fewer strips, or as PNG"
            )


def check_decoder(image: ImageFile.ImageFile) -> None:
    """Refuse a large image whose decoder is written in Python.

    Raises:
        TooLargeError: it would take seconds.
    """
    slow = {tile[0] for tile in image.tile} & set(Image.DECODERS)
    if slow and image.width * image.height > _MAX_SLOW_PIXELS:
        raise TooLargeError(
            f"{image.format} of {image.width} x {image.height} is slow to decode, wanted at most "
            f"{_MAX_SLOW_PIXELS} pixels: save it as PNG"
        )


def drop_long_exif(image: Image.Image) -> None:
    """Forget EXIF data too long to be a camera's; it is read for the orientation alone."""
    for key in ("exif", "Raw profile type exif"):
        if len(image.info.get(key, b"")) > _MAX_EXIF_BYTES:
            del image.info[key]


def _icon_pixels(data: bytes) -> Iterator[int]:
    """Pixels of each image in an icon; its directory may say less, and Pillow decodes at once."""
    (count,) = struct.unpack_from("<H", data.ljust(6, b"\0"), 4)
    directory = data[6 : 6 + 16 * count]
    for (start,) in struct.iter_unpack("<12xI", directory[: len(directory) // 16 * 16]):
        header = data[start : start + 24].ljust(24, b"\0")
        if header[:8] == _PNG:
            width, height = struct.unpack_from(">II", header, 16)
        else:  # a bitmap with its mask below it
            width, height = struct.unpack_from("<ii", header, 4)
        yield abs(width * height)


def _tag_values(data: bytes) -> int:
    """Values of a TIFF's first directory that are not bytes or text."""
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    try:
        if big:
            (start,) = struct.unpack_from(f"{order}Q", data, 8)
            (count,) = struct.unpack_from(f"{order}Q", data, start)
            entry, first = struct.Struct(f"{order}HHQ8x"), start + 8
        else:
            (start,) = struct.unpack_from(f"{order}I", data, 4)
            (count,) = struct.unpack_from(f"{order}H", data, start)
            entry, first = struct.Struct(f"{order}HHI4x"), start + 2
    except (struct.error, OverflowError):
        return 0  # cut short, which Pillow says better
    last = min(first + count * entry.size, len(data))
    whole = last - (last - first) % entry.size
    tags = entry.iter_unpack(memoryview(data)[first:whole])
    sizes = ((values, values * _TAG_BYTES.get(kind, 0)) for _, kind, values in tags)
    # Pillow does not read what the file has no bytes for.
    return sum(values for values, size in sizes if 0 < size <= len(data))
