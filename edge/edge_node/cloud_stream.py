"""A checked stream to the cloud: a connection of its own, opened, its answers verified.

Each stream has a fresh connection, so that one which died without a word is never used again, and
certificates and tokens are read again at each reconnection.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import grpc.aio

from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.codec.frame import bind_frame
from spikebottlenet.errors import CorruptFrameError, SpikeBottleNetError, UnavailableError
from spikebottlenet.rpc.checks import frame_context, verify_check, with_check
from spikebottlenet.rpc.refusal import error_from_call
from spikebottlenet.rpc.status import error_from_status
from spikebottlenet.rpc.v1.coinference_pb2 import Open, StreamRequest, StreamResponse
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub

OPEN_WITHIN_S = 5.0

Call = grpc.aio.StreamStreamCall[StreamRequest, StreamResponse]
Metadata = tuple[tuple[str, str], ...]


class Connection(NamedTuple):
    """A channel to the cloud and what every call on it carries."""

    channel: grpc.aio.Channel
    metadata: Metadata


Connect = Callable[[], Connection]


def bound_request(
    stream_id: bytes, sequence: int, frame: bytes, *, previous: int = 0
) -> StreamRequest:
    """A request of one whole frame, bound to its stream, its sequence, and the one before it."""
    context = frame_context(stream_id, sequence, more=False, previous=previous)
    return StreamRequest(sequence=sequence, frame=bind_frame(frame, context))


class CloudStream:
    """An open stream; one task reads and one writes."""

    def __init__(self, call: Call, ledger: WireLedger, stream_id: bytes) -> None:
        self._call = call
        self._ledger = ledger
        self._stream_id = stream_id
        self._cut: UnavailableError | None = None
        self.max_in_flight = 1

    async def open(self, opening: Open) -> None:
        """Send Open and wait until it is accepted.

        Raises:
            SpikeBottleNetError: what the cloud refused it for, or that it is away.
        """
        opening.checked = True
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

    async def write(self, request: StreamRequest) -> int:
        """Send a request; returns its share of the wire."""
        share = self._ledger.count_up(request.ByteSize())
        await self._call.write(request)
        return share

    async def done_writing(self) -> None:
        """Say that no more requests come."""
        await self._call.done_writing()

    async def read(self) -> tuple[StreamResponse, int] | None:
        """The next answer and its share of the wire; None when the cloud has ended the stream.

        Raises:
            CorruptFrameError: an answer that was damaged on its way.
            UnavailableError: it was cut from this side.
        """
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
        share = self._ledger.count_down(response.ByteSize())
        if response.HasField("prediction"):
            verify_check(response.prediction, self._stream_id)
            if not 0 < len(response.prediction.classes) == len(response.prediction.probabilities):
                raise UnavailableError("the cloud's answer names no class: check its version")
        elif response.HasField("failure"):
            verify_check(response.failure, self._stream_id)
        return response, share

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
