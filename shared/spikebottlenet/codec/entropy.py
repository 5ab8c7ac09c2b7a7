"""Scheme ``entropy``: a range coder with the bundle's probability that each site fires.

The prior is a table of integers, so every machine derives the same coding intervals from it; each
probability v / 65,536 is exact in float64. Trailing zero bytes carry nothing and are left out.
Coder: Bamler, "Understanding Entropy Coding With Asymmetric Numeral Systems (ANS)", arXiv
2201.01741 (the constriction library).
"""

import constriction
import numpy as np

from spikebottlenet.codec.frame import dense_bytes
from spikebottlenet.codec.sites import Prior, Sites
from spikebottlenet.errors import CorruptFrameError

PRIOR_ONE = 65_536
_WORD_BYTES = 4


def _model() -> constriction.stream.model.Bernoulli:
    return constriction.stream.model.Bernoulli(perfect=False)


def encode(spikes: Sites, prior: Prior) -> bytes:
    """Code sites [n] of {0, 1} under ``prior`` [n]."""
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(spikes.astype(np.int32), _model(), prior.astype(np.float64) / PRIOR_ONE)
    words = np.asarray(coder.get_compressed(), dtype="<u4")
    return words.tobytes().rstrip(b"\0")


def decode(payload: bytes, prior: Prior) -> Sites:
    """Decode as many sites as ``prior`` [n] has.

    Raises:
        CorruptFrameError: not what ``encode`` writes for any spikes.
    """
    words = -(-len(payload) // _WORD_BYTES)
    limit = dense_bytes(len(prior))
    if len(payload) > limit:
        raise CorruptFrameError(f"payload of {len(payload)} bytes, wanted at most {limit}")
    padded = np.frombuffer(payload.ljust(words * _WORD_BYTES, b"\0"), dtype="<u4")
    try:
        coder = constriction.stream.queue.RangeDecoder(padded.astype(np.uint32))
        sites = coder.decode(_model(), prior.astype(np.float64) / PRIOR_ONE)
    except (AssertionError, ValueError) as error:
        raise CorruptFrameError(f"payload is not a range code ({error}): resend it") from error
    spikes = np.asarray(sites, dtype=np.uint8)
    if encode(spikes, prior) != payload:
        raise CorruptFrameError("payload is not the range code of any spikes: resend it")
    return spikes
