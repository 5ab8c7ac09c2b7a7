"""Information of spikes under the models that code them, in bits: what no coder gets below.

information = sum over sites of -log2 P(spike or silence)

Its mean over images is the cross-entropy, the limit that a payload's mean size is held to.
"""

import numpy as np
import numpy.typing as npt

from spikebottlenet.codec.context_model import ContextModel
from spikebottlenet.codec.entropy import PRIOR_ONE
from spikebottlenet.codec.sites import Prior, Sites


def prior_bits(spikes: Sites, prior: Prior) -> float:
    """Information of spikes [t, C, H, W] under their probabilities in the prior, as many."""
    return _bits(spikes, prior / PRIOR_ONE)


def context_bits(spikes: Sites, model: ContextModel) -> float:
    """Information of spikes [t, C, H, W], timestep 0 on, under the context model."""
    return _bits(model.in_order(spikes), model.chances(spikes)[:, 1])


def _bits(spikes: Sites, probability: npt.NDArray[np.float64]) -> float:
    return -float(np.log2(np.where(spikes, probability, 1 - probability)).sum())
