"""What can befall a link, as frozen values, and the flipping of bits."""

import math
import random
from dataclasses import dataclass, field
from typing import Any, Literal

CHUNK_BYTES = 16 * 1024  # the most that is read and written at once
_RATE_STEPS_PER_S = 50  # a slow link trickles instead of giving a chunk at once

Direction = Literal["up", "down"]


@dataclass(frozen=True)
class Way:
    """What befalls one direction."""

    latency_ms: float = 0.0
    jitter_ms: float = 0.0  # on top, uniform from 0; bytes never overtake each other
    bytes_per_s: float | None = None
    slice_bytes: int | None = None  # largest piece written at once
    corrupt_per_byte: float = 0.0  # probability that one bit of a byte is flipped

    def piece_bytes(self) -> int:
        """The largest piece that is written at once."""
        size = self.slice_bytes or CHUNK_BYTES
        if self.bytes_per_s:
            size = min(size, max(1, int(self.bytes_per_s / _RATE_STEPS_PER_S)))
        return size


@dataclass(frozen=True)
class Faults:
    """What befalls every connection, old and new."""

    up: Way = field(default_factory=Way)  # client to target
    down: Way = field(default_factory=Way)
    black_hole: bool = False  # swallow; a connection that lost bytes stays dead when this is lifted
    refuse: bool = False  # reset new connections
    slow_close_ms: float = 0.0  # an end of stream is passed on this much later

    @classmethod
    def both(cls, **way: Any) -> "Faults":
        """The same in both directions."""
        return cls(up=Way(**way), down=Way(**way))

    def way(self, name: Direction) -> Way:
        """What befalls one direction."""
        return self.up if name == "up" else self.down


HEALTHY = Faults()


class Corruption:
    """Flips bits at offsets drawn from the geometric distribution."""

    def __init__(self, seed: str) -> None:
        self._draw = random.Random(seed)
        self._probability = 0.0
        self._clean = 0  # bytes still to leave alone

    def apply(self, data: bytes, probability: float) -> tuple[bytes, int]:
        """The bytes, damaged, and how many bits were flipped."""
        if probability != self._probability:
            self._probability = probability
            self._clean = self._next() if probability else 0
        if not probability:
            return data, 0
        damaged = bytearray(data)
        at, flipped = self._clean, 0
        while at < len(damaged):
            damaged[at] ^= 1 << self._draw.randrange(8)
            flipped += 1
            at += 1 + self._next()
        self._clean = at - len(damaged)
        return bytes(damaged), flipped

    def _next(self) -> int:
        if self._probability >= 1:
            return 0
        return int(math.log(1 - self._draw.random()) / math.log(1 - self._probability))
