"""The numbers of a context model, as a bundle holds them, and what they have to be.

    weights  int8   [T, colour, 9, 2 C, C]   from (timestep before, this one) to channels
    bias     int16  [T, C, H, W]
    table    uint16 [odd]                    probability times 65,536; logit 0 in its middle

``codec.context`` says what they mean.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.model.shape import SpikeShape

FIELD = 9  # neighbours by place: rows dy = -1, 0, 1 of dx = -1, 0, 1
COLOURS = 2  # of the checkerboard
MAX_TABLE = 8_193  # logits
_MAX_CHANNELS = 512  # the tables grow by its square; sums stay below 2^24 up to 4,096
_HALVES = 2


class ContextTables(NamedTuple):
    """The fitted numbers."""

    weights: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int16]
    table: npt.NDArray[np.uint16]


def channel_halves(channels: int) -> list[slice]:
    """The two halves of the channels, without an empty one."""
    middle = channels // _HALVES
    return [half for half in (slice(0, middle), slice(middle, channels)) if half.start < half.stop]


def known_neighbours(channels: int) -> npt.NDArray[np.bool_]:
    """Which neighbours are decoded before a site, [colour, 9, 2 C, C]."""
    half = np.arange(channels) >= channels // _HALVES
    known = np.zeros((COLOURS, FIELD, 2 * channels, channels), dtype=np.bool_)
    known[:, :, :channels] = True
    known[:, :, channels:] = half[:, None] < half[None, :]
    # The odd places of a field have the other colour: decoded before, if that is the first one.
    known[1, 1::2, channels:] |= half[:, None] == half[None, :]
    return known


def tables_shapes(shape: SpikeShape) -> dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]]:
    """Type and shape of the parts whose size the bundle's shape settles."""
    t, c, h, w = shape
    return {
        "weights": (np.dtype(np.int8), (t, COLOURS, FIELD, 2 * c, c)),
        "bias": (np.dtype(np.int16), (t, c, h, w)),
    }


def check_tables(tables: ContextTables, shape: SpikeShape) -> None:
    """Refuse tables that are not of this shape, or that could make the two sides disagree.

    Raises:
        ValueError: says what was found and wanted.
    """
    for name, (kind, wanted) in tables_shapes(shape).items():
        found = getattr(tables, name)
        if found.dtype != kind or found.shape != wanted:
            raise ValueError(
                f"context {name} is {found.dtype} {list(found.shape)}, wanted {kind} {list(wanted)}"
            )
    table, c = tables.table, shape.channels
    if table.dtype != np.uint16 or table.ndim != 1 or table.size % 2 == 0:
        raise ValueError(
            f"context table is {table.dtype} {list(table.shape)}, wanted uint16 of odd length"
        )
    if table.size > MAX_TABLE or not table.all():
        raise ValueError(
            f"context table holds {table.size} values from {table.min()}, "
            f"wanted at most {MAX_TABLE}, none of them 0"
        )
    if c > _MAX_CHANNELS:
        raise ValueError(f"context model of {c} channels, wanted at most {_MAX_CHANNELS}")
    if tables.weights[0, :, :, :c].any() or tables.weights[:, ~known_neighbours(c)].any():
        raise ValueError("context weights take in sites that are not decoded yet: fit them again")
