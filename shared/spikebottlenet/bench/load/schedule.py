"""When requests are due: Poisson arrivals, the same for the same seed.

Independent users make a Poisson process: gaps are exponential with mean 1 / rate. Parted among
edges at random it is a Poisson process at each, so one schedule serves them all.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]


class Schedule(NamedTuple):
    """Requests in the order they are due."""

    due_s: Seconds  # after the start
    edge: npt.NDArray[np.int64]  # which edge sends it

    def of_process(self, index: int, processes: int) -> "Schedule":
        """The part of the edges that one generator process plays."""
        mine = self.edge % processes == index
        return Schedule(self.due_s[mine], self.edge[mine])


def poisson_schedule(*, rate: float, seconds: float, edges: int, seed: int) -> Schedule:
    """Arrivals at ``rate`` a second over ``seconds``, each at a random edge.

    Raises:
        ValueError: a rate, duration or number of edges that is not positive.
    """
    if rate <= 0 or seconds <= 0 or edges < 1:
        raise ValueError(f"rate {rate}, seconds {seconds}, edges {edges}: all must be positive")
    random = np.random.default_rng(seed)
    expected = rate * seconds
    due = np.empty(0)
    last = 0.0
    while last < seconds:
        gaps = random.exponential(1 / rate, size=int(expected + 4 * expected**0.5) + 16)
        more = last + gaps.cumsum()
        due = np.concatenate([due, more])
        last = float(more[-1])
    due = due[due < seconds]
    return Schedule(due, random.integers(0, edges, size=len(due)))
