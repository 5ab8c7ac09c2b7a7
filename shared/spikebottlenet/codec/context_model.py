"""The context model worked out once from its tables, so that a pass is a few large operations.

Places are ranked, the white ones before the black ones, and rank H * W stands for all that lies
beyond the border. Each colour has as many ranks: where H * W is odd, the last black one is the
border's.
"""

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spikebottlenet.codec.context_tables import (
    COLOURS,
    FIELD,
    ContextTables,
    channel_halves,
    check_tables,
)
from spikebottlenet.codec.entropy import PRIOR_ONE
from spikebottlenet.codec.sites import Sites
from spikebottlenet.logs import fields
from spikebottlenet.model.shape import SpikeShape

try:
    from spikebottlenet.codec._native import Coder
except ImportError:  # built without a C compiler
    Coder = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from spikebottlenet.codec.context_room import Room

log = logging.getLogger(__name__)

_WHITE_OF_BLACK = slice(1, None, 2)  # in a field: its odd places have the other colour

Index = npt.NDArray[np.intp]
Exact = npt.NDArray[np.float32]  # integers below 2^24
Chances = npt.NDArray[np.float64]  # [n, 2] of silence and of a spike, multiples of 1 / 65,536


@dataclass(frozen=True)
class ContextModel:
    """Checked tables of spikes [T, C, H, W]."""

    shape: SpikeShape
    tables: ContextTables

    def __post_init__(self) -> None:
        check_tables(self.tables, self.shape)

    @cached_property
    def native(self) -> "Coder | None":
        """The same model compiled; None where that was not built, or sums of these tables take more
        than its 16 bits.
        """
        if Coder is None:
            return None
        try:
            return Coder(self.shape, *(np.ascontiguousarray(part) for part in self.tables))
        except OverflowError as error:
            log.warning("coding in NumPy, which takes more time", extra=fields(reason=str(error)))
            return None

    @cached_property
    def order(self) -> Index:
        """The sites in the order of coding, as numbers in [T, C, H * W]."""
        numbers = np.arange(self.shape.bits).reshape(self.shape.timesteps, -1, self.area)
        return self._coded(numbers[:, :, self._places].transpose(0, 2, 1))

    def in_order(self, spikes: Sites) -> Sites:
        """Whole timesteps [t, C, H, W] from 0 on, in the order of coding."""
        return spikes.reshape(-1).take(self.order[: spikes.size])

    def chances(self, spikes: Sites) -> Chances:
        """Of each site of [t, C, H, W], in the order of coding, given those before it."""
        count = spikes.size // self.shape.sites
        near = np.zeros((count, self.area + 1, self.shape.channels), dtype=np.float32)
        by_place = spikes.reshape(count, -1).take(self._by_rank, axis=1)
        near[:, :-1] = by_place.reshape(count, self.area, -1)
        around = near.take(self.fields, axis=1, mode="clip").reshape(count, COLOURS, self.each, -1)
        logits = around @ self._from_now[:count]
        logits += self.bias[:count]
        later = logits[1:]
        later += around[:-1] @ self.from_before[1:count]
        coded = logits.reshape(-1).take(self._order_by_rank[: spikes.size], mode="clip")
        return self.table.take(coded.astype(np.intp), axis=0, mode="clip")

    def sites(self, near: Exact) -> Sites:
        """Sites [n] in the order [t, C, H, W] of spikes by rank, [t, H * W + 1, C]."""
        spikes = near.reshape(len(near), -1).take(self._rank_of, axis=1, mode="clip")
        return spikes.astype(np.uint8).reshape(-1)

    @cached_property
    def rooms(self) -> "list[Room]":
        """Arrays to decode in that no thread uses now."""
        return []

    @cached_property
    def area(self) -> int:
        """Places of one channel, H * W."""
        return self.shape.height * self.shape.width

    @cached_property
    def each(self) -> int:
        return -(-self.area // COLOURS)

    @cached_property
    def halves(self) -> list[slice]:
        return channel_halves(self.shape.channels)

    @cached_property
    def _places(self) -> Index:
        """Place y * W + x of each rank."""
        y, x = np.divmod(np.arange(self.area), self.shape.width)
        return np.argsort((y + x) % COLOURS, kind="stable")

    @cached_property
    def _by_rank(self) -> Index:
        """Number in [C, H * W] of each site of [H * W, C] by rank."""
        numbers = np.arange(self.shape.sites).reshape(-1, self.area)
        return np.ascontiguousarray(numbers[:, self._places].T).reshape(-1)

    @cached_property
    def _rank_of(self) -> Index:
        """Number in [H * W + 1, C] by rank of each site of [C, H * W]."""
        return np.argsort(self._by_rank)

    @cached_property
    def _order_by_rank(self) -> Index:
        """The sites in the order of coding, as numbers in [T, colour, each, C]."""
        timesteps, channels = self.shape.timesteps, self.shape.channels
        numbers = np.arange(timesteps * COLOURS * self.each * channels)
        return self._coded(numbers.reshape(timesteps, -1, channels)[:, : self.area])

    def _coded(self, numbers: Index) -> Index:
        """Numbers of [T, H * W, C] by rank in the order of coding."""
        return np.concatenate([now[:, half].reshape(-1) for now in numbers for half in self.halves])

    @cached_property
    def fields(self) -> Index:
        """Ranks in the field around each rank, [COLOURS * each, 9]."""
        padded = np.full((self.shape.height + 2, self.shape.width + 2), self.area, dtype=np.intp)
        ranks = np.argsort(self._places)
        padded[1:-1, 1:-1] = ranks.reshape(self.shape.height, self.shape.width)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(-1, FIELD)
        fields = np.full((COLOURS * self.each, FIELD), self.area, dtype=np.intp)
        fields[: self.area] = windows[self._places]
        return fields

    @cached_property
    def white_fields(self) -> Index:
        """Of the black ranks, the white ones in their fields, [each, 4]."""
        return np.ascontiguousarray(self.fields[self.each :, _WHITE_OF_BLACK])

    @cached_property
    def bias(self) -> Exact:
        """Bias plus the middle of the table, [T, colour, each, C]."""
        timesteps, channels = self.shape.timesteps, self.shape.channels
        bias = np.zeros((timesteps, COLOURS * self.each, channels), dtype=np.float32)
        by_channel = self.tables.bias.reshape(timesteps, channels, -1)
        bias[:, : self.area] = by_channel.transpose(0, 2, 1)[:, self._places]
        return (bias + self.tables.table.size // 2).reshape(timesteps, COLOURS, -1, channels)

    @cached_property
    def table(self) -> Chances:
        """Chances by logit, the middle of the table added."""
        spike = self.tables.table.astype(np.float64) / PRIOR_ONE
        return np.stack([1 - spike, spike], axis=1)

    @cached_property
    def from_before(self) -> Exact:
        """From the timestep before: [T, colour, 9 * C, C]."""
        return self._weights(slice(self.shape.channels), slice(None))

    @cached_property
    def _from_now(self) -> Exact:
        return self._weights(self._now(slice(None)), slice(None))

    @cached_property
    def from_first_half(self) -> Exact:
        """From a timestep's first half of the channels to its second, [T, colour, 9 * ., .]."""
        return self._weights(self._now(self.halves[0]), self.halves[-1])

    @cached_property
    def from_white(self) -> list[Exact]:
        """For each half, to its black places: [T, 4 * inputs, outputs]."""
        return [
            np.ascontiguousarray(self._weights(self._now(half), half, field=_WHITE_OF_BLACK)[:, 1])
            for half in self.halves
        ]

    def _now(self, channels: slice) -> slice:
        """Inputs of the same timestep."""
        start, stop, _ = channels.indices(self.shape.channels)
        return slice(self.shape.channels + start, self.shape.channels + stop)

    def _weights(self, inputs: slice, outputs: slice, *, field: slice = slice(None)) -> Exact:
        """A part of the tables', [T, colour, places of a field * inputs, outputs]."""
        part = self.tables.weights[:, :, field, inputs, outputs].astype(np.float32)
        return part.reshape(*part.shape[:2], -1, part.shape[-1])
