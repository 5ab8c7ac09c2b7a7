"""What the live page tells of the images of late: a few additions an image and no more.

Labels and numbers only: spikes are gone once they are answered.
"""

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

_RECENT = 12  # answers
_SECONDS = 120  # of the images a second
_MAX_CLIENTS = 256  # remembered; the one longest without an image goes first


class Answered(NamedTuple):
    """One answered image."""

    client: str
    label: str
    confidence: float  # 0 to 1
    payload_bytes: int
    wire_bytes_up: int
    queue_us: int
    tail_us: int


@dataclass
class Sums:
    """One client's, over this process's life."""

    images: int = 0
    wire_bytes_up: int = 0
    last: float = 0.0  # image, monotonic seconds


class Tally:
    """Counts answers as they are given."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: deque[tuple[int, int]] = deque(maxlen=_SECONDS + 1)  # second, images
        self.clients: OrderedDict[str, Sums] = OrderedDict()
        self.recent: deque[tuple[float, Answered]] = deque(maxlen=_RECENT)  # when, what
        self.batches: Counter[int] = Counter()  # images by the size of their batch

    def batched(self, images: int) -> None:
        """Count an image that went through the tail in a batch of so many."""
        self.batches[images] += 1

    def answered(self, answer: Answered) -> None:
        """Count one answer."""
        now = self._clock()
        self.recent.append((now, answer))
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = (second, self._seconds[-1][1] + 1)
        else:
            self._seconds.append((second, 1))
        sums = self.clients.get(answer.client)
        if sums is None:
            sums = self.clients[answer.client] = Sums()
            if len(self.clients) > _MAX_CLIENTS:
                self.clients.popitem(last=False)
        self.clients.move_to_end(answer.client)
        sums.images += 1
        sums.wire_bytes_up += answer.wire_bytes_up
        sums.last = now

    def per_second(self) -> list[int]:
        """Answers in each of the last whole seconds, oldest first."""
        end = int(self._clock())
        counts = dict(self._seconds)
        return [counts.get(second, 0) for second in range(end - _SECONDS, end)]

    def age_s(self, when: float) -> float:
        """Seconds since then."""
        return self._clock() - when
