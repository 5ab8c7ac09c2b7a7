"""Scheme ``context``: every spike coded under a probability that its decoded neighbours give.

    logit[site] = bias[site] + sum of weights of the neighbours that spiked
    probability of a spike = table[logit] / 65,536

Sites are coded in passes, so that all of one pass are coded at once: timestep by timestep; in one,
the first half of the channels and then the second; in those, the white fields of a checkerboard
and then the black ones (He et al., "Checkerboard Context Model", CVPR 2021, arXiv 2103.15306). A
site's neighbours are the sites of its 3 x 3 field, in the timestep before and in its own, that
earlier passes hold; beyond the border and before timestep 0 nothing spikes. So a frame of this
scheme begins at timestep 0.

All that decides a probability is an integer and exact: the sums stay below 2^24, and float32
products and sums of such integers are exact in whatever order they are made (they are in float32
because that is what linear algebra libraries are fast at). So both sides agree bit for bit, on
every machine and with any number of threads.

Coder: asymmetric numeral systems, from the constriction library (Bamler, arXiv 2201.01741).
Decoding is the exact reverse of encoding, so a payload that leaves the decoder empty is what
``encode`` writes: nothing is encoded again to prove it. Trailing zero bytes are left out.
"""

from dataclasses import dataclass
from functools import cached_property

import constriction
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
from spikebottlenet.codec.frame import dense_bytes
from spikebottlenet.codec.sites import Sites
from spikebottlenet.errors import CorruptFrameError
from spikebottlenet.model.shape import SpikeShape

_WORD_BYTES = 4

Index = npt.NDArray[np.intp]
Exact = npt.NDArray[np.float32]  # integers below 2^24
Probabilities = npt.NDArray[np.float64]  # multiples of 1 / 65,536


@dataclass(frozen=True)
class Pass:
    """The sites that are coded at once: half of the channels at one colour's places."""

    timestep: int
    channels: slice
    places: Index  # [n], y * W + x
    fields: Index  # [n, 9], places too; H * W stands for beyond the border
    first_input: int  # C at timestep 0, which has none before it; else 0
    weights: Exact  # [9 * inputs, channels]
    bias: Exact  # [n, channels], plus the middle of the table
    informed: bool  # whether any neighbour counts


@dataclass(frozen=True)
class ContextModel:
    """Checked tables, and what is worked out from them once."""

    shape: SpikeShape
    tables: ContextTables

    def __post_init__(self) -> None:
        check_tables(self.tables, self.shape)

    @cached_property
    def table(self) -> Probabilities:
        """Probability of a spike by logit."""
        return self.tables.table.astype(np.float64) / PRIOR_ONE

    @cached_property
    def places(self) -> list[Index]:
        """Places y * W + x of each colour, white first."""
        y, x = np.divmod(np.arange(self.area), self.shape.width)
        return [np.flatnonzero((y + x) % COLOURS == colour) for colour in range(COLOURS)]

    @cached_property
    def fields(self) -> list[Index]:
        """The fields around the places of each colour."""
        padded = np.full((self.shape.height + 2, self.shape.width + 2), self.area, dtype=np.intp)
        padded[1:-1, 1:-1] = np.arange(self.area).reshape(self.shape.height, self.shape.width)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(-1, FIELD)
        return [windows[places] for places in self.places]

    @cached_property
    def weights(self) -> Exact:
        """Weights as the tables have them, [T, colour, 9, 2 C, C]."""
        return self.tables.weights.astype(np.float32)

    @cached_property
    def bias(self) -> Exact:
        """Bias plus the middle of the table, [T, H * W, C]."""
        by_channel = self.tables.bias.reshape(self.shape.timesteps, self.shape.channels, -1)
        by_place = np.ascontiguousarray(by_channel.transpose(0, 2, 1), dtype=np.float32)
        return by_place + np.float32(self.table.size // 2)

    @cached_property
    def passes(self) -> list[Pass]:
        """In the order of coding; every one has sites."""
        return [
            self._pass(t, half, colour)
            for t in range(self.shape.timesteps)
            for half in channel_halves(self.shape.channels)
            for colour, places in enumerate(self.places)
            if places.size
        ]

    def _pass(self, t: int, half: slice, colour: int) -> Pass:
        first_input = 0 if t else self.shape.channels
        weights = self.weights[t, colour][:, first_input:, half]
        return Pass(
            timestep=t,
            channels=half,
            places=self.places[colour],
            fields=self.fields[colour],
            first_input=first_input,
            weights=weights.reshape(-1, half.stop - half.start),
            bias=np.ascontiguousarray(self.bias[t, self.places[colour], half]),
            informed=bool(weights.any()),
        )

    @cached_property
    def order(self) -> Index:
        """The sites in the order of coding, as numbers in [T, H * W, C]."""
        numbers = np.arange(self.shape.bits).reshape(self.shape.timesteps, self.area, -1)
        rows = [numbers[one.timestep][one.places][:, one.channels] for one in self.passes]
        return np.concatenate([row.reshape(-1) for row in rows])

    @property
    def area(self) -> int:
        """Places of one channel, H * W."""
        return self.shape.height * self.shape.width

    def by_place(self, spikes: Sites) -> npt.NDArray[np.uint8]:
        """Sites in the order [t, C, H, W] laid out as [t, H * W, C]."""
        return spikes.reshape(-1, self.shape.channels, self.area).transpose(0, 2, 1)

    def probabilities(self, rows: npt.NDArray[np.uint8]) -> Probabilities:
        """Of a spike at each site of [t, H * W, C], timestep 0 on, given those coded before it."""
        count, channels = len(rows), self.shape.channels
        near = np.zeros((self.area + 1, 2 * channels), dtype=np.float32)
        logits = np.empty(rows.shape, dtype=np.float32)
        for t in range(count):
            near[:-1, :channels] = near[:-1, channels:]
            near[:-1, channels:] = rows[t]
            for colour, places in enumerate(self.places):
                around = near.take(self.fields[colour], axis=0)
                around = around.reshape(len(places), FIELD * 2 * channels)
                logits[t, places] = around @ self.weights[t, colour].reshape(-1, channels)
        logits += self.bias[:count]
        return self.table.take(logits.astype(np.intp), mode="clip")


def _bernoulli() -> constriction.stream.model.Bernoulli:
    return constriction.stream.model.Bernoulli(perfect=False)


def encode(spikes: Sites, model: ContextModel) -> bytes:
    """Code sites [n] of {0, 1}, whole timesteps from 0 on."""
    rows = model.by_place(spikes)
    order = model.order[: spikes.size]
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(
        rows.reshape(-1).take(order).astype(np.int32),
        _bernoulli(),
        model.probabilities(rows).reshape(-1).take(order),
    )
    return np.asarray(coder.get_compressed(), dtype="<u4").tobytes().rstrip(b"\0")


def decode(payload: bytes, model: ContextModel, timesteps: int) -> Sites:
    """Decode so many timesteps from 0 on.

    Raises:
        CorruptFrameError: not what ``encode`` writes for any spikes.
    """
    limit = dense_bytes(timesteps * model.shape.sites)
    if len(payload) > limit:
        raise CorruptFrameError(f"payload of {len(payload)} bytes, wanted at most {limit}")
    if payload.endswith(b"\0"):
        raise CorruptFrameError("payload ends in a zero byte, which is never written: resend it")
    padded = payload.ljust(-(-len(payload) // _WORD_BYTES) * _WORD_BYTES, b"\0")
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(padded, "<u4").astype(np.uint32))
    bernoulli, channels = _bernoulli(), model.shape.channels
    near = np.zeros((timesteps, model.area + 1, 2 * channels), dtype=np.float32)
    for one in model.passes:
        if one.timestep == timesteps:
            break
        now, logits = near[one.timestep], one.bias
        if one.informed:
            around = now[:, one.first_input :].take(one.fields, axis=0)
            logits = around.reshape(len(one.places), -1) @ one.weights
            logits += one.bias
        chances = model.table.take(logits.astype(np.intp), mode="clip")
        symbols = coder.decode(bernoulli, chances.reshape(-1)).reshape(chances.shape)
        now[one.places, channels + one.channels.start : channels + one.channels.stop] = symbols
        if one.timestep + 1 < timesteps:
            near[one.timestep + 1, one.places, one.channels] = symbols
    if not coder.is_empty():
        raise CorruptFrameError("payload is not the code of any spikes: resend it")
    spikes = near[:, :-1, channels:].transpose(0, 2, 1)
    return np.ascontiguousarray(spikes, dtype=np.uint8).reshape(-1)
