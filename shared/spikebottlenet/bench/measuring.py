"""Times of several contestants in turns, and what is said of them: median and quartiles.

In turns, because a noisy neighbour or a hot processor then meets all alike, and each round in
another order, because what one leaves in the caches meets the next. A ratio is taken within each
round, so its spread is that of the ratio and not of the machine.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Take = Callable[[], float]  # one measurement, in whatever unit


class Spread(NamedTuple):
    """What many measurements of one thing say."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    repeats: int

    def scaled(self, factor: float) -> "Spread":
        """The same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.repeats)


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; of one value, that value.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values to take a median of: measure at least once")
    low, median, high = np.percentile(np.asarray(values, dtype=np.float64), [25, 50, 75])
    return Spread(float(median), float(low), float(high), len(values))


def ratios(values: Sequence[float], references: Sequence[float]) -> list[float]:
    """Value over reference, round by round; NaN where the reference is 0."""
    return [
        value / reference if reference else float("nan")
        for value, reference in zip(values, references, strict=True)
    ]


def timed(work: Callable[[], object], *, times: int = 1) -> Take:
    """A measurement of ``work``: seconds a call, over so many calls in a row."""

    def take() -> float:
        started = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - started) / times

    return take


def in_turns(rounds: int, *takes: Take, warm: int = 1) -> list[list[float]]:
    """What each measured in each round; ``warm`` rounds before do not count."""
    for _ in range(warm):
        for take in takes:
            take()
    measured: list[list[float]] = [[] for _ in takes]
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for place in order.permutation(len(takes)):
            measured[place].append(takes[place]())
    return measured
