"""Scheme ``dense``: one bit a site, most significant bit first, the last byte filled with zeros."""

import numpy as np

from spikebottlenet.codec.frame import dense_bytes
from spikebottlenet.codec.sites import Sites
from spikebottlenet.errors import CorruptFrameError


def encode(spikes: Sites) -> bytes:
    """Pack sites [n] of {0, 1}."""
    return np.packbits(spikes).tobytes()


def decode(payload: bytes, sites: int) -> Sites:
    """Unpack exactly ``sites`` sites.

    Raises:
        CorruptFrameError: wrong length, or filling that is not zero.
    """
    if len(payload) != dense_bytes(sites):
        raise CorruptFrameError(
            f"payload of {len(payload)} bytes, wanted {dense_bytes(sites)} for {sites} sites"
        )
    bits = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
    if bits[sites:].any():
        raise CorruptFrameError(f"bits beyond the {sites} sites are set, wanted zeros")
    return bits[:sites]
