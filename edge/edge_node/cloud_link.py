"""The one long-lived stream to the cloud: requests out, answers matched by sequence, reconnection.

While the stream is up, or being opened, a request waits for its answer. Once an attempt to open it
has failed the link is down: requests fail at once, so that the edge exit answers without waiting,
and the link goes on trying in the background. Requests without an answer when a stream breaks are
sent again on the next one under the same id; the cloud answers each once.
"""

import asyncio
import logging
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

import grpc.aio
import uuid_utils

from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.errors import (
    DeadlineError,
    ModelMismatchError,
    SpikeBottleNetError,
    UnavailableError,
)
from spikebottlenet.logs import fields
from spikebottlenet.rpc.status import error_from_number, error_from_status
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Open,
    Prediction,
    StreamRequest,
    StreamResponse,
)
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 2.0
_OPEN_WITHIN_S = 5.0
_GOODBYE_S = 1.0
_END = 0  # in the place of a sequence: write no more

Call = grpc.aio.StreamStreamCall[StreamRequest, StreamResponse]


class _State(Enum):
    OPENING = auto()
    UP = auto()
    DOWN = auto()


@dataclass
class Exchange:
    """One image's frame on its way to the cloud, and what that took so far."""

    sequence: int
    request_id: str  # stream id and sequence
    request: StreamRequest
    wire_bytes_up: int = 0
    wire_bytes_down: int = 0

    @property
    def message_bytes(self) -> int:
        """Bytes of the protobuf message."""
        return self.request.ByteSize()


class _Pending(NamedTuple):
    exchange: Exchange
    answer: "asyncio.Future[Prediction]"


class CloudLink:
    """Sends frames to one cloud for as long as ``running`` lasts."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        ledger: WireLedger,
        *,
        fingerprint: str,
        deadline_ms: int,
        max_in_flight: int,
    ) -> None:
        self._stub = CoInferenceStub(channel)
        self._ledger = ledger
        self._fingerprint = bytes.fromhex(fingerprint)
        self._stream_id: bytes = uuid_utils.uuid7().bytes
        self.name = str(uuid.UUID(bytes=self._stream_id))
        self._sequence = 0
        self._pending: dict[int, _Pending] = {}
        self._outgoing: asyncio.Queue[int] = asyncio.Queue()
        self._deadline_ms = deadline_ms
        self._max_in_flight = max_in_flight
        self._credit = asyncio.Semaphore(max_in_flight)
        self._closing = False
        self._state = _State.OPENING
        self._failure: SpikeBottleNetError = UnavailableError("the cloud was not reached yet")

    @asynccontextmanager
    async def running(self) -> AsyncIterator["CloudLink"]:
        """Keep the stream open until the block ends."""
        keeper = asyncio.create_task(self._keep_open())
        try:
            yield self
        finally:
            self._closing = True
            if self._state is _State.UP:
                self._outgoing.put_nowait(_END)
                await asyncio.wait([keeper], timeout=_GOODBYE_S)
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    def new_exchange(self, frame: bytes, *, deadline_s: float) -> Exchange:
        """A request of the next sequence; nothing is sent yet."""
        self._sequence += 1
        deadline_ms = max(1, round(1e3 * deadline_s))
        if deadline_ms == self._deadline_ms:
            deadline_ms = 0  # as in Open, and nothing on the wire
        request = StreamRequest(sequence=self._sequence, frame=frame, deadline_ms=deadline_ms)
        return Exchange(self._sequence, f"{self.name}/{self._sequence}", request)

    async def infer(self, exchange: Exchange, *, deadline_s: float) -> Prediction:
        """Send a request and wait for its answer.

        Raises:
            UnavailableError: the link is down.
            DeadlineError: no answer within ``deadline_s``.
            ModelMismatchError: the cloud holds another bundle.
            SpikeBottleNetError: what the cloud refused it for.
        """
        try:
            async with asyncio.timeout(deadline_s), self._credit:
                if self._state is _State.DOWN:
                    raise self._failure
                answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
                self._pending[exchange.sequence] = _Pending(exchange, answer)
                self._outgoing.put_nowait(exchange.sequence)
                return await answer
        except TimeoutError:
            raise DeadlineError(f"no answer from the cloud within {deadline_s:.3f} s") from None
        finally:
            self._pending.pop(exchange.sequence, None)

    async def _keep_open(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._closing:
            try:
                await self._one_stream()
                backoff_s = _FIRST_BACKOFF_S
            except (SpikeBottleNetError, grpc.aio.AioRpcError) as error:
                self._failure = _explain(error)
                if self._state is _State.UP:
                    if self._closing:
                        return
                    # One attempt at once: a cloud that restarts, or a link that blinked.
                    self._state, backoff_s = _State.OPENING, _FIRST_BACKOFF_S
                    log.warning("cloud lost", extra=fields(reason=str(self._failure)))
                    continue
            self._go_down()
            # Jitter keeps a fleet of edges from coming back in step.
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    def _go_down(self) -> None:
        if self._state is not _State.DOWN:
            level = (
                logging.ERROR if isinstance(self._failure, ModelMismatchError) else logging.WARNING
            )
            log.log(level, "cloud not available", extra=fields(reason=str(self._failure)))
        self._state = _State.DOWN
        self._fail_pending(unsent_only=False)

    def _fail_pending(self, *, unsent_only: bool) -> None:
        for exchange, answer in self._pending.values():
            if not answer.done() and not (unsent_only and exchange.wire_bytes_up):
                answer.set_exception(self._failure)

    async def _one_stream(self) -> None:
        """Open and exchange until the stream ends; returns only if the cloud drained it."""
        call: Call = self._stub.Stream()
        try:
            opening = StreamRequest(
                open=Open(
                    fingerprint=self._fingerprint,
                    stream_id=self._stream_id,
                    deadline_ms=self._deadline_ms,
                )
            )
            async with asyncio.timeout(_OPEN_WITHIN_S):
                await call.write(opening)
                first = await call.read()
            self._ledger.count_up(opening.ByteSize())
            if first is grpc.aio.EOF:
                raise await _ending(call)
            if first.WhichOneof("response") != "accepted":
                raise UnavailableError("the cloud did not accept the stream: check its version")
            self._ledger.count_down(first.ByteSize())
            room = min(self._max_in_flight, max(1, first.accepted.max_in_flight))
            self._credit = asyncio.Semaphore(room)  # earlier holders give back to the old one
            self._state = _State.UP
            log.info("cloud connected", extra=fields(stream_id=self.name))
            await self._converse(call)
        except TimeoutError:
            raise UnavailableError(f"the cloud did not answer within {_OPEN_WITHIN_S} s") from None
        except asyncio.InvalidStateError:  # written to a call that had ended
            raise await _ending(call) from None
        finally:
            call.cancel()
            self._ledger.counters.sample()

    async def _converse(self, call: Call) -> None:
        self._outgoing = asyncio.Queue()
        for sequence in self._pending:
            self._outgoing.put_nowait(sequence)
        writing = asyncio.create_task(self._write(call))
        drained = False
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                wire_bytes = self._ledger.count_down(response.ByteSize())
                match response.WhichOneof("response"):
                    case "prediction":
                        prediction = response.prediction
                        if answer := self._answered(prediction.sequence, wire_bytes):
                            answer.set_result(prediction)
                    case "failure":
                        failure = response.failure
                        if answer := self._answered(failure.sequence, wire_bytes):
                            error = error_from_number(failure.code, failure.message)
                            answer.set_exception(error)
                    case "drain":
                        drained = True
                        self._failure = UnavailableError("the cloud is stopping")
                        self._state = _State.DOWN
                        self._fail_pending(unsent_only=True)
                        self._outgoing.put_nowait(_END)
        finally:
            # Cancelling a write would cancel the call: the writer is told instead.
            self._outgoing.put_nowait(_END)
            call.cancel()
            await writing
        if not drained:
            raise await _ending(call)

    async def _write(self, call: Call) -> None:
        try:
            while (sequence := await self._outgoing.get()) != _END:
                pending = self._pending.get(sequence)
                if pending is None or pending.answer.done():
                    continue
                exchange = pending.exchange
                exchange.wire_bytes_up += self._ledger.count_up(exchange.message_bytes)
                await call.write(exchange.request)
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            return  # the reader sees the same end and says why

    def _answered(self, sequence: int, wire_bytes: int) -> "asyncio.Future[Prediction] | None":
        """The future of a request that still waits, its answer's bytes counted."""
        pending = self._pending.get(sequence)
        if pending is None or pending.answer.done():
            return None
        pending.exchange.wire_bytes_down += wire_bytes
        return pending.answer


async def _ending(call: Call) -> SpikeBottleNetError:
    return error_from_status(await call.code(), await call.details() or "the stream ended")


def _explain(error: Exception) -> SpikeBottleNetError:
    """Why a stream ended: another bundle, or else the cloud is away for whatever reason."""
    if isinstance(error, grpc.aio.AioRpcError):
        error = error_from_status(error.code(), error.details() or "no reason given")
    if isinstance(error, ModelMismatchError | UnavailableError):
        return error
    return UnavailableError(f"the stream to the cloud ended: {error}")
