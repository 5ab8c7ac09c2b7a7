"""The spikes of one image as they arrive."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.errors import RequestError

Spikes = npt.NDArray[np.uint8]


class Received:
    """Timesteps of one image as they come, in order and without a gap."""

    def __init__(self, codec: SpikeCodec) -> None:
        self._codec = codec
        self._parts: list[Spikes] = []
        self.timesteps = 0
        self.payload_bytes = 0
        self.message_bytes = 0
        self.wire_bytes = 0

    def add(self, frame: bytes, *, context: bytes = b"") -> None:
        """Decode a frame that carries on where the last one ended.

        Raises:
            CorruptFrameError: damaged, or not of this model.
            RequestError: not the timesteps that come next.
        """
        first, spikes = self._codec.decode_spikes(frame, context=context)
        if first != self.timesteps:
            raise RequestError(
                f"frame starts at timestep {first}, wanted {self.timesteps}: send an image's "
                "timesteps in order"
            )
        self._parts.append(spikes)
        self.timesteps += len(spikes)
        self.payload_bytes += len(frame)

    @property
    def complete(self) -> bool:
        """Whether every timestep has come."""
        return self.timesteps == self._codec.shape.timesteps

    def spikes(self) -> Spikes:
        """All so far, [t, C, H, W]."""
        return np.concatenate(self._parts)


def gather_frames(codec: SpikeCodec, frames: Sequence[bytes]) -> Received:
    """All frames of one image, from a unary call.

    Raises:
        CorruptFrameError, RequestError: a frame is damaged, missing or out of order.
    """
    received = Received(codec)
    for frame in frames:
        received.add(frame)
    if received.timesteps == 0:
        raise RequestError("no frame in the request, wanted at least one")
    return received
