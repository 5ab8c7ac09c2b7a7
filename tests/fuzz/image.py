"""Images: the input is an image file as a client sends it."""

import warnings

import numpy as np
from PIL import Image

from spikebottlenet.bundle import Preprocess
from spikebottlenet.preprocess import read_image
from tests.fuzz.limits import Target

# A legal image of so many pixels stays below the limit of memory with every decoder.
MAX_IMAGE_PIXELS = 2_000_000


def open_target() -> Target:
    """Read an image as an edge does."""
    Image.init()  # every plugin now, while imports are instrumented
    wanted = Preprocess(side=32, mean_colour=(129, 124, 112))

    def run(data: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about damaged files
            pixels = read_image(data, wanted, max_image_pixels=MAX_IMAGE_PIXELS)
        assert pixels.shape == (32, 32, 3)
        assert pixels.dtype == np.uint8

    return run
