"""Client-side throttling: a client that was refused for lack of room keeps part of its requests.

Refusing costs a server too. A client that sees refusals therefore sends only a little more than
what was accepted of late, and refuses the rest to itself, at no cost to anybody:

    p = max(0, (asked - excess * accepted) / (asked + 1))

is the chance that a request is held back, where ``asked`` counts accepted, refused and held back
ones, each fading with a time constant. While nothing is refused p is 0. When the server has room
again, what is sent grows by ``excess`` in about each time constant until nothing is held back.
Source: Beyer et al., "Site Reliability Engineering", 2016, chapter 21, "Client-side throttling",
with answers in place of requests sent, so that a slow link is not taken for a refusal.
"""

import math
import random
from collections.abc import Callable

FADES_S = 2.0
EXCESS = 1.1


class Throttle:
    """What one client knows of one server's room; clocks are monotonic seconds."""

    def __init__(
        self,
        *,
        excess: float = EXCESS,
        fades_s: float = FADES_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._excess = excess
        self._fades_s = fades_s
        self._chance = chance
        self._asked = self._accepted = 0.0
        self._at = 0.0

    def holds_back(self, now: float) -> bool:
        """Whether the next request is not to be sent; it counts as asked then."""
        if self._asked <= self._excess * self._accepted:  # it stays so as both fade
            return False
        self._fade(now)
        share = (self._asked - self._excess * self._accepted) / (self._asked + 1.0)
        if self._chance() >= share:
            return False
        self._asked += 1.0
        return True

    def accepted(self, now: float) -> None:
        """Note that the server answered a request."""
        self._fade(now)
        self._asked += 1.0
        self._accepted += 1.0

    def refused(self, now: float) -> None:
        """Note that the server had no room for a request."""
        self._fade(now)
        self._asked += 1.0

    def _fade(self, now: float) -> None:
        if now > self._at:
            kept = math.exp((self._at - now) / self._fades_s)
            self._asked *= kept
            self._accepted *= kept
            self._at = now
