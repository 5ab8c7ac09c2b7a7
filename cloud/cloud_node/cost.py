"""How long a batch of n images takes: a + b n, fitted by least squares to the batches of late."""

import math
from collections import deque
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


class CostModel:
    """The cost of one model's batches, learned while it serves.

    Least squares with neither part below zero, over the sums of the last batches: one more costs
    the same however many there are. Batches of one size do not tell the parts apart: then all is
    put on the images.
    """

    def __init__(self) -> None:
        self._measured: deque[Measured] = deque()
        self._images = self._squares = 0
        self._seconds = self._products = 0.0
        self.cost = Cost()

    def images_within(self, seconds: float) -> float:
        """Images of a batch that takes so long, as far as is known; below 1 where none does."""
        fixed_s, image_s = self.cost
        if image_s:
            return (seconds - fixed_s) / image_s
        if fixed_s <= seconds / 2:
            return math.inf
        # All took about as long: larger ones than these may take longer than is wanted.
        return max(measured.images for measured in self._measured)

    def learn(self, measured: Measured) -> None:
        """Take a batch into account."""
        self._measured.append(measured)
        self._add(measured, 1)
        if len(self._measured) > _WINDOW:
            self._add(self._measured.popleft(), -1)
        self.cost = self._fitted()

    def doubt(self) -> None:
        """Forget the oldest batch: an estimate that only turns work away is never renewed."""
        if self._measured:
            self._add(self._measured.popleft(), -1)
        self.cost = self._fitted()

    def _add(self, measured: Measured, times: int) -> None:
        images, seconds = measured
        self._images += times * images
        self._squares += times * images * images
        self._seconds += times * seconds
        self._products += times * images * seconds

    def _fitted(self) -> Cost:
        count, images, seconds = len(self._measured), self._images, self._seconds
        if not count:
            return Cost()
        spread = count * self._squares - images * images
        if not spread:
            return Cost(0.0, seconds / images)
        slope = (count * self._products - images * seconds) / spread
        if slope <= 0:
            return Cost(seconds / count, 0.0)
        fixed = (seconds - slope * images) / count
        if fixed < 0:  # then the best line through the origin
            return Cost(0.0, self._products / self._squares)
        return Cost(fixed, slope)
