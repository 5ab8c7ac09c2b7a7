"""A fitted context model finds what spikes tell of one another, as far as it can be known."""

import numpy as np
import pytest

from spikebottlenet.codec.context import decode, encode
from spikebottlenet.codec.context_model import ContextModel
from spikebottlenet.codec.information import context_bits, prior_bits
from spikebottlenet.lab.context_fit import fit_context
from spikebottlenet.model.shape import SpikeShape

pytest.importorskip("torch")


def persistent_spikes(shape: SpikeShape, count: int, seed: int) -> np.ndarray:
    """Fair coins at timestep 0; at each later one a site changes with probability 0.1."""
    rng = np.random.default_rng(seed)
    changes = rng.random((count, *shape)) < 0.1
    changes[:, 0] = rng.random((count, *tuple(shape)[1:])) < 0.5
    return np.bitwise_xor.accumulate(changes, axis=1).astype(np.uint8)


def test_persistent_spikes_cost_what_their_changes_do() -> None:
    # By hand: 1 bit a site at timestep 0, h(0.1) = 0.469 bits at later ones; the prior sees
    # coins. What 3,000 images leave open may cost some per cent more.
    shape = SpikeShape(3, 2, 3, 4)
    spikes = persistent_spikes(shape, 3000, 0)
    prior = np.full(tuple(shape), 32_768, np.uint16)
    packed = np.packbits(spikes.reshape(len(spikes), -1), axis=1)
    model = ContextModel(shape, fit_context(packed, prior, shape, seed=0))
    unseen = persistent_spikes(shape, 1000, 1)
    limit = shape.sites * (1 + 0.469 * (shape.timesteps - 1))
    mean = np.mean([context_bits(one, model) for one in unseen])
    assert prior_bits(unseen[0], prior) == shape.bits
    assert limit * 0.98 <= mean <= limit * 1.06
    for one in unseen[:50]:
        payload = encode(one.reshape(-1), model)
        if 8 * len(payload) <= shape.bits:
            np.testing.assert_array_equal(decode(payload, model, shape.timesteps), one.reshape(-1))


def test_the_same_spikes_and_seed_make_the_same_tables() -> None:
    shape = SpikeShape(2, 2, 4, 4)
    spikes = persistent_spikes(shape, 200, 2)
    packed = np.packbits(spikes.reshape(200, -1), axis=1)
    prior = np.full(tuple(shape), 32_768, np.uint16)
    one, two = (fit_context(packed, prior, shape, seed=3, steps=20) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
