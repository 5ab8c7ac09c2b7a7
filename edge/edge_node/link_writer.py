"""What goes to the cloud on one stream: those that wait together leave in one message.

One task writes. Where it has nothing to do and a request is alone, that one's task begins the write
and the writer sees it to its end. To wake the writer first takes longer; and a request's task may
be cancelled, which would end the call with the write.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc.aio

from edge_node.begun import Begun
from edge_node.cloud_stream import CloudStream
from spikebottlenet.rpc.v1.coinference_pb2 import StreamRequest


@dataclass
class Exchange:
    """One image's frame on its way to the cloud, and what that took so far."""

    sequence: int
    request_id: str  # stream id and sequence
    request: StreamRequest
    deadline: float  # monotonic seconds
    wire_bytes_up: int = 0
    wire_bytes_down: int = 0
    sends: int = 0

    @property
    def message_bytes(self) -> int:
        """Bytes of the protobuf message."""
        return self.request.ByteSize()


class LinkWriter:
    """Writes requests to a stream; ``due`` gives one that still wants to be sent, by sequence."""

    def __init__(
        self, stream: CloudStream, due: Callable[[int], Exchange | None], *, deadline_ms: int
    ) -> None:
        self._stream = stream
        self._due = due
        self._deadline_ms = deadline_ms  # that Open said
        self._waiting: dict[int, None] = {}  # sequences, in order, each once
        self._something = asyncio.Event()  # there is to do
        self._idle = False  # there is not, and the writer waits
        self._begun: Begun | None = None  # a write to be seen to its end
        self._ending = False

    def put(self, sequence: int, *, alone: bool = False) -> None:
        """Have a request written; one that is ``alone`` at once, as far as that goes.

        Of several that come together each would leave in a message of its own so.
        """
        self._waiting[sequence] = None
        if alone and self._idle:
            self._idle = False
            self._begun = Begun(self._write_waiting())
        self._something.set()

    def end(self) -> None:
        """Write what waits now and no more."""
        self._ending = True
        self._something.set()

    async def run(self) -> None:
        """Write until the end, or until the stream breaks: its reader says why."""
        try:
            ended = False
            while not ended:
                if not (self._waiting or self._ending or self._begun):
                    self._something.clear()
                    self._idle = True
                    try:
                        await self._something.wait()
                    finally:
                        self._idle = False
                if self._begun is not None:
                    begun, self._begun = self._begun, None
                    await begun
                ended = self._ending
                await self._write_waiting()
            await self._stream.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            return

    async def _write_waiting(self) -> None:
        """Write what waits, in as few messages as it fits."""
        sequences, self._waiting = self._waiting, {}
        exchanges = [exchange for sequence in sequences if (exchange := self._due(sequence))]
        while exchanges:
            for exchange in exchanges:
                exchange.request.deadline_ms = self._said_deadline_ms(exchange)
            message, parts = self._stream.together([exchange.request for exchange in exchanges])
            for exchange, share in zip(exchanges, parts, strict=False):  # may be answered at once
                exchange.sends += 1
                exchange.wire_bytes_up += share
            del exchanges[: len(parts)]
            await self._stream.send(message)

    def _said_deadline_ms(self, exchange: Exchange) -> int:
        """What is left of its time; 0, and so nothing on the wire, if about that of Open."""
        left_ms = max(1, round(1e3 * (exchange.deadline - time.monotonic())))
        return 0 if 0.75 * self._deadline_ms <= left_ms <= self._deadline_ms else left_ms
