"""Inputs made by hand, too large to keep: each took seconds or hundreds of megabytes once.

Yields (name, target, input). Some are legal and large; they belong within the limits as well.
"""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.fuzz.image import MAX_IMAGE_PIXELS

Attack = tuple[str, str, bytes]

_SIDE = int(MAX_IMAGE_PIXELS**0.5)
_MEGABYTE = 1_000_000


def attacks() -> Iterator[Attack]:
    """All of them."""
    for make in (_legal_images, _pngs, _jpegs, _tiffs, _other_images, _manifests, _weights):
        yield from make()


def _legal_images() -> Iterator[Attack]:
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = {
        "PNG": ("RGB", "RGBA", "LA", "I;16"),
        "TIFF": ("F", "I", "CMYK"),
        "WEBP": ("RGBA",),
        "JPEG2000": ("RGBA",),
    }
    for kind, modes in kinds.items():
        for mode in modes:
            image = Image.new(mode, (_SIDE, _SIDE))
            turned = {"exif": exif} if kind == "PNG" else {}
            yield f"legal {kind} {mode}", "image", _saved(image, kind, **turned)
    animation = {"save_all": True, "append_images": [Image.new("RGBA", (_SIDE, _SIDE), "red")]}
    blank = Image.new("RGBA", (_SIDE, _SIDE))
    yield "legal animation", "image", _saved(blank, "WEBP", **animation)


def _pngs() -> Iterator[Attack]:
    inflated = zlib.compress(bytes(100 * _MEGABYTE), 1)
    text = b"".join(
        _chunk(b"iTXt", b"k%d\0\1\0\0\0" % i + zlib.compress(b"a" * 900_000 + b"\xf0\x9f\x98\x80"))
        for i in range(60)
    )
    yield "PNG texts", "image", _png(text)
    yield "PNG texts allowed", "image", _png(text[: len(text) // 10])
    yield "PNG profile", "image", _png(_chunk(b"iCCP", b"k\0\0" + inflated))
    yield "PNG pixels", "image", _png(_chunk(b"IDAT", inflated))
    for kind in (b"tEXt", b"abCd", b"IDAT"):
        yield f"PNG of many {kind!r}", "image", _png(_chunk(kind, b"k\0") * 400_000)
    values = struct.pack("<HHII", 0x0112, 3, 7 * _MEGABYTE, 26)
    directory = b"II*\0" + struct.pack("<IH", 8, 1) + values + bytes(4 + 14 * _MEGABYTE)
    yield "PNG with long EXIF", "image", _png(_chunk(b"eXIf", directory))


def _jpegs() -> Iterator[Attack]:
    small = _saved(Image.new("RGB", (8, 8)), "JPEG")
    for name, pieces in {"comments": b"\xff\xfe\0\2", "segments": b"\xff\xe5\0\2"}.items():
        yield f"JPEG of many {name}", "image", small[:2] + pieces * 3_000_000 + small[2:]
    yield "JPEG of fill bytes", "image", small[:2] + b"\xff" * 8_000_000 + small[2:]
    large = _saved(Image.new("RGB", (_SIDE, _SIDE)), "JPEG", progressive=True)
    scan = large[large.rindex(b"\xff\xda") : -2]
    yield "JPEG of many scans", "image", large[:-2] + scan * 20_000 + large[-2:]


def _tiffs() -> Iterator[Attack]:
    count = 4 * _MEGABYTE
    plain = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: 8, 279: 64}
    for tag in (258, 273, 700):
        tags = {number: (4, 1, value) for number, value in plain.items()}
        tags[tag] = (3, 2 * count, 200)
        yield (
            f"TIFF of many values of {tag}",
            "image",
            _tiff(tags).ljust(200, b"\0") + bytes(4 * count),
        )
    tile = plain | {259: 8, 322: 32_768, 323: 32_768, 324: 8, 325: 9}
    tags = {n: (4, 1, value) for n, value in tile.items() if n not in (273, 278, 279)}
    yield "TIFF of a large tile", "image", _tiff(tags) + bytes(100)


def _tiff(tags: dict[int, tuple[int, int, int]]) -> bytes:
    """Header and directory: tag -> type, count, value or where it lies."""
    entries = [struct.pack("<HHII", number, *rest) for number, rest in sorted(tags.items())]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries)


def _other_images() -> Iterator[Attack]:
    large = _saved(Image.new("RGB", (4300, 4300)), "PNG", compress_level=1)
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(large), 22)
    yield "icon that holds a large image", "image", icon + large
    block = b"ic07" + struct.pack(">I", 8 + len(large)) + large
    icns = b"icns" + struct.pack(">I", 8 + len(block)) + block
    yield "icon set that holds a large image", "image", icns
    yield "PPM of words", "image", b"P3 1000 1000 255\n" + b"1 " * 3_000_000
    yield "PPM of comments", "image", b"P5 " + b"#\n" * 4_000_000
    yield "JPEG 2000 of boxes", "image", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x08free" * 1_500_000
    bitmap = bytearray(_saved(Image.new("P", (_SIDE, _SIDE)), "BMP")[:1078])
    bitmap[30] = 1  # run lengths
    yield "BMP of runs", "image", bytes(bitmap) + b"\xff\0" * 8000 + b"\0\2\0\1" * 100
    yield "BMP of empty runs", "image", bytes(bitmap) + b"\0\2\0\0" * 2_000_000
    noise = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 4), dtype=np.uint8)
    yield "DDS, decoded in Python", "image", _saved(Image.fromarray(noise), "DDS")
    header = b"qoif" + struct.pack(">IIBB", _SIDE, _SIDE, 4, 0)
    yield "QOI, decoded in Python", "image", header + noise.tobytes()


def _manifests() -> Iterator[Attack]:
    doubled = "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    texts = {
        "aliases": f"a0: &a0 [x, x]\n{doubled}",
        "merged aliases": "a: &a {b: c}\n" + "<<: [*a, *a, *a]\n" * 3000,
        "deep lists": "[" * 60_000,
        "deep keys": "? " * 60_000,
        "deep maps": "{a: " * 30_000,
        "many values": "{" + "a," * 60_000,
        "many unknown keys": "".join(f"key_{n}: 1\n" for n in range(4000)),
        "a long number": "format_version: " + "1:" * 60_000 + "1",
        "a long float": "format_version: " + "1:" * 60_000 + "1.5",
        "a long hexadecimal number": "format_version: 0x" + "f" * 120_000,
        "a long key": "? " + "k" * 120_000 + "\n: 1\n",
        "a long text": "name: " + "k" * 120_000,
        "a long file": "# comment\n" * 1_000_000,
        "wrong tags": "a: !!int x\nb: !!timestamp x\nc: !!bool x\n",
    }
    for name, text in texts.items():
        yield f"manifest with {name}", "manifest", text.encode()


def _weights() -> Iterator[Attack]:
    for shape in ("(2, 1, 1, 1)", f"({1 << 40},)", "(" + "1," * 200 + ")", "(" * 400):
        for kind in ("'<u2'", "'|O'", "'<U999999999'", "[('a', '<u2')]"):
            text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
            head = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text
            yield f"prior of {kind} {len(shape)} {shape[:20]}", "weights", b"\0" + head + bytes(4)
    for header in (b"[" * 60_000, b'{"a":' * 20_000, b"{}", b'{"hidden.weight": 1}'):
        for size in (len(header), 1 << 40, (1 << 64) - 1):
            yield (
                f"exit {header[:9]!r} of {size} bytes",
                "weights",
                b"\1" + struct.pack("<Q", size) + header,
            )


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    size, check = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(kind + data))
    return size + kind + data + check


def _png(inside: bytes) -> bytes:
    """A PNG of 8 x 8 pixels with chunks put in before its pixels."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(bytes(8 * 25)))
    return b"\x89PNG\r\n\x1a\n" + header + inside + pixels + _chunk(b"IEND", b"")
