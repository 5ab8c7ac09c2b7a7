"""One edge's stream: chunks in, answers out as they are ready.

A request is answered once and its answer kept, so that an edge which lost the connection may send
it again. Its work belongs to the process, not to the stream: it ends even if the stream does not.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine

from cloud_node.answers import AnswerCache, RequestKey
from cloud_node.inference import CloudInference, Received
from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.errors import OverloadedError, RequestError, SpikeBottleNetError
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Accepted,
    Drain,
    Open,
    Prediction,
    StreamRequest,
    StreamResponse,
)

_DRAIN_QUIET_S = 0.5  # a drained stream with nothing to answer for so long is ended
_MAX_FAILED = 1024  # sequences whose further chunks are ignored


class Session:
    """State of one stream after its Open."""

    def __init__(
        self,
        opening: Open,
        inference: CloudInference,
        cache: AnswerCache,
        ledger: WireLedger,
    ) -> None:
        self._stream_id = opening.stream_id
        self._deadline_ms = opening.deadline_ms
        self._name = uuid.UUID(bytes=opening.stream_id)
        self._inference = inference
        self._cache = cache
        self._ledger = ledger
        self._out: asyncio.Queue[StreamResponse | None] = asyncio.Queue()
        self._credit = asyncio.Semaphore(inference.settings.max_in_flight)
        self._partial: dict[int, Received] = {}
        self._failed: dict[int, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    def drain(self) -> None:
        """Tell the edge to send nothing new."""
        self._draining = True
        self._out.put_nowait(StreamResponse(drain=Drain()))

    async def responses(
        self, requests: AsyncIterator[StreamRequest | None]
    ) -> AsyncIterator[StreamResponse]:
        """Yield what goes to the edge until it ends the stream and has every answer.

        Raises:
            RequestError: the edge broke the protocol.
        """
        accepted = Accepted(max_in_flight=self._inference.settings.max_in_flight)
        yield StreamResponse(accepted=accepted)
        reading = asyncio.create_task(self._read(requests))
        try:
            while True:
                wait_s = _DRAIN_QUIET_S if self._draining and not self._tasks else None
                try:
                    message = await asyncio.wait_for(self._out.get(), wait_s)
                except TimeoutError:
                    return
                if message is None:
                    break
                yield message
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[StreamRequest | None]) -> None:
        try:
            async for request in requests:
                if request is None or request.HasField("open"):
                    raise RequestError("message has no spikes: after Open send only those")
                await self._take(request)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            self._out.put_nowait(None)

    async def _take(self, chunk: StreamRequest) -> None:
        sequence, message_bytes = chunk.sequence, chunk.ByteSize()
        wire_bytes = self._ledger.count_up(message_bytes)
        known = self._cache.get(RequestKey(self._stream_id, sequence))
        if known is not None:
            if sequence not in self._partial:  # not a late chunk of a request answered early
                self._start(self._repeat(known))
            if not chunk.more:
                self._partial.pop(sequence, None)
            return
        if sequence in self._failed:
            if not chunk.more:
                self._failed.pop(sequence)
            return
        received = self._partial.get(sequence)
        try:
            if received is None:
                if len(self._partial) >= self._inference.settings.max_in_flight:
                    raise OverloadedError(
                        f"{len(self._partial)} images are incomplete on this stream: end them first"
                    )
                received = self._partial[sequence] = Received(self._inference.codec)
            received.message_bytes += message_bytes
            received.wire_bytes += wire_bytes
            received.add(chunk.frame)
            if chunk.more and received.complete:
                raise RequestError("every timestep has come, yet more are said to follow")
        except SpikeBottleNetError as error:
            self._fail(sequence, error, more=chunk.more)
            return
        deadline_ms = chunk.deadline_ms or self._deadline_ms
        deadline_s = deadline_ms / 1e3 if deadline_ms else None
        if not chunk.more:
            del self._partial[sequence]
            await self._credit.acquire()
            answer: asyncio.Future[StreamResponse] = asyncio.get_running_loop().create_future()
            self._cache.put(RequestKey(self._stream_id, sequence), answer)
            self._start(self._answer(sequence, received, deadline_s, answer))
        elif self._inference.settings.enough_confidence < 1:
            await self._try_early(sequence, received, deadline_s)

    async def _try_early(self, sequence: int, received: Received, deadline_s: float | None) -> None:
        """Answer from the timesteps so far if they are sure enough."""
        try:
            prediction = await self._inference.predict(
                received, sequence=sequence, deadline_s=deadline_s
            )
        except SpikeBottleNetError as error:
            self._fail(sequence, error, more=True)
            return
        if prediction.probabilities[0] < self._inference.settings.enough_confidence:
            return
        prediction.enough = True
        answer: asyncio.Future[StreamResponse] = asyncio.get_running_loop().create_future()
        self._cache.put(RequestKey(self._stream_id, sequence), answer)
        answer.set_result(self._respond(received, prediction))

    async def _answer(
        self,
        sequence: int,
        received: Received,
        deadline_s: float | None,
        answer: "asyncio.Future[StreamResponse]",
    ) -> None:
        try:
            prediction = await self._inference.predict(
                received, sequence=sequence, deadline_s=deadline_s
            )
            answer.set_result(self._respond(received, prediction))
        except SpikeBottleNetError as error:
            self._cache.forget(RequestKey(self._stream_id, sequence))
            answer.set_result(self._refuse(sequence, error))
        finally:
            self._credit.release()

    async def _repeat(self, known: "asyncio.Future[StreamResponse]") -> None:
        self._send(await asyncio.shield(known))

    def _fail(self, sequence: int, error: SpikeBottleNetError, *, more: bool) -> None:
        self._partial.pop(sequence, None)
        if more:
            self._failed[sequence] = None
            while len(self._failed) > _MAX_FAILED:
                self._failed.pop(next(iter(self._failed)))
        self._refuse(sequence, error)

    def _respond(self, received: Received, prediction: Prediction) -> StreamResponse:
        response = StreamResponse(prediction=prediction)
        wire_bytes = self._send(response)
        request_id = f"{self._name}/{prediction.sequence}"
        self._inference.log_answer(request_id, received, prediction, wire_bytes)
        return response

    def _refuse(self, sequence: int, error: SpikeBottleNetError) -> StreamResponse:
        failure = self._inference.refuse(f"{self._name}/{sequence}", sequence, error)
        response = StreamResponse(failure=failure)
        self._send(response)
        return response

    def _send(self, response: StreamResponse) -> int:
        self._out.put_nowait(response)
        return self._ledger.count_down(response.ByteSize())

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
