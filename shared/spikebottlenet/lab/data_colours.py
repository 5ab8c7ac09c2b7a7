"""What a training split's samples are scaled by, where the settings leave that to the data."""

import numpy as np
import numpy.typing as npt

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import DataError, ImageError, TooLargeError
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.data_decode import decode_rows
from spikebottlenet.lab.data_rows import Rows
from spikebottlenet.lab.data_source import TRAIN, open_source
from spikebottlenet.model.layers import Input
from spikebottlenet.recordings import read_recording

_MOST_IMAGES = 5000  # the standard error of their mean is under one grey level
_GROUND = (128, 128, 128)  # under transparent pixels, whose colour is not known yet
_PIXEL_MAX = 255.0
_LEAST_DEVIATION = 1 / _PIXEL_MAX  # of images all of one colour
_MOST_CAMERAS = 0.99  # of recordings lie within the size that is taken for the camera's
_DIGITS = 4  # as published constants have; what a bundle does is then written out whole


def measured_colours(settings: DataSettings, source: str) -> DataSettings:
    """Settings with ``auto`` replaced by RGB mean and deviation of pixels / 255.

    Of recordings: the camera's size, which 99 % of them stay within (or as their files say), and
    the root mean square count of events, over the places that have any. Taken from the training
    split (held-out part included), or from 5,000 images of it by the settings' seed; the same on
    every run.

    Raises:
        DataError: the data set cannot be loaded, or none of its images decoded.
    """
    events = settings.input is Input.EVENTS
    image, recording = (settings.mean, settings.std), (settings.camera, settings.count_scale)
    if "auto" not in (recording if events else image):
        return settings
    rows = open_source(source, settings, recordings=events).rows(TRAIN)
    order = np.random.default_rng(settings.seed).permutation(len(rows))[:_MOST_IMAGES]
    if events:
        return _measured_events(rows, np.sort(order), settings)
    wanted = Preprocess(side=settings.side, mean_colour=_GROUND, crop=settings.crop)
    count, total, squares = 0, np.zeros(3), np.zeros(3)
    for done in decode_rows(rows, wanted, np.sort(order).tolist()):
        pixels = done.images.reshape(-1, 3) / _PIXEL_MAX
        count += len(pixels)
        total += pixels.sum(axis=0)
        squares += (pixels**2).sum(axis=0)
    if not count:
        raise DataError(f"{rows.name} has no image that can be read: choose another split")
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, _LEAST_DEVIATION**2))
    found = {"mean": _rounded(mean), "std": _rounded(deviation)}
    chosen = {key: value for key, value in found.items() if getattr(settings, key) == "auto"}
    return settings.model_copy(update=chosen)


def _measured_events(
    rows: Rows, order: npt.NDArray[np.int64], settings: DataSettings
) -> DataSettings:
    if settings.camera == "auto":
        camera = _camera(rows, order)
        settings = settings.model_copy(update={"camera": camera})
    if settings.count_scale != "auto":
        return settings
    places, squares = 0, 0
    for done in decode_rows(rows, settings.preprocess(), order.tolist()):
        places += int(np.count_nonzero(done.images))
        squares += int((done.images.astype(np.int64) ** 2).sum())
    if not places:
        raise DataError(f"{rows.name} has no recording that can be read: choose another split")
    scale = round(float(np.sqrt(squares / places)), _DIGITS)
    return settings.model_copy(update={"count_scale": scale})


def _camera(rows: Rows, order: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Width and height; the largest in a hundred (one at least) may have a stray event."""
    sizes = list[tuple[int, int]]()
    for row in order.tolist():
        (data,) = rows.read([row])
        try:
            if not isinstance(data, OSError):
                found = read_recording(data)
                sizes.append((found.width, found.height))
        except (ImageError, TooLargeError):
            continue  # named when the split is decoded
    if not sizes:
        raise DataError(f"{rows.name} has no recording that can be read: choose another split")
    width, height = np.quantile(sizes, _MOST_CAMERAS, axis=0, method="lower")
    return int(width), int(height)


def _rounded(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> tuple[float, ...]:
    return tuple(round(float(value), _DIGITS) for value in values)
