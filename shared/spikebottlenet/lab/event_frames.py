"""Events to frames, one a timestep: counts of events that got brighter and darker.

    frame[t, s, r, c] = number of events of sign s whose place falls into site (r, c) and whose time
                        (or rank) falls into the t-th of T equal parts; at most 255

Sign 0 is darker, 1 is brighter. The camera's longer side fills ``side`` sites, the shorter lies in
the middle.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from spikebottlenet.config import Settings
from spikebottlenet.lab.recordings import Recording

Frames = npt.NDArray[np.uint8]
_SIGNS = 2
_MOST = 255


class FrameSettings(Settings):
    """How recordings become frames."""

    side: int = Field(32, ge=8, le=512)  # sites
    timesteps: int = Field(4, ge=1, le=32)
    parts: Literal["time", "count"] = "time"  # of equal length, or of equally many events

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[T, 2, H, W]."""
        return (self.timesteps, _SIGNS, self.side, self.side)


def bin_events(recording: Recording, settings: FrameSettings) -> Frames:
    """Frames uint8 [T, 2, side, side] of a recording with one event or more."""
    timesteps, side = settings.timesteps, settings.side
    if settings.parts == "time":
        elapsed = recording.microseconds - recording.microseconds[0]
        step = elapsed * timesteps // (int(elapsed[-1]) + 1)
    else:
        step = np.arange(len(recording.x)) * timesteps // len(recording.x)
    longer = max(recording.width, recording.height)
    # Whole numbers alone: the same sites on every machine.
    row = (2 * recording.y + longer - recording.height) * side // (2 * longer)
    column = (2 * recording.x + longer - recording.width) * side // (2 * longer)
    site = ((step * _SIGNS + recording.brighter) * side + row) * side + column
    counts = np.bincount(site, minlength=timesteps * _SIGNS * side * side)
    return np.minimum(counts, _MOST).astype(np.uint8).reshape(settings.shape)
