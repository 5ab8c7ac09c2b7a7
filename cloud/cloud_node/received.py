"""The spikes of one image as they arrive."""

from collections.abc import Sequence

import numpy as np

from cloud_node.job import Spikes, decoded
from spikebottlenet.codec.frame import Frame
from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.errors import CorruptFrameError, RequestError


class Received:
    """Timesteps of one image as they come, in order and without a gap."""

    def __init__(self, codec: SpikeCodec) -> None:
        self.codec = codec
        self._frames: list[Frame] = []  # not yet decoded
        self._parts: list[Spikes] = []
        self.timesteps = 0
        self.traceparent = ""  # W3C Trace Context of the edge's span
        self.payload_bytes = 0
        self.message_bytes = 0
        self.wire_bytes = 0

    def add(self, frame: bytes, *, context: bytes = b"") -> None:
        """Take a frame that carries on where the last one ended; it is decoded when needed.

        Raises:
            CorruptFrameError: damaged, or not of this model.
            RequestError: not the timesteps that come next.
        """
        unpacked = self.codec.unpack(frame, context=context)
        if unpacked.first_timestep != self.timesteps:
            raise RequestError(
                f"frame starts at timestep {unpacked.first_timestep}, wanted {self.timesteps}: "
                "send an image's timesteps in order"
            )
        self._frames.append(unpacked)
        self.timesteps += unpacked.timesteps
        self.payload_bytes += len(frame)

    @property
    def complete(self) -> bool:
        """Whether every timestep has come."""
        return self.timesteps == self.codec.shape.timesteps

    @property
    def shared_frame(self) -> Frame | None:
        """The frame that holds all that has come, if others' can be decoded together with it."""
        alone = len(self._frames) == 1 and not self._parts
        return self._frames[0] if alone and self.codec.goes_together(self._frames[0]) else None

    @property
    def spike_bytes(self) -> int:
        """Bytes of all so far once decoded."""
        return self.timesteps * self.codec.shape.sites

    def spikes(self) -> Spikes:
        """All so far, [t, C, H, W].

        Raises:
            CorruptFrameError: a payload cannot be decoded.
        """
        while self._frames:
            self._parts.append(self.codec.decode_frame(self._frames[0]).spikes)
            del self._frames[0]
        return self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)


def decode_each(images: Sequence[Received]) -> list[Spikes | CorruptFrameError]:
    """The spikes of images of one model, each [t, C, H, W], or why one has none."""
    frames = [image.shared_frame for image in images]
    together = [frame for frame in frames if frame is not None]
    whole = iter(images[0].codec.decode_together(together))
    return [
        decoded(image) if frame is None else next(whole)
        for image, frame in zip(images, frames, strict=True)
    ]


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
