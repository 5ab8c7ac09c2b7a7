"""SIGTERM and SIGINT during a training: a flag that the loop looks at after each step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from spikebottlenet.errors import SpikeBottleNetError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingStoppedError(SpikeBottleNetError):
    """A training was told to stop, and did; ``signal_number`` told it."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class StopFlag:
    """Which signal came, if one did."""

    def __init__(self) -> None:
        self.signal_number = 0


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Catch the first signal as a flag; the second one ends the process as it always would."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag  # signals are the main thread's business
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, _: FrameType | None) -> None:
        flag.signal_number = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
