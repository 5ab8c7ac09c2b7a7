"""The frame: the bytes that carry a range of timesteps of one image's bottleneck spikes.

    byte 0          version (high four bits, 1) and payload scheme (low four bits)
    byte 1          first timestep, 0-based
    byte 2          number of timesteps, 1 or more
    bytes 3 .. n-4  payload, by the scheme
    last 4 bytes    CRC32C of everything before and of the context, little-endian

The context is empty for a frame that stands alone. On a checked stream it is what the frame
belongs to, which is not in the frame: stream_id, sequence as 8 bytes little-endian, more as one
byte, and on an ordered stream the sequence before. So bytes that arrive whole under another
request's number are refused too.

C, H, W, T, the prior and the context model are settled by the bundle's fingerprint when a stream
opens, so a frame does not repeat them. CRC32C finds every error burst up to 32 bits (RFC 3720,
section 12.1).
"""

import struct
from enum import IntEnum
from functools import cache
from typing import NamedTuple

import google_crc32c

from spikebottlenet.errors import CorruptFrameError
from spikebottlenet.model.shape import SpikeShape

VERSION = 1
HEADER_BYTES = 3
CRC_BYTES = 4
OVERHEAD_BYTES = HEADER_BYTES + CRC_BYTES


class Scheme(IntEnum):
    """How a payload is written; the number stands in the frame."""

    DENSE = 0
    ZSTD = 1
    SPARSE = 2
    ENTROPY = 3
    CONTEXT = 4


_SCHEMES = tuple(Scheme)  # by number


class Frame(NamedTuple):
    """A frame taken apart; its payload is not yet looked into."""

    scheme: Scheme
    first_timestep: int
    timesteps: int
    payload: bytes


def dense_bytes(sites: int) -> int:
    """Bytes of so many sites at one bit each."""
    return -(-sites // 8)


@cache
def max_frame_bytes(shape: SpikeShape) -> int:
    """Bytes that no frame of this shape goes above, whatever the image."""
    return OVERHEAD_BYTES + dense_bytes(shape.bits)


def pack_frame(frame: Frame) -> bytes:
    """Lay a frame out as bytes."""
    body = bytes([VERSION << 4 | frame.scheme, frame.first_timestep, frame.timesteps])
    body += frame.payload
    return body + struct.pack("<I", google_crc32c.value(body))


def bind_frame(frame: bytes, context: bytes) -> bytes:
    """The same frame with a CRC that takes ``context`` in."""
    body = frame[:-CRC_BYTES]
    return body + struct.pack("<I", google_crc32c.value(body + context))


def unpack_frame(data: bytes, shape: SpikeShape, *, context: bytes = b"") -> Frame:
    """Take a frame apart, checking version, scheme, timesteps, length and CRC.

    Raises:
        CorruptFrameError: names what is wrong.
    """
    if not OVERHEAD_BYTES <= len(data) <= max_frame_bytes(shape):
        raise CorruptFrameError(
            f"frame of {len(data)} bytes, wanted {OVERHEAD_BYTES} to {max_frame_bytes(shape)} "
            f"for spikes {tuple(shape)}: resend it"
        )
    version, scheme = data[0] >> 4, data[0] & 15
    if version != VERSION:
        raise CorruptFrameError(
            f"frame version is {version}, this side reads {VERSION}: upgrade the older side"
        )
    (got,) = struct.unpack("<I", data[-CRC_BYTES:])
    want = google_crc32c.value(data[:-CRC_BYTES] + context)
    if got != want:
        raise CorruptFrameError(f"frame CRC is {got:#010x}, computed {want:#010x}: resend it")
    if scheme >= len(_SCHEMES):
        known = ", ".join(f"{s.value} {s.name.lower()}" for s in Scheme)
        raise CorruptFrameError(f"frame scheme is {scheme}, wanted one of {known}")
    first, count = data[1], data[2]
    if count == 0 or first + count > shape.timesteps:
        raise CorruptFrameError(
            f"frame holds timesteps {first} to {first + count - 1}, "
            f"wanted at least one of 0 to {shape.timesteps - 1}"
        )
    return Frame(_SCHEMES[scheme], first, count, data[HEADER_BYTES:-CRC_BYTES])
