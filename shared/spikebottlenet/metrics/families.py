"""Metric families as a daemon counts them: plain numbers, turned into Prometheus's at a scrape.

Kept apart from ``prometheus_client`` so that a request pays an addition a value, and a daemon that
nobody scrapes does not import that library. All is written and read by the event loop alone, so
that nothing is locked and one scrape sees whole requests only.

Labels are of closed sets (a status code, a stage, a direction): never an id, a client or a label of
a class.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Labels = tuple[str, ...]  # values, in the order of a family's names

# Upper bounds, seconds: 1, 2.5, 5 a decade from 100 us to 10 s. A stage of the shipped model takes
# from a fifth of a millisecond (coding) to some seconds (a link that comes back).
DURATION_BOUNDS = (
    *(step * 10.0**decade for decade in range(-4, 1) for step in (1.0, 2.5, 5.0)),
    10.0,
)


class Sum:
    """One number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        """Let it grow."""
        self.value += amount


class Distribution:
    """How often values fell between bounds, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last: above every bound
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, as so many equal ones."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


@dataclass
class Counter:
    """Sums by label; the name is without ``_total``."""

    name: str
    about: str
    labels: Labels = ()
    sums: dict[Labels, Sum] = field(default_factory=dict)

    def of(self, *labels: str) -> Sum:
        """The sum of these labels, made at its first use; keep it where it is used often."""
        found = self.sums.get(labels)
        if found is None:
            found = self.sums[labels] = Sum()
        return found


@dataclass
class Histogram:
    """Distributions by label."""

    name: str
    about: str
    bounds: Sequence[float]
    labels: Labels = ()
    distributions: dict[Labels, Distribution] = field(default_factory=dict)

    def of(self, *labels: str) -> Distribution:
        """The distribution of these labels, made at its first use."""
        found = self.distributions.get(labels)
        if found is None:
            found = self.distributions[labels] = Distribution(self.bounds)
        return found


class Reading(NamedTuple):
    """One number as it stands at a scrape."""

    value: float
    labels: Labels = ()


@dataclass(frozen=True)
class Gauge:
    """Numbers that are somewhere else already, read at a scrape."""

    name: str
    about: str
    read: Callable[[], Iterable[Reading]]
    labels: Labels = ()


@dataclass(frozen=True)
class ReadCounter:
    """The same of numbers that only grow; the name is without ``_total``."""

    name: str
    about: str
    read: Callable[[], Iterable[Reading]]
    labels: Labels = ()


@dataclass(frozen=True)
class ReadHistogram:
    """A distribution of whole numbers that are counted somewhere else already."""

    name: str
    about: str
    bounds: Sequence[float]
    read: Callable[[], Mapping[int, int]]  # value -> how often

    def distribution(self) -> Distribution:
        """As it stands now."""
        found = Distribution(self.bounds)
        for value, times in self.read().items():
            found.observe(value, times)
        return found


Family = Counter | Histogram | Gauge | ReadCounter | ReadHistogram
