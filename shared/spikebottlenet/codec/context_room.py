"""Where a payload of scheme ``context`` is decoded: arrays that are used again for the next image.

Taking and giving back some 60 small arrays an image costs a fifth of the time. Every view that a
pass needs is made once.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.codec.context_model import Chances, ContextModel, Exact, Index
from spikebottlenet.codec.sites import Sites


class Step(NamedTuple):
    """What known spikes give to logits: ``onto`` is ``base`` and their fields times weights."""

    spikes: Exact  # [H * W + 1, inputs]
    fields: Index  # [ranks, places of a field]
    around: Exact  # [ranks, places of a field, inputs], to write to
    rows: Exact  # the same, [(colour,) each, places of a field * inputs]
    weights: Exact
    product: Exact  # as onto, to write to
    base: Exact
    onto: Exact


class Pass(NamedTuple):
    """Sites that are coded at once: half of the channels at one colour's places."""

    steps: list[Step]  # to take before it
    logits: Exact  # [n, channels]
    integers: Index  # the same as such, to write to
    flat: Index  # those in one row
    chances: Chances  # of each of the row, to write to
    spikes: Exact  # where they go once they are known


class Room:
    """Arrays to decode one image in, used again for the next: nothing is taken and given back.

    A pass reads nothing that was not written before it for the same image.
    """

    def __init__(self, model: ContextModel) -> None:
        shape = model.shape
        self._model, self._table = model, model.table
        self._near = np.zeros((shape.timesteps, model.area + 1, shape.channels), dtype=np.float32)
        self._index = np.empty(model.each * shape.channels, dtype=np.intp)
        self._chances = np.empty((model.each * shape.channels, 2))
        self._passes = [self._of_timestep(t) for t in range(shape.timesteps)]

    def decode(self, symbols: Callable[[Chances], npt.NDArray[np.int32]], timesteps: int) -> Sites:
        """Decode so many timesteps from 0 on, given what draws symbols by their chances."""
        # Local names: a pass is so short that looking up attributes shows.
        matmul, add, copyto, chances_of = np.matmul, np.add, np.copyto, self._table.take
        for passes in self._passes[:timesteps]:
            for steps, logits, integers, flat, chances, spikes in passes:
                for known, fields, around, rows, weights, product, base, onto in steps:
                    known.take(fields, 0, around, "clip")
                    matmul(rows, weights, product)
                    add(base, product, onto)
                copyto(integers, logits, "unsafe")
                chances_of(flat, 0, chances, "clip")
                spikes[:] = symbols(chances).reshape(spikes.shape)
        return self._model.sites(self._near[:timesteps])

    def _of_timestep(self, t: int) -> list[Pass]:
        """In the order of coding; every one has sites."""
        model, now = self._model, self._near[t]
        black_ones = model.area - model.each
        base, logits = model.bias[t], np.empty_like(model.bias[t])
        steps: list[Step] = []
        found: list[Pass] = []
        if t:
            steps = [_step(self._near[t - 1], model.fields, model.from_before[t], base, logits)]
            base = logits
        for half, from_white in zip(model.halves, model.from_white, strict=True):
            spikes, part, known = now[:, half], logits[:, :, half], base[:, :, half]
            if half.start:
                first = now[:, model.halves[0]]
                steps = [_step(first, model.fields, model.from_first_half[t], known, part)]
                known = part
            found.append(self._pass(steps, known[0], spikes[: model.each]))
            if black_ones:
                steps = [_step(spikes, model.white_fields, from_white[t], known[1], part[1])]
                found.append(self._pass(steps, part[1, :black_ones], spikes[model.each : -1]))
        return found

    def _pass(self, steps: list[Step], logits: Exact, spikes: Exact) -> Pass:
        flat, chances = self._index[: logits.size], self._chances[: logits.size]
        return Pass(steps, logits, flat.reshape(logits.shape), flat, chances, spikes)


def _step(spikes: Exact, fields: Index, weights: Exact, base: Exact, onto: Exact) -> Step:
    around = np.empty((*fields.shape, spikes.shape[1]), dtype=np.float32)
    rows = around.reshape(*onto.shape[:-1], -1)
    return Step(spikes, fields, around, rows, weights, np.empty_like(onto), base, onto)
