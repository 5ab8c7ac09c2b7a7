"""Waits between attempts: exponential, with full jitter, so that a fleet does not come in step.

wait = uniform(0, min(longest, first * 2^attempt)), after Brooker, "Exponential Backoff And Jitter"
(AWS Architecture Blog, 2015).
"""

import random
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """The next wait; ``reset`` after a success."""

    first_s: float = 0.1
    longest_s: float = 2.0
    draw: random.Random = field(default_factory=random.Random)
    attempt: int = 0

    def next_s(self) -> float:
        """Seconds to wait before the next attempt."""
        ceiling = min(self.longest_s, self.first_s * 2.0 ** min(self.attempt, 32))
        self.attempt += 1
        return self.draw.uniform(0.0, ceiling)

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self.attempt = 0
