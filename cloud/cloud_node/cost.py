"""How long a batch of n images takes: a + b n, fitted by least squares to the batches of late."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

_WINDOW = 64  # batches


class Measured(NamedTuple):
    """One batch that was run."""

    images: int
    seconds: float


class Cost(NamedTuple):
    """Seconds of a batch: ``fixed_s + image_s * images``."""

    fixed_s: float = 0.0
    image_s: float = 0.0

    def batch_s(self, images: int) -> float:
        """Seconds of one batch."""
        return self.fixed_s + self.image_s * images

    def queue_s(self, images: int, max_batch: int) -> float:
        """Seconds until this many images are done, in batches as full as can be."""
        return -(-images // max_batch) * self.fixed_s + self.image_s * images


def fit_cost(measured: Sequence[Measured]) -> Cost:
    """Least squares with neither part below zero; nothing measured costs nothing.

    Batches of one size do not tell the parts apart: then all is put on the images.
    """
    count = len(measured)
    if not count:
        return Cost()
    mean_n = sum(m.images for m in measured) / count
    mean_s = sum(m.seconds for m in measured) / count
    spread = sum((m.images - mean_n) ** 2 for m in measured)
    if not spread:
        return Cost(0.0, mean_s / mean_n)
    slope = sum((m.images - mean_n) * (m.seconds - mean_s) for m in measured) / spread
    if slope <= 0:
        return Cost(mean_s, 0.0)
    fixed = mean_s - slope * mean_n
    if fixed < 0:  # then the best line through the origin
        squares = sum(m.images**2 for m in measured)
        return Cost(0.0, sum(m.images * m.seconds for m in measured) / squares)
    return Cost(fixed, slope)


class CostModel:
    """The cost of one model's batches, learned while it serves."""

    def __init__(self) -> None:
        self._measured: deque[Measured] = deque(maxlen=_WINDOW)
        self.cost = Cost()

    def learn(self, measured: Measured) -> None:
        """Take a batch into account."""
        self._measured.append(measured)
        self.cost = fit_cost(self._measured)

    def doubt(self) -> None:
        """Forget the oldest batch: an estimate that only turns work away is never renewed."""
        if self._measured:
            self._measured.popleft()
        self.cost = fit_cost(self._measured)
