"""How many bits given spikes need: the least that a coder could send under a bundle's models."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.bundle import Bundle
from spikebottlenet.codec.information import context_bits, prior_bits

Spikes = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.float64]


class Entropies(NamedTuple):
    """Bits an image [N] under each model."""

    prior: Bits
    model: Bits  # the best that the bundle holds
    model_is: str


def entropies(bundle: Bundle, spikes: Spikes) -> Entropies:
    """Of the spikes of each image, [N, T, C, H, W]."""
    codec = bundle.codec()
    under_prior = np.array([prior_bits(each, codec.prior) for each in spikes])
    if codec.context is None:
        return Entropies(under_prior, under_prior, "per-site prior (the bundle holds no other)")
    under_model = np.array([context_bits(each, codec.context) for each in spikes])
    return Entropies(under_prior, under_model, "context model")
