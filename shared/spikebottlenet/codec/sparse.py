"""Scheme ``sparse``: positions of the spikes, by bitarray's compressed sparse bitarray code.

Its header (bit order and length) is the same for every payload of one size, so it is left out
here and put back before decoding.
"""

from functools import lru_cache

import numpy as np
from bitarray import bitarray
from bitarray.util import sc_decode, sc_encode, zeros

from spikebottlenet.codec.sites import Sites
from spikebottlenet.errors import CorruptFrameError


@lru_cache(maxsize=64)
def _header(sites: int) -> bytes:
    """What every code of this many sites begins with: the code of no spikes, less its stop byte."""
    return sc_encode(zeros(sites, "big"))[:-1]


def encode(spikes: Sites) -> bytes:
    """Write sites [n] of {0, 1} as positions."""
    bits = bitarray(endian="big")
    bits.frombytes(np.packbits(spikes).tobytes())
    del bits[len(spikes) :]
    return sc_encode(bits).removeprefix(_header(len(spikes)))


def decode(payload: bytes, sites: int) -> Sites:
    """Read the positions back.

    Raises:
        CorruptFrameError: not this code, or bytes left over.
    """
    stream = iter(_header(sites) + payload)
    try:
        bits = sc_decode(stream)
    except (ValueError, IndexError, StopIteration) as error:
        raise CorruptFrameError(f"payload is not a sparse code ({error}): resend it") from error
    left = sum(1 for _ in stream)
    if left or len(bits) != sites:
        raise CorruptFrameError(
            f"sparse code of {len(bits)} sites with {left} bytes left over, "
            f"wanted {sites} and none: resend it"
        )
    return np.unpackbits(np.frombuffer(bits.tobytes(), dtype=np.uint8))[:sites]
