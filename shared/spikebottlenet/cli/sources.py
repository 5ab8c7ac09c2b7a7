"""What a user types as images: files, folders, globs and standard input."""

import glob
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from spikebottlenet.errors import ImageError, TooLargeError
from spikebottlenet.recording_names import RECORDING_SUFFIXES
from spikebottlenet.rpc.channel import MAX_IMAGE_BYTES

STANDARD_INPUT = "-"

# Only in folders: a file that is named is sent whatever it is called.
_IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".ppm", ".tga", ".tif", ".tiff", ".webp"),
    *RECORDING_SUFFIXES,
)


class ImageSource(NamedTuple):
    """One image to be sent."""

    name: str  # as given, or as found in a folder given

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            ImageError: it cannot be read, or is empty.
            TooLargeError: no edge-node would take it.
        """
        try:
            if self.name == STANDARD_INPUT:
                data = _standard_input()
            else:
                with Path(self.name).open("rb") as file:
                    data = file.read(MAX_IMAGE_BYTES + 1)
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}; give an image file") from error
        if not data:
            raise ImageError("is empty (0 bytes): give an image file")
        if len(data) > MAX_IMAGE_BYTES:
            raise TooLargeError(f"is above {MAX_IMAGE_BYTES} bytes: shrink it")
        return data


@cache
def _standard_input() -> bytes:
    """What came in, once read, for every try."""
    return sys.stdin.buffer.read(MAX_IMAGE_BYTES + 1)


def find_images(paths: Sequence[str]) -> list[ImageSource]:
    """Every image that the paths stand for, in their order; a path that is nothing stays itself."""
    found: list[ImageSource] = []
    for path in paths:
        if path != STANDARD_INPUT and Path(path).is_dir():
            inside = sorted(Path(path).rglob("*"))
            names = [str(file) for file in inside if file.suffix.lower() in _IMAGE_SUFFIXES]
        elif path != STANDARD_INPUT and not Path(path).exists() and glob.has_magic(path):
            names = sorted(glob.glob(path, recursive=True)) or [path]  # noqa: PTH207, takes ** and absolute
        else:
            names = [path]
        found += [ImageSource(name) for name in names]
    return found
