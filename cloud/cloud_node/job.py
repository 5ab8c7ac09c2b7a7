"""An image on its way through a tail, and who is told what came of it."""

import asyncio
from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from spikebottlenet.errors import CorruptFrameError

Spikes = npt.NDArray[np.uint8]


class Image(Protocol):
    """An image's spikes, not yet decoded."""

    @property
    def timesteps(self) -> int:
        """How many have come."""

    @property
    def spike_bytes(self) -> int:
        """Bytes of its decoded spikes."""

    def spikes(self) -> Spikes:
        """Decode them, [t, C, H, W].

        Raises:
            CorruptFrameError: they cannot be.
        """


def decoded(image: Image) -> Spikes | CorruptFrameError:
    """An image's spikes, or why it has none."""
    try:
        return image.spikes()
    except CorruptFrameError as error:
        return error


class TailAnswer(NamedTuple):
    """What the tail said of one image."""

    classes: list[int]  # indices, the most probable first
    chances: list[int]  # their probabilities as rpc.chances has them; [] if they are no numbers
    queue_us: int  # waited, microseconds
    tail_us: int  # of the batch, microseconds
    batch: int  # images in it


Outcome = TailAnswer | Exception


class Job(ABC):
    """An image that is to go through a tail; told once what came of it, on the event loop.

    One that is ``abandoned`` need not be computed any more: nobody waits for it.
    """

    __slots__ = ("abandoned", "arrived", "deadline", "image", "within_s")

    def __init__(self, image: Image, within_s: float | None) -> None:
        self.image = image
        self.within_s = within_s  # seconds from when it is asked for; None: whenever
        self.arrived = 0.0  # when it was asked for, monotonic seconds
        self.deadline: float | None = None  # monotonic seconds
        self.abandoned = False

    def begin(self, now: float) -> None:
        """Note that it is asked for."""
        self.arrived = now
        self.deadline = None if self.within_s is None else now + self.within_s

    def settle(self, outcome: Outcome) -> None:
        """Tell it; but for the first time this does nothing."""
        if not self.abandoned:
            self.abandoned = True
            self._told(outcome)

    @abstractmethod
    def _told(self, outcome: Outcome) -> None:
        """What came of it."""


class Awaited(Job):
    """One whose answer is a future; that is cancelled, nobody waits for it any more."""

    __slots__ = ("answer",)

    def __init__(self, image: Image, within_s: float | None) -> None:
        super().__init__(image, within_s)
        self.answer: asyncio.Future[TailAnswer] = asyncio.get_running_loop().create_future()
        self.answer.add_done_callback(self._done)

    def _done(self, _: "asyncio.Future[TailAnswer]") -> None:
        self.abandoned = True

    def _told(self, outcome: Outcome) -> None:
        if self.answer.done():
            return
        if isinstance(outcome, TailAnswer):
            self.answer.set_result(outcome)
        else:
            self.answer.set_exception(outcome)
