"""How many bits given spikes need: the least that a coder could send under a model.

    bits = - sum over sites of log2 p(spike)

Empirical: under the probabilities that the bundle holds, of the spikes that are to be sent.
"""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from spikebottlenet.bundle import Bundle

Spikes = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.float64]

_ONE = 65_536  # parts of certainty that a prior counts in


class Entropies(NamedTuple):
    """Bits an image [N] under each model."""

    prior: Bits
    model: Bits  # the best that the bundle holds
    model_is: str


class SpikeModel(Protocol):
    """A model of a whole image's spikes; it may look at those that a decoder knows by then."""

    def probabilities(self, spikes: Spikes) -> npt.NDArray[np.float64]:
        """Of every site of spikes [T, C, H, W] that it fires, flat."""


def entropies(bundle: Bundle, spikes: Spikes) -> Entropies:
    """Of the spikes of each image, [N, T, C, H, W]."""
    codec = bundle.codec()
    flat = spikes.reshape(len(spikes), -1)
    under_prior = _bits(flat, codec.prior.astype(np.float64).reshape(-1) / _ONE)
    model: SpikeModel | None = getattr(codec, "context", None)  # not every bundle holds one
    if model is None:
        return Entropies(under_prior, under_prior, "per-site prior (the bundle holds no other)")
    under_model = [
        _bits(sites, model.probabilities(each)) for sites, each in zip(flat, spikes, strict=True)
    ]
    return Entropies(under_prior, np.array(under_model), "context model")


def _bits(sites: Spikes, fires: npt.NDArray[np.float64]) -> Bits:
    """Bits of sites [..., n], each under the probability [n] that it fires."""
    surprise = np.where(sites == 1, -np.log2(fires), -np.log2(1 - fires))
    return np.asarray(surprise.sum(axis=-1))
