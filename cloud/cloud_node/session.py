"""One edge's stream: chunks in, answers out as they are ready, or in order where the edge asks so.

A request is answered once and its answer kept, so that an edge which lost the connection may send
it again. Its work belongs to the process, not to the stream: it ends even if the stream does not.
Every answer holds a place (credit) from its request's arrival until it is written, so that an edge
which never reads holds ``max_in_flight`` answers and no more.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import NamedTuple

from cloud_node.answers import AnswerCache, RequestKey
from cloud_node.inference import CloudInference
from cloud_node.models import ServedModel
from cloud_node.ordering import Order, Turn, fails_for_now
from cloud_node.outgoing import BATCH_BYTES, Outgoing
from cloud_node.received import Received
from cloud_node.waiting import TailAnswer
from spikebottlenet.accounting.wire import WireLedger, shares
from spikebottlenet.errors import (
    CorruptFrameError,
    OverloadedError,
    RequestError,
    SpikeBottleNetError,
    UnavailableError,
)
from spikebottlenet.rpc.chances import CERTAIN
from spikebottlenet.rpc.checks import frame_context, verify_check, with_check
from spikebottlenet.rpc.limits import current_client
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Accepted,
    Drain,
    Open,
    Prediction,
    RequestBatch,
    StreamRequest,
    StreamResponse,
)
from spikebottlenet.tracing import caller_context

log = logging.getLogger(__name__)

_DRAIN_QUIET_S = 0.5  # a drained stream with nothing to answer for so long is ended
_AT_A_TIME = 8  # images of one message
_MAX_IGNORED = 1024  # sequences whose further chunks are ignored

Answer = asyncio.Future[StreamResponse]


class _Request(NamedTuple):
    """A whole image to be answered."""

    key: RequestKey
    received: Received
    deadline_s: float | None
    turn: Turn
    answer: Answer


class Session:
    """State of one stream after its Open."""

    def __init__(
        self,
        opening: Open,
        model: ServedModel,
        inference: CloudInference,
        cache: AnswerCache,
        ledger: WireLedger,
    ) -> None:
        self.model = model
        self._open = opening
        self._name = str(uuid.UUID(bytes=opening.stream_id))
        self._inference = inference
        self._client = current_client()
        self._cache = cache
        self._ledger = ledger
        self._usual = inference.usual(model)
        self._out = Outgoing(opening, ledger, self._usual)
        self._credit = asyncio.Semaphore(inference.settings.max_in_flight)
        self._order = Order(ordered=opening.ordered)
        self._last = self._before = 0  # sequences, on an ordered stream
        self._partial: dict[int, Received] = {}
        self._over: dict[int, None] = {}  # answered early or failed, with chunks that may follow
        self._unanswered: dict[RequestKey, Answer] = {}
        self._under_way = 0  # requests whose turn has not ended
        self._idle = asyncio.Event()  # there are none
        self._idle.set()
        self._draining = False

    def drain(self) -> None:
        """Tell the edge to send nothing new."""
        if not self._draining:
            self._draining = True
            self._out.put(StreamResponse(drain=Drain()))

    async def responses(
        self, requests: AsyncIterator[StreamRequest | None]
    ) -> AsyncIterator[StreamResponse]:
        """Yield what goes to the edge until it ends the stream and has every answer.

        Raises:
            RequestError: the edge broke the protocol.
        """
        settings = self._inference.settings
        accepted = Accepted(
            max_in_flight=settings.max_in_flight,
            batch_bytes=min(BATCH_BYTES, settings.max_message_bytes),
        )
        if self._open.brief:
            accepted.usual.CopyFrom(self._usual)
            if self._open.checked:
                with_check(accepted.usual, self._open.stream_id)
        yield StreamResponse(accepted=accepted)
        reading = asyncio.create_task(self._read(requests))
        try:
            while True:
                wait_s = _DRAIN_QUIET_S if self._draining and not self._under_way else None
                try:
                    departure = await asyncio.wait_for(self._out.next(), wait_s)
                except TimeoutError:
                    if self._under_way or self._partial:  # what was sent is still answered
                        continue
                    return
                if departure is None:
                    break
                yield departure.message
                for _ in range(departure.answers):
                    self._credit.release()
                if self._order.ordered and fails_for_now(departure.last):
                    return
            await reading
        finally:
            self._out.close()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[StreamRequest | None]) -> None:
        try:
            async for request in requests:
                if request is None or request.HasField("open"):
                    raise RequestError("message has no spikes: after Open send only those")
                message_bytes = request.ByteSize()
                wire_bytes = self._ledger.count_up(message_bytes)
                if request.HasField("batch"):
                    await self._take_batch(request.batch, message_bytes)
                else:
                    await self._take(request, message_bytes, wire_bytes)
            await self._idle.wait()
        finally:
            self._out.complete()

    async def _take_batch(self, batch: RequestBatch, message_bytes: int) -> None:
        """Take requests that came in one message, as if each had come by itself."""
        if message_bytes > BATCH_BYTES:
            raise RequestError(
                f"batch of {message_bytes} bytes, wanted at most {BATCH_BYTES}: send smaller ones"
            )
        damage: CorruptFrameError | None = None
        if self._open.checked:
            try:
                verify_check(batch, self._open.stream_id)
            except CorruptFrameError as error:
                damage = error
        sizes = [request.ByteSize() for request in batch.requests]
        parts = shares(message_bytes, sizes)
        for index, (request, size, share) in enumerate(
            zip(batch.requests, sizes, parts, strict=True), 1
        ):
            if not request.HasField("open") and not request.HasField("batch"):
                await self._take(request, size, share)
                if index % _AT_A_TIME == 0:
                    await asyncio.sleep(0)  # other streams have their turns
            elif damage is None:
                raise RequestError("a batch has more than spikes: put only those into it")
        if damage is not None:
            await self._fail(0, damage, more=False)

    async def _take(self, chunk: StreamRequest, message_bytes: int, wire_bytes: int) -> None:
        sequence = chunk.sequence
        if self._order.ordered:
            self._check_order(sequence)
        if sequence in self._over:  # a late chunk
            if not chunk.more:
                self._over.pop(sequence)
            return
        known = self._cache.get(RequestKey(self._open.stream_id, sequence))
        if known is not None:
            if chunk.more:
                self._ignore_rest_of(sequence)
            await self._credit.acquire()
            self._repeat(known)
            return
        received = self._partial.get(sequence)
        try:
            if received is None:
                received = self._first_chunk(sequence)
                received.traceparent = caller_context(chunk.traceparent)
            received.message_bytes += message_bytes
            received.wire_bytes += wire_bytes
            received.add(chunk.frame, context=self._context(chunk))
            if chunk.more and received.complete:
                raise RequestError("every timestep has come, yet more are said to follow")
        except SpikeBottleNetError as error:
            await self._fail(sequence, error, more=chunk.more)
            return
        deadline_ms = chunk.deadline_ms or self._open.deadline_ms
        deadline_s = deadline_ms / 1e3 if deadline_ms else None
        if not chunk.more:
            del self._partial[sequence]
            await self._credit.acquire()
            self._start(RequestKey(self._open.stream_id, sequence), received, deadline_s)
        elif self._inference.settings.enough_confidence < 1 and not self._order.ordered:
            await self._try_early(sequence, received, deadline_s)

    def _check_order(self, sequence: int) -> None:
        if sequence < self._last or (sequence == self._last and sequence not in self._partial):
            raise RequestError(
                f"sequence {sequence} after {self._last} on an ordered stream: send them in order"
            )
        if sequence != self._last:
            self._before, self._last = self._last, sequence

    def _first_chunk(self, sequence: int) -> Received:
        if len(self._partial) >= self._inference.settings.max_in_flight:
            raise OverloadedError(
                f"{len(self._partial)} images are incomplete on this stream: end them first"
            )
        received = self._partial[sequence] = Received(self.model.codec)
        return received

    def _context(self, chunk: StreamRequest) -> bytes:
        if not self._open.checked:
            return b""
        return frame_context(
            self._open.stream_id, chunk.sequence, more=chunk.more, previous=self._before
        )

    async def _try_early(self, sequence: int, received: Received, deadline_s: float | None) -> None:
        """Answer from the timesteps so far if they are sure enough."""
        try:
            prediction = await self._inference.predict(
                self.model,
                received,
                sequence=sequence,
                deadline_s=deadline_s,
                stream=self._open.stream_id,
            )
        except SpikeBottleNetError as error:
            await self._fail(sequence, error, more=True)
            return
        if prediction.chances[0] / CERTAIN < self._inference.settings.enough_confidence:
            return
        prediction.enough = True
        await self._credit.acquire()
        answer: Answer = asyncio.get_running_loop().create_future()
        self._cache.put(RequestKey(self._open.stream_id, sequence), answer)
        self._ignore_rest_of(sequence)  # which an edge that listens does not send
        answer.set_result(self._respond(received, prediction))

    def _ignore_rest_of(self, sequence: int) -> None:
        self._partial.pop(sequence, None)
        self._over[sequence] = None
        while len(self._over) > _MAX_IGNORED:
            self._over.pop(next(iter(self._over)))

    def _start(self, key: RequestKey, received: Received, deadline_s: float | None) -> None:
        """Have a whole image answered in its turn, which has its credit."""
        loop = asyncio.get_running_loop()
        request = _Request(key, received, deadline_s, self._turn(), loop.create_future())
        if not self._order.ended:
            self._cache.put(key, request.answer)
            self._unanswered[key] = request.answer
        loop.call_soon(self._ask, request)  # once all that has come with it is known to be there

    def _ask(self, request: _Request) -> None:
        try:
            self._client.begin_request()
        except OverloadedError as error:
            request.turn.ends(partial(self._give, request, error))
            return
        try:
            asked = self._inference.ask(
                self.model,
                request.received,
                deadline_s=request.deadline_s,
                stream=self._open.stream_id,
            )
        except Exception as error:
            self._client.end_request()
            request.turn.ends(partial(self._give, request, _said_of(error)))
        else:
            asked.add_done_callback(partial(self._answered, request))

    def _answered(self, request: _Request, asked: "asyncio.Future[TailAnswer]") -> None:
        self._client.end_request()
        if asked.cancelled():  # this process ends
            self._cache.forget(request.key, request.answer)
            request.answer.cancel()
            self._ended()
            return
        outcome: Prediction | SpikeBottleNetError
        try:
            outcome = self._inference.prediction(
                self.model, request.received, request.key.sequence, asked.result()
            )
        except Exception as error:
            outcome = _said_of(error)
        request.turn.ends(partial(self._give, request, outcome))

    def _give(
        self, request: _Request, outcome: Prediction | SpikeBottleNetError, in_turn: bool
    ) -> StreamResponse:
        """Answer a request whose turn it is."""
        if in_turn and isinstance(outcome, Prediction):
            response = self._respond(request.received, outcome)
        else:
            self._cache.forget(request.key, request.answer)
            if isinstance(outcome, Prediction):
                outcome = UnavailableError("one before it failed: send again from that one on")
            response = self._refuse(request.key.sequence, outcome, sent=in_turn)
        request.answer.set_result(response)
        self._unanswered.pop(request.key, None)
        return self._over_with(response)

    def _repeat(self, known: Answer) -> None:
        """Answer a request as it was answered before, or once it is."""
        turn = self._turn()

        def give(in_turn: bool) -> StreamResponse:
            response = known.result()
            if in_turn:
                self._out.put(response)
            else:
                self._credit.release()
            return self._over_with(response)

        def found(_: Answer) -> None:
            if known.cancelled():  # this process ends
                self._ended()
            else:
                turn.ends(give)

        known.add_done_callback(found)

    async def _fail(self, sequence: int, error: SpikeBottleNetError, *, more: bool) -> None:
        if more:
            self._ignore_rest_of(sequence)
        self._partial.pop(sequence, None)
        await self._credit.acquire()

        def refuse(in_turn: bool) -> StreamResponse:
            return self._over_with(self._refuse(sequence, error, sent=in_turn))

        self._turn().ends(refuse)

    def _respond(self, received: Received, prediction: Prediction) -> StreamResponse:
        response = StreamResponse(prediction=prediction)

        def sent(wire_bytes: int) -> None:
            self._inference.log_answer(
                self.model.bundle,
                f"{self._name}/{prediction.sequence}",
                received,
                prediction,
                wire_bytes_down=wire_bytes,
            )

        self._out.put(response, sent)
        return response

    def _refuse(self, sequence: int, error: SpikeBottleNetError, *, sent: bool) -> StreamResponse:
        failure = self._inference.refuse(f"{self._name}/{sequence}", sequence, error)
        response = StreamResponse(failure=failure)
        if sent:
            self._out.put(response)
        else:
            self._credit.release()
        return response

    def _turn(self) -> Turn:
        """A place among the answers; :meth:`_ended` ends it."""
        self._under_way += 1
        self._inference.under_way += 1
        self._idle.clear()
        return self._order.turn()

    def _over_with(self, response: StreamResponse) -> StreamResponse:
        """End a turn; if the stream ends with it, what it leaves unanswered may be sent again."""
        if self._order.ordered and fails_for_now(response):
            for key, answer in self._unanswered.items():
                self._cache.forget(key, answer)
            self._unanswered.clear()
        self._ended()
        return response

    def _ended(self) -> None:
        self._under_way -= 1
        self._inference.under_way -= 1
        if not self._under_way:
            self._idle.set()


def _said_of(error: Exception) -> SpikeBottleNetError:
    """What a request is answered that failed with this."""
    if isinstance(error, SpikeBottleNetError):
        return error
    # A mistake of ours costs this request a try, and no other anything.
    log.error("request failed", exc_info=error)
    return UnavailableError("the request failed inside this cloud-node: send it again")
