"""A checked stream to the cloud: a connection of its own, opened, its answers verified.

Each stream has a fresh connection, so that one which died without a word is never used again, and
certificates and tokens are read again at each reconnection.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import grpc.aio

from spikebottlenet.accounting.wire import WireLedger, shares
from spikebottlenet.codec.frame import bind_frame
from spikebottlenet.errors import CorruptFrameError, SpikeBottleNetError, UnavailableError
from spikebottlenet.rpc.brief import fill_in, fill_in_repeated
from spikebottlenet.rpc.checks import frame_context, verify_check, with_check
from spikebottlenet.rpc.refusal import error_from_call
from spikebottlenet.rpc.status import error_from_status
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Open,
    Prediction,
    RequestBatch,
    StreamRequest,
    StreamResponse,
)
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub

OPEN_WITHIN_S = 5.0
_BATCH_ROOM_BYTES = 8  # of a batch beside its requests, and of each request in it, at most

Call = grpc.aio.StreamStreamCall[StreamRequest, StreamResponse]
Metadata = tuple[tuple[str, str], ...]


class Connection(NamedTuple):
    """A channel to the cloud and what every call on it carries."""

    channel: grpc.aio.Channel
    metadata: Metadata


Connect = Callable[[], Connection]


def bound_request(
    stream_id: bytes, sequence: int, frame: bytes, *, previous: int = 0, traceparent: str = ""
) -> StreamRequest:
    """A request of one whole frame, bound to its stream, its sequence, and the one before it."""
    context = frame_context(stream_id, sequence, more=False, previous=previous)
    return StreamRequest(
        sequence=sequence, frame=bind_frame(frame, context), traceparent=traceparent
    )


class CloudStream:
    """An open stream; one task reads and one writes."""

    def __init__(self, call: Call, ledger: WireLedger, stream_id: bytes) -> None:
        self._call = call
        self._ledger = ledger
        self._stream_id = stream_id
        self._cut: UnavailableError | None = None
        self._batch_bytes = 0
        self._usual: Prediction | None = None  # of brief answers, where the cloud knows them
        self._answers: deque[tuple[StreamResponse, int]] = deque()  # read, and not yet given out
        self._damage: CorruptFrameError | None = None  # of what came after those
        self.max_in_flight = 1

    async def open(self, opening: Open) -> None:
        """Send Open and wait until it is accepted.

        Raises:
            SpikeBottleNetError: what the cloud refused it for, or that it is away.
            CorruptFrameError: its reply was damaged on its way.
        """
        opening.checked = opening.batches = opening.brief = True
        first = StreamRequest(open=with_check(opening, opening.stream_id))
        async with asyncio.timeout(OPEN_WITHIN_S):
            await self._call.write(first)
            reply = await self._call.read()
        self._ledger.count_up(first.ByteSize())
        if reply is grpc.aio.EOF:
            raise await self.ending()
        if reply is None or reply.WhichOneof("response") != "accepted":
            raise UnavailableError("the cloud did not accept the stream: check its version")
        self._ledger.count_down(reply.ByteSize())
        self.max_in_flight = max(1, reply.accepted.max_in_flight)
        self._batch_bytes = reply.accepted.batch_bytes  # 0 from a cloud that knows no batches
        if reply.accepted.HasField("usual"):
            verify_check(reply.accepted.usual, self._stream_id)
            self._usual = reply.accepted.usual

    def together(self, requests: Sequence[StreamRequest]) -> tuple[StreamRequest, list[int]]:
        """A message of the first of these and those after it that fit, to be sent.

        With their shares of the wire, one for each that is in it.
        """
        sizes = [requests[0].ByteSize()]
        room = self._batch_bytes - sizes[0] - _BATCH_ROOM_BYTES
        for request in requests[1:]:
            size = request.ByteSize()
            room -= size + _BATCH_ROOM_BYTES
            if room < 0:
                break
            sizes.append(size)
        if len(sizes) == 1:
            message = requests[0]
            parts = [self._ledger.count_up(sizes[0])]
        else:
            batch = RequestBatch(requests=requests[: len(sizes)])
            message = StreamRequest(batch=with_check(batch, self._stream_id))
            message_bytes = message.ByteSize()
            self._ledger.count_up(message_bytes)
            parts = shares(message_bytes, sizes)
        return message, parts

    async def send(self, message: StreamRequest) -> None:
        """Send such a message."""
        await self._call.write(message)

    async def done_writing(self) -> None:
        """Say that no more requests come."""
        await self._call.done_writing()

    @property
    def has_more(self) -> bool:
        """Whether answers that have come are not given out yet."""
        return bool(self._answers)

    async def read(self) -> tuple[StreamResponse, int] | None:
        """The next answer and its share of the wire; None when the cloud has ended the stream.

        Of a damaged batch of brief answers none is given out; of another, the whole answers before
        the damage.

        Raises:
            CorruptFrameError: an answer that was damaged on its way.
            UnavailableError: it was cut from this side.
        """
        while not self._answers:
            if self._damage is not None:
                raise self._damage
            response = await self._receive()
            if response is None:
                return None
            try:
                self._unpack(response)
            except CorruptFrameError as error:
                self._damage = error
        return self._answers.popleft()

    async def _receive(self) -> StreamResponse | None:
        try:
            response = await self._call.read()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._cut is None or (task is not None and task.cancelling()):
                raise
            raise self._cut from None
        if response is grpc.aio.EOF:
            return None
        if response is None:  # gRPC's word for bytes that are no such message
            raise CorruptFrameError("an answer arrived damaged: it is no message")
        return response

    def _unpack(self, response: StreamResponse) -> None:
        """Put by what is whole of a message.

        Raises:
            CorruptFrameError: the rest is not.
        """
        message_bytes = response.ByteSize()
        share = self._ledger.count_down(message_bytes)
        if not response.HasField("batch"):
            self._verify(response)
            self._answers.append((response, share))
            return
        answers, brief = response.batch.answers, self._usual is not None
        if brief:
            verify_check(response.batch, self._stream_id)
        if answers:
            parts = shares(message_bytes, [answer.ByteSize() for answer in answers])
            if brief:
                fill_in_repeated(answers)
            for answer, part in zip(answers, parts, strict=True):
                self._verify(answer, checked=not brief)
                self._answers.append((answer, part))
        if not brief:
            verify_check(response.batch, self._stream_id)

    def _verify(self, response: StreamResponse, *, checked: bool = True) -> None:
        match response.WhichOneof("response"):
            case "prediction":
                prediction = response.prediction
                if checked:
                    verify_check(prediction, self._stream_id)
                if not 0 < len(prediction.classes) == len(prediction.chances):
                    raise UnavailableError("the cloud's answer names no class: check its version")
                if self._usual is not None:
                    fill_in(prediction, self._usual)
            case "failure":
                if checked:
                    verify_check(response.failure, self._stream_id)
            case "drain":
                pass
            case _:
                raise CorruptFrameError("an answer arrived damaged: it says nothing")

    def cut(self, reason: str) -> None:
        """End it at once; whoever reads gets the reason."""
        self._cut = UnavailableError(reason)
        self._call.cancel()

    def cancel(self) -> None:
        """End it at once, with nobody reading."""
        self._call.cancel()

    async def ending(self) -> SpikeBottleNetError:
        """Why it ended."""
        code, details = await self._call.code(), await self._call.details()
        return error_from_status(code, details or "the stream ended")


@asynccontextmanager
async def open_stream(
    connect: Connect, opening: Open, ledger: WireLedger
) -> AsyncIterator[CloudStream]:
    """Connect and open; the connection ends with the block.

    Raises:
        UnavailableError: the cloud is away, silent, or the stream broke in the block.
        SpikeBottleNetError: what the cloud refused the stream for.
    """
    connection = connect()
    async with connection.channel:
        call: Call = CoInferenceStub(connection.channel).Stream(metadata=connection.metadata)
        stream = CloudStream(call, ledger, opening.stream_id)
        try:
            await stream.open(opening)
            yield stream
        except TimeoutError:
            raise UnavailableError(f"the cloud did not answer within {OPEN_WITHIN_S} s") from None
        except asyncio.InvalidStateError:  # written to a call that had ended
            raise await stream.ending() from None
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error) from error
        finally:
            call.cancel()
            ledger.counters.sample()
