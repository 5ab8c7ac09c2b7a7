"""Any image that Pillow opens, and what is no image."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import ImageError, TooLargeError
from spikebottlenet.preprocess import read_image

WANTED = Preprocess(side=32, mean_colour=(129, 124, 112))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient() -> Image.Image:
    """Red grows to the right, green downwards."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 60)], axis=2))


def close(left: np.ndarray, right: np.ndarray, within: int) -> bool:
    return bool((np.abs(left.astype(int) - right.astype(int)) <= within).all())


def test_an_image_of_the_right_size_is_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert (read_image(encoded(Image.fromarray(pixels)), WANTED) == pixels).all()


def test_the_centre_square_is_what_is_seen() -> None:
    wide = Image.new("RGB", (300, 80), (255, 0, 0))
    wide.paste((0, 255, 0), (115, 5, 185, 75))  # 70 = 0.875 * 80
    found = read_image(encoded(wide), WANTED)
    assert (found == (0, 255, 0)).all()
    whole = WANTED.model_copy(update={"crop": 1.0})
    assert (read_image(encoded(wide), whole) == (255, 0, 0)).all(axis=2).any()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
    ],
)
def test_exif_orientation_is_followed(kind: str, options: dict[str, object]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to see it upright
    turned = gradient().transpose(Image.Transpose.ROTATE_90)
    found = read_image(encoded(turned, kind, exif=exif, **options), WANTED)
    upright = read_image(encoded(gradient()), WANTED)
    assert close(found, upright, 6)


def test_transparency_shows_the_mean_colour() -> None:
    clear = Image.new("RGBA", (40, 40), (255, 255, 255, 0))
    assert (read_image(encoded(clear), WANTED) == WANTED.mean_colour).all()
    palette = Image.new("P", (40, 40), 0)
    palette.putpalette([10, 20, 30])
    assert (read_image(encoded(palette, transparency=0), WANTED) == WANTED.mean_colour).all()
    assert (read_image(encoded(palette), WANTED) == (10, 20, 30)).all()
    grey = Image.new("LA", (40, 40), (200, 255))
    assert (read_image(encoded(grey), WANTED) == 200).all()


@pytest.mark.parametrize(
    ("image", "value"),
    [
        (Image.new("L", (50, 50), 77), 77),
        (Image.new("1", (50, 50), 1), 255),
        (Image.fromarray(np.full((50, 50), 257 * 77, np.uint16)), 77),
        (Image.fromarray(np.full((50, 50), 257 * 77, np.int32)), 77),
        (Image.fromarray(np.full((50, 50), 0.3, np.float32)), 76),
        (Image.fromarray(np.full((50, 50), 120.0, np.float32)), 120),
    ],
    ids=["grey", "bilevel", "16-bit", "32-bit", "float to 1", "float to 255"],
)
def test_other_samples_are_scaled_to_eight_bits(image: Image.Image, value: int) -> None:
    found = read_image(encoded(image, "TIFF"), WANTED)
    assert close(found, np.full((32, 32, 3), value), 1)


def test_sixteen_bit_png_is_scaled_not_clipped() -> None:
    image = Image.fromarray(np.full((40, 40), 0x4000, np.uint16))
    assert close(read_image(encoded(image), WANTED), np.full((32, 32, 3), 64), 1)


def test_cmyk_and_webp_and_the_first_frame_of_an_animation() -> None:
    cmyk = Image.new("CMYK", (50, 50), (0, 255, 255, 0))
    assert close(read_image(encoded(cmyk, "JPEG"), WANTED)[..., 0], np.full((32, 32), 254), 3)
    webp = read_image(encoded(gradient(), "WEBP", lossless=True), WANTED)
    assert (webp == read_image(encoded(gradient()), WANTED)).all()
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    movie = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (read_image(movie, WANTED) == (255, 0, 0)).all()


def test_a_strip_is_cropped_before_it_is_scaled() -> None:
    assert read_image(encoded(Image.new("RGB", (1, 60_000), "red")), WANTED).shape == (32, 32, 3)
    assert read_image(encoded(Image.new("L", (1, 1), 9)), WANTED).max() == 9


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n", "89504e47"),
        (b"hello, world", "JPEG, PNG"),
        (encoded(gradient())[:100], "cut short"),
        (encoded(gradient(), "JPEG")[:500], "cut short"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "known format"),
    ],
    ids=["empty", "signature", "text", "cut png", "cut jpeg", "PostScript"],
)
def test_what_is_no_image_is_said_to_be_none(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        read_image(data, WANTED)


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("side", [8_000, 200_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(TooLargeError, match="pixels"):
        read_image(bomb(side, side), WANTED)
