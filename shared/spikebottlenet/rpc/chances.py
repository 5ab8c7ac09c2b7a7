"""Probabilities as an answer carries them: whole numbers, two bytes on the wire at most.

chance = round(16,383 * probability)

So five of them take nine bytes or so where float32 takes twenty, an eighth of an answer.
"""

from collections.abc import Iterable

CERTAIN = 16_383  # the largest varint of two bytes


def to_chances(probabilities: Iterable[float]) -> list[int]:
    """Chances of probabilities from 0 to 1."""
    return [round(CERTAIN * probability) for probability in probabilities]


def from_chances(chances: Iterable[int]) -> tuple[float, ...]:
    """Probabilities again, each off by 0.00003 at most."""
    return tuple(chance / CERTAIN for chance in chances)
