"""Live requests to the cloud: one long-lived stream, answers matched by sequence, reconnection.

While the stream is up, or being opened, a request waits for its answer. Once an attempt to open it
has failed, or several requests in a row met silence, the link is down (an open circuit breaker):
requests fail at once, so that the edge exit answers without waiting, and the link goes on trying
in the background. Requests without an answer when a stream breaks are sent again on the next one
under the same id; the cloud answers each once.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import NamedTuple

import grpc.aio
import uuid_utils

from edge_node.backoff import Backoff
from edge_node.cloud_stream import CloudStream, Connect, bound_request, open_stream
from edge_node.link_writer import Exchange, LinkWriter
from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.errors import (
    AuthenticationError,
    CorruptFrameError,
    DeadlineError,
    ModelMismatchError,
    OverloadedError,
    SpikeBottleNetError,
    UnavailableError,
)
from spikebottlenet.logs import fields
from spikebottlenet.rpc.status import error_from_number
from spikebottlenet.rpc.throttle import Throttle
from spikebottlenet.rpc.v1.coinference_pb2 import Open, Prediction, StreamResponse

log = logging.getLogger(__name__)

_GOODBYE_S = 1.0
_MISSES_TO_BREAK = 3  # requests in a row that met silence
_SILENCE_S = 0.4  # a shorter wait without an answer says nothing about the cloud
_SOUND_S = 1.0  # a stream that lasted so long was one
_MAX_SENDS = 3  # of one request on one stream, when its bytes arrive damaged


class _State(Enum):
    OPENING = auto()
    UP = auto()
    DOWN = auto()


class _Pending(NamedTuple):
    exchange: Exchange
    answer: "asyncio.Future[Prediction]"


class CloudLink:
    """Sends frames of one model to one cloud for as long as ``running`` lasts."""

    def __init__(
        self,
        connect: Connect,
        ledger: WireLedger,
        *,
        fingerprint: str,
        deadline_ms: int,
        max_in_flight: int,
        reconnected: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._ledger = ledger
        self._fingerprint = bytes.fromhex(fingerprint)
        self._stream_id: bytes = uuid_utils.uuid7().bytes
        self.name = str(uuid.UUID(bytes=self._stream_id))
        self._sequence = 0
        self._pending: dict[int, _Pending] = {}
        self._writer: LinkWriter | None = None  # of the stream that is open
        self._deadline_ms = deadline_ms
        self._max_in_flight = max_in_flight
        self._credit = asyncio.Semaphore(max_in_flight)
        self._closing = False
        self._state = _State.OPENING
        self._heard = self._opened = time.monotonic()
        self._misses = 0
        self._throttle = Throttle()
        self._stream: CloudStream | None = None
        self._failure: SpikeBottleNetError = UnavailableError("the cloud was not reached yet")
        self._reconnected = reconnected  # called for each stream but the first
        self.connections = 0

    @property
    def is_up(self) -> bool:
        """Whether the cloud answers on an open stream."""
        return self._state is _State.UP

    @property
    def pending(self) -> int:
        """Requests that wait for their answer."""
        return len(self._pending)

    @property
    def standing(self) -> str:
        """``opening``, ``up`` or ``down``; while it is down the edge exit answers."""
        return self._state.name.lower()

    @property
    def why_down(self) -> str:
        """What keeps it from being up, '' while it is."""
        return "" if self._state is _State.UP else str(self._failure)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["CloudLink"]:
        """Keep the stream open until the block ends."""
        keeper = asyncio.create_task(self._keep_open())
        try:
            yield self
        finally:
            self._closing = True
            if self._state is _State.UP and self._writer is not None:
                self._writer.end()
                await asyncio.wait([keeper], timeout=_GOODBYE_S)
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    def new_exchange(self, frame: bytes, *, deadline: float, traceparent: str = "") -> Exchange:
        """A request of the next sequence, due at ``deadline`` (monotonic); nothing is sent yet."""
        self._sequence += 1
        request = bound_request(self._stream_id, self._sequence, frame, traceparent=traceparent)
        return Exchange(self._sequence, f"{self.name}/{self._sequence}", request, deadline)

    async def infer(
        self, exchange: Exchange, *, meanwhile: Callable[[], object], alone: bool = False
    ) -> Prediction:
        """Send a request and wait for its answer; ``meanwhile`` is called before the wait.

        One that is ``alone``, no other being under way, is on its way by then.

        Raises:
            UnavailableError: the link is down.
            OverloadedError: the cloud has no room, or had none of late and this one is held back.
            DeadlineError: no answer by its deadline.
            ModelMismatchError: the cloud does not serve this model.
            SpikeBottleNetError: what the cloud refused it for.
        """
        began = time.monotonic()
        if self._state is _State.UP and self._throttle.holds_back(began):
            raise OverloadedError("held back: the cloud refuses requests for lack of room")
        credit = self._credit
        try:
            await _taken(credit, exchange.deadline - began)
            try:
                return await self._answer(exchange, meanwhile, alone=alone)
            finally:
                credit.release()
        except TimeoutError:
            waited = time.monotonic() - began
            if exchange.wire_bytes_up and self._heard < began and waited >= _SILENCE_S:
                self._missed()
            raise DeadlineError(f"no answer from the cloud within {waited:.3f} s") from None
        finally:
            self._pending.pop(exchange.sequence, None)

    async def _answer(
        self, exchange: Exchange, meanwhile: Callable[[], object], *, alone: bool
    ) -> Prediction:
        """As ``infer``, with a place taken.

        Raises:
            TimeoutError: no answer by its deadline; one that is past it is not sent.
        """
        if self._state is _State.DOWN:
            raise _its_own(self._failure)
        left_s = exchange.deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Prediction] = loop.create_future()
        self._pending[exchange.sequence] = _Pending(exchange, answer)
        self._put(exchange.sequence, alone=alone)
        late = loop.call_later(left_s, _expire, answer)
        try:
            meanwhile()
            return await answer
        finally:
            late.cancel()

    def _missed(self) -> None:
        """A request met silence; several in a row open the breaker."""
        self._misses += 1
        if self._misses >= _MISSES_TO_BREAK and self._stream is not None:
            reason = f"{self._misses} requests in a row met silence"
            self._failure = UnavailableError(reason)
            self._go_down()
            self._misses = 0
            self._stream.cut(reason)

    async def _keep_open(self) -> None:
        backoff = Backoff()
        while not self._closing:
            was_up = False
            try:
                await self._one_stream()
                backoff.reset()
            except (SpikeBottleNetError, grpc.aio.AioRpcError) as error:
                was_up = self._state is _State.UP
                self._failure = _explain(error)
                if was_up:
                    if self._closing:
                        return
                    log.warning("cloud lost", extra=fields(reason=str(self._failure)))
                    if time.monotonic() - self._opened >= _SOUND_S:
                        # One attempt at once: a cloud that restarts, or a link that blinked.
                        self._state = _State.OPENING
                        backoff.reset()
                        continue
            self._go_down()
            await asyncio.sleep(backoff.next_s())

    def _go_down(self) -> None:
        if self._state is not _State.DOWN:
            grave = isinstance(self._failure, ModelMismatchError | AuthenticationError)
            level = logging.ERROR if grave else logging.WARNING
            log.log(level, "cloud not available", extra=fields(reason=str(self._failure)))
        self._state = _State.DOWN
        self._fail_pending(unsent_only=False)

    def _fail_pending(self, *, unsent_only: bool) -> None:
        for exchange, answer in self._pending.values():
            if not answer.done() and not (unsent_only and exchange.wire_bytes_up):
                answer.set_exception(_its_own(self._failure))

    async def _one_stream(self) -> None:
        """Open and exchange until the stream ends; returns only if the cloud drained it."""
        opening = Open(
            fingerprint=self._fingerprint,
            stream_id=self._stream_id,
            deadline_ms=self._deadline_ms,
        )
        async with open_stream(self._connect, opening, self._ledger) as stream:
            room = min(self._max_in_flight, stream.max_in_flight)
            self._credit = asyncio.Semaphore(room)  # earlier holders give back to the old one
            self._stream, self._misses = stream, 0
            self._heard = self._opened = time.monotonic()
            self._state = _State.UP
            if self.connections:
                self._reconnected()
            self.connections += 1
            log.info("cloud connected", extra=fields(stream_id=self.name))
            try:
                await self._converse(stream)
            finally:
                self._stream = None

    async def _converse(self, stream: CloudStream) -> None:
        writer = LinkWriter(stream, self._due, deadline_ms=self._deadline_ms)
        for sequence, pending in self._pending.items():
            pending.exchange.sends = 0
            writer.put(sequence)
        self._writer = writer
        writing = asyncio.create_task(writer.run())
        drained = False
        try:
            while (received := await stream.read()) is not None:
                self._heard, self._misses = time.monotonic(), 0
                response, wire_bytes = received
                if response.HasField("drain"):
                    drained = True
                    self._failure = UnavailableError("the cloud is stopping")
                    self._state = _State.DOWN
                    self._fail_pending(unsent_only=True)
                    writer.end()
                else:
                    self._take(response, wire_bytes)
                    if not stream.has_more:
                        await asyncio.sleep(0)  # who waited for it answers before more is read
        finally:
            # Cancelling a write would cancel the call: the writer is told instead.
            writer.end()
            stream.cancel()
            await writing
            self._writer = None
        if not drained:
            raise await stream.ending()

    def _take(self, response: StreamResponse, wire_bytes: int) -> None:
        failed = response.HasField("failure")
        sequence = response.failure.sequence if failed else response.prediction.sequence
        pending = self._pending.get(sequence)
        if not failed:
            self._throttle.accepted(time.monotonic())
            if pending is not None and not pending.answer.done():
                pending.exchange.wire_bytes_down += wire_bytes
                pending.answer.set_result(response.prediction)
            return
        failure = response.failure
        error = error_from_number(
            failure.code, failure.message, retry_after_ms=failure.retry_after_ms
        )
        if isinstance(error, OverloadedError):
            self._throttle.refused(time.monotonic())
        if pending is None and isinstance(error, CorruptFrameError):
            self._send_again()
        if pending is None or pending.answer.done():
            return
        pending.exchange.wire_bytes_down += wire_bytes
        if isinstance(error, CorruptFrameError):
            if pending.exchange.sends < _MAX_SENDS:
                self._put(sequence)
                return
            error = UnavailableError(f"arrived damaged {_MAX_SENDS} times: {error}")
        pending.answer.set_exception(error)

    def _send_again(self) -> None:
        """Something arrived damaged, its name too: send again all that has no answer."""
        for sequence, (exchange, answer) in self._pending.items():
            if 0 < exchange.sends < _MAX_SENDS and not answer.done():
                self._put(sequence)

    def _put(self, sequence: int, *, alone: bool = False) -> None:
        """Have it written, now or with the next stream."""
        if self._writer is not None:
            self._writer.put(sequence, alone=alone)

    def _due(self, sequence: int) -> Exchange | None:
        """A request that waits for its answer still."""
        pending = self._pending.get(sequence)
        return None if pending is None or pending.answer.done() else pending.exchange


async def _taken(places: asyncio.Semaphore, within_s: float) -> None:
    """Take a place; where there is one no timer is needed.

    Raises:
        TimeoutError: there was none in time.
    """
    if places.locked():
        async with asyncio.timeout(max(0.0, within_s)):
            await places.acquire()
    else:
        await places.acquire()


def _expire(answer: "asyncio.Future[Prediction]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _explain(error: Exception) -> SpikeBottleNetError:
    """Why a stream ended: refused for good, or else the cloud is away for whatever reason."""
    if isinstance(error, ModelMismatchError | UnavailableError | AuthenticationError):
        return error
    return UnavailableError(f"the stream to the cloud ended: {error}")


def _its_own(error: SpikeBottleNetError) -> SpikeBottleNetError:
    """The same error for one request: a shared one would hold all their images by its traceback."""
    return type(error)(str(error))
