"""Events to frames, one a timestep: counts of events that got brighter and darker.

    pixels[r, c, 2 t + s] = number of events of sign s whose place falls into site (r, c) and whose
                            time (or rank) falls into the t-th of T equal parts; at most 255

Sign 0 is darker, 1 is brighter. The camera's longer side fills ``side`` sites, the shorter lies in
the middle. Its size is the bundle's, not a recording's own: one stray event would shift all others.
"""

import numpy as np
import numpy.typing as npt

from spikebottlenet.bundle import EventFrames
from spikebottlenet.errors import ImageError
from spikebottlenet.model.layers import SIGNS
from spikebottlenet.recordings import Recording

Frames = npt.NDArray[np.uint8]
_MOST = 255


def bin_events(recording: Recording, wanted: EventFrames, *, side: int) -> Frames:
    """Pixels uint8 [side, side, T * 2] of a recording with one event or more.

    Raises:
        ImageError: none of its events lies within the camera.
    """
    timesteps, width, height = wanted.timesteps, wanted.width, wanted.height
    inside = (recording.x < width) & (recording.y < height)
    if not inside.all():
        recording = recording.chosen(inside)
    if not len(recording.x):
        raise ImageError(
            f"recording has no event within the camera's {width} x {height} sites: it is another "
            "camera's"
        )
    if wanted.parts == "time":
        elapsed = recording.microseconds - recording.microseconds[0]
        step = elapsed * timesteps // (int(elapsed[-1]) + 1)
    else:
        step = np.arange(len(recording.x)) * timesteps // len(recording.x)
    longer = max(width, height)
    # Whole numbers alone: the same sites on every machine.
    row = (2 * recording.y + longer - height) * side // (2 * longer)
    column = (2 * recording.x + longer - width) * side // (2 * longer)
    shape = (side, side, timesteps, SIGNS)
    site = np.ravel_multi_index((row, column, step, recording.brighter.astype(np.int64)), shape)
    counts = np.bincount(site, minlength=side * side * timesteps * SIGNS)
    return np.minimum(counts, _MOST).astype(np.uint8).reshape(side, side, -1)
