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
    model: Bits  # the best that the bundle holds beside it; NaN if it holds none
    model_is: str


def entropies(bundle: Bundle, spikes: Spikes) -> Entropies:
    """Of the spikes of each image, [N, T, C, H, W]."""
    codec = bundle.codec()
    under_prior = np.array([prior_bits(each, codec.prior) for each in spikes])
    if codec.context is None:
        none = np.full(len(spikes), np.nan)
        return Entropies(under_prior, none, "context model (the bundle holds none)")
    under_model = np.array([context_bits(each, codec.context) for each in spikes])
    return Entropies(under_prior, under_model, "context model")


def rate_bits(spikes: Spikes) -> Bits:
    """Bits an image [N] under the firing rates of these very spikes, each site by itself.

    Rates are of one half of the images and applied to the other, so that no image is coded with
    what it says itself: ``(fired + 1) / (images + 2)`` (Laplace), without which a site that was
    silent throughout one half would cost the other an infinity.
    """
    halves = np.array_split(spikes, 2)
    return np.concatenate(
        [_bits(mine, others) for mine, others in zip(halves, halves[::-1], strict=True)]
    )


def _bits(spikes: Spikes, counted: Spikes) -> Bits:
    rates = (counted.sum(axis=0, dtype=np.float64) + 1) / (len(counted) + 2)
    fired, silent = -np.log2(rates).ravel(), -np.log2(1 - rates).ravel()
    flat = spikes.reshape(len(spikes), -1).astype(np.float64)
    return np.asarray(silent.sum() + flat @ (fired - silent))
