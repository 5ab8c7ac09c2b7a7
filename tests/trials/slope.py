"""Whether a series grows: the slope of block means, with an interval that owns up to its noise."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import linregress, t

_FEWEST_BLOCKS = 5
_MOST_FOLLOWING = 0.95


class Slope(NamedTuple):
    """Least-squares slope and its 95 % interval, in units of y for one of x."""

    slope: float
    low: float
    high: float
    blocks: int
    effective_blocks: float  # after the correction for autocorrelation

    @property
    def is_zero(self) -> bool:
        """Whether the interval holds zero."""
        return self.low <= 0.0 <= self.high


def slope(x: Sequence[float], y: Sequence[float], *, blocks: int) -> Slope:
    """Slope of ``y`` over ``x`` by means of equal blocks.

    Residuals that follow each other say less than as many that do not: with a lag-one
    autocorrelation r, n blocks count as n (1 - r) / (1 + r), and the standard error is as much
    wider.

    Raises:
        ValueError: fewer points than blocks, or fewer than five blocks.
    """
    if len(x) != len(y) or len(x) < blocks or blocks < _FEWEST_BLOCKS:
        raise ValueError(f"{len(x)} points in {blocks} blocks: wanted 5 blocks, none of them empty")
    mean_x = np.array([part.mean() for part in np.array_split(np.asarray(x, float), blocks)])
    mean_y = np.array([part.mean() for part in np.array_split(np.asarray(y, float), blocks)])
    line = linregress(mean_x, mean_y)
    residuals = mean_y - line.intercept - line.slope * mean_x
    power = float(residuals @ residuals)
    follow = float(residuals[:-1] @ residuals[1:]) / power if power else 0.0
    follow = max(0.0, min(_MOST_FOLLOWING, follow))
    effective = max(3.0, blocks * (1 - follow) / (1 + follow))
    half = float(t.ppf(0.975, effective - 2)) * float(line.stderr) * math.sqrt(blocks / effective)
    middle = float(line.slope)
    return Slope(middle, middle - half, middle + half, blocks, effective)
