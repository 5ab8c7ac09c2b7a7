"""Probabilities as an answer carries them: whole numbers, two bytes on the wire at most.

chance = round(16,383 * probability)

So five of them take nine bytes or so where float32 takes twenty, an eighth of an answer.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

CERTAIN = 16_383  # the largest varint of two bytes


def to_chances(probabilities: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Chances of probabilities from 0 to 1, of any shape."""
    return np.rint(CERTAIN * np.asarray(probabilities, dtype=np.float64)).astype(np.int64)


def from_chances(chances: Iterable[int]) -> tuple[float, ...]:
    """Probabilities again, each off by 0.00003 at most."""
    return tuple([chance / CERTAIN for chance in chances])
