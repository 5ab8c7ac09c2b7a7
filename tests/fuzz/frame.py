"""Frames: hostile ones are refused, whatever decodes encodes again, what was encoded comes back.

byte 0, bit 0    0: the rest is a frame without its CRC; 1: the rest is spikes
byte 0, bits 1-3 scheme of the way back, timesteps of the spikes
"""

import numpy as np

from spikebottlenet.bundle import Half, default_bundle, open_bundle
from spikebottlenet.codec.frame import CRC_BYTES, Scheme, bind_frame, max_frame_bytes
from spikebottlenet.codec.spikes import SchemeChoice, SpikeCodec
from spikebottlenet.errors import CorruptFrameError
from tests.fuzz.limits import Target

_CHOICES: tuple[SchemeChoice, ...] = ("dense", "zstd", "sparse", "entropy", "auto")


def open_target() -> Target:
    """Decode and encode with the shipped bundle's codec."""
    codec = open_bundle(default_bundle(), Half.CLOUD).codec()

    def run(data: bytes) -> None:
        mode, body = data[:1], data[1:]
        if mode and mode[0] & 1:
            _round_trip(codec, mode[0] >> 1, body)
            return
        try:
            codec.decode_spikes(body)
        except CorruptFrameError:
            mended = bind_frame(body + bytes(CRC_BYTES), b"")
            decode_and_encode(codec, mended, b"")

    return run


def decode_and_encode(codec: SpikeCodec, frame: bytes, context: bytes) -> None:
    """A frame that decodes has spikes of the right shape, which survive another round trip."""
    first, spikes = codec.decode_spikes(frame, context=context)
    assert spikes.dtype == np.uint8
    assert spikes.shape[1:] == tuple(codec.shape)[1:]
    assert spikes.max() <= 1
    assert 1 <= first + len(spikes) <= codec.shape.timesteps
    scheme = _CHOICES[frame[0] & 15]
    again = codec.encode_spikes(spikes, first_timestep=first, scheme=scheme)
    back_first, back = codec.decode_spikes(again)
    assert (back_first, back.tolist()) == (first, spikes.tolist())
    if frame[0] & 15 == again[0] & 15 and again[0] & 15 in (Scheme.DENSE, Scheme.ENTROPY):
        assert again[:-CRC_BYTES] == frame[:-CRC_BYTES]  # one way only to write these spikes


def _round_trip(codec: SpikeCodec, mode: int, body: bytes) -> None:
    shape = codec.shape
    first = mode // len(_CHOICES) % shape.timesteps
    bits = np.unpackbits(np.frombuffer(body or b"\0", dtype=np.uint8))
    count = shape.timesteps - first
    spikes = np.resize(bits, (count, *tuple(shape)[1:]))
    frame = codec.encode_spikes(spikes, first_timestep=first, scheme=_CHOICES[mode % len(_CHOICES)])
    assert len(frame) <= max_frame_bytes(shape)
    back_first, back = codec.decode_spikes(frame)
    assert back_first == first
    assert np.array_equal(back, spikes)
