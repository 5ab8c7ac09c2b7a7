"""Envelopes: protobuf messages as the cloud reads them, without its tail.

byte 0, bit 0   0: an InferRequest; 1: StreamRequests, each behind its length in 2 bytes
byte 0, bit 1   mend every CRC and check, so that what is behind them is reached
"""

import uuid
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from cloud_node.received import Received, gather_frames
from spikebottlenet.bundle import Half, default_bundle, open_bundle
from spikebottlenet.codec.frame import bind_frame
from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.errors import RequestError, SpikeBottleNetError
from spikebottlenet.rpc.checks import frame_context, verify_check, with_check
from spikebottlenet.rpc.v1.coinference_pb2 import InferRequest, Open, StreamRequest
from tests.fuzz.limits import Target

_MAX_PARTIAL = 32


def open_target() -> Target:
    """Take messages in as ``Infer`` and ``Stream`` do."""
    codec = open_bundle(default_bundle(), Half.CLOUD).codec()

    def run(data: bytes) -> None:
        mode, body = data[0] if data else 0, data[1:]
        mend = bool(mode & 2)
        try:
            if mode & 1:
                _stream(codec, body, mend=mend)
            else:
                _infer(codec, body, mend=mend)
        except DecodeError:
            return  # the server hands the service None, which refuses it

    return run


def _infer(codec: SpikeCodec, body: bytes, *, mend: bool) -> None:
    request = InferRequest.FromString(body)
    frames = [bind_frame(frame, b"") if mend else frame for frame in request.frames]
    received = gather_frames(codec, frames)
    _check(codec, received)


def _stream(codec: SpikeCodec, body: bytes, *, mend: bool) -> None:
    messages = _messages(body)
    opening = next(messages, StreamRequest())
    if not opening.HasField("open"):
        raise RequestError("no Open")
    if opening.open.checked:
        if mend:
            with_check(opening.open, opening.open.stream_id)
        verify_check(opening.open, opening.open.stream_id)
    if len(opening.open.stream_id) != 16:
        raise RequestError("stream_id")
    str(uuid.UUID(bytes=opening.open.stream_id))
    partial: dict[int, Received] = {}
    for chunk in messages:
        if chunk.HasField("open") or len(partial) > _MAX_PARTIAL:
            raise RequestError("Open again, or too many incomplete")
        context = _context(opening.open, chunk)
        received = partial.setdefault(chunk.sequence, Received(codec))
        try:
            frame = bind_frame(chunk.frame, context) if mend else chunk.frame
            received.add(frame, context=context)
            _check(codec, received)
        except SpikeBottleNetError:
            del partial[chunk.sequence]
            continue
        if not chunk.more:
            del partial[chunk.sequence]


def _messages(body: bytes) -> Iterator[StreamRequest]:
    while len(body) >= 2:
        size = int.from_bytes(body[:2], "little")
        yield StreamRequest.FromString(body[2 : 2 + size])
        body = body[2 + size :]


def _context(opening: Open, chunk: StreamRequest) -> bytes:
    if not opening.checked:
        return b""
    return frame_context(opening.stream_id, chunk.sequence, more=chunk.more)


def _check(codec: SpikeCodec, received: Received) -> None:
    spikes = received.spikes()
    assert spikes.shape == (received.timesteps, *tuple(codec.shape)[1:])
    assert 1 <= received.timesteps <= codec.shape.timesteps
    assert received.complete == (received.timesteps == codec.shape.timesteps)
