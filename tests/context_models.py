"""Context models drawn at random, within what a bundle may hold."""

import numpy as np

from spikebottlenet.codec.context_model import ContextModel
from spikebottlenet.codec.context_tables import ContextTables, known_neighbours
from spikebottlenet.model.shape import SpikeShape

UNITS = 40  # logits a nat


def logistic_table() -> np.ndarray:
    logits = np.arange(-10 * UNITS, 10 * UNITS + 1) / UNITS
    return np.clip(np.rint(65_536 / (1 + np.exp(-logits))), 1, 65_535).astype(np.uint16)


def random_tables(shape: SpikeShape, seed: int) -> ContextTables:
    rng = np.random.default_rng(seed)
    t, c = shape.timesteps, shape.channels
    weights = rng.integers(-30, 31, (t, 2, 9, 2 * c, c)) * known_neighbours(c)
    weights[0, :, :, :c] = 0
    bias = rng.integers(-60, 61, tuple(shape))
    return ContextTables(weights.astype(np.int8), bias.astype(np.int16), logistic_table())


def random_model(shape: SpikeShape, seed: int) -> ContextModel:
    return ContextModel(shape, random_tables(shape, seed))


def in_numpy(model: ContextModel) -> ContextModel:
    """The same model without its compiled part, as where there was no compiler."""
    plain = ContextModel(model.shape, model.tables)
    plain.__dict__["native"] = None  # where cached_property keeps it
    return plain
