"""How many bits given spikes need: the least that a coder could send under a model.

    bits = - sum over sites of log2 p(spike)

Empirical: under the probabilities that the bundle holds, of the spikes that are to be sent.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.bundle import Bundle
from spikebottlenet.codec.entropy import PRIOR_ONE

Spikes = npt.NDArray[np.uint8]


class Entropies(NamedTuple):
    """Bits an image [N] under each model."""

    prior: npt.NDArray[np.float64]
    model: npt.NDArray[np.float64]  # the best that the bundle holds
    model_is: str


def entropies(bundle: Bundle, spikes: Spikes) -> Entropies:
    """Of the spikes of each image, [N, T, C, H, W]."""
    under_prior = prior_bits(bundle, spikes)
    return Entropies(under_prior, under_prior, "per-site prior (the bundle holds no other model)")


def prior_bits(bundle: Bundle, spikes: Spikes) -> npt.NDArray[np.float64]:
    """Bits an image under the probability that each site fires, whatever the others do."""
    fires = bundle.codec().prior.astype(np.float64) / PRIOR_ONE
    of_spike, of_silence = -np.log2(fires), -np.log2(1 - fires)
    sites = tuple(range(1, spikes.ndim))
    return np.asarray(np.where(spikes == 1, of_spike, of_silence).sum(axis=sites))
