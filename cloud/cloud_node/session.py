"""One edge's stream: chunks in, answers out as they are ready.

A request is answered once and its answer kept, so that an edge which lost the connection may send
it again. Its work belongs to the process, not to the stream: it ends even if the stream does not.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Coroutine

from cloud_node.answers import AnswerCache, RequestKey
from cloud_node.inference import CloudInference, Received
from spikebottlenet.accounting.wire import WireLedger, framed_bytes
from spikebottlenet.errors import OverloadedError, RequestError, SpikeBottleNetError
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Accepted,
    Drain,
    Open,
    StreamRequest,
    StreamResponse,
)

log = logging.getLogger(__name__)

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
                self._ledger.count_up(request.ByteSize())
                await self._take(request)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            self._out.put_nowait(None)

    async def _take(self, chunk: StreamRequest) -> None:
        sequence, message_bytes = chunk.sequence, chunk.ByteSize()
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
            received.wire_bytes += framed_bytes(message_bytes)
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
        response = StreamResponse(prediction=prediction)
        answer: asyncio.Future[StreamResponse] = asyncio.get_running_loop().create_future()
        answer.set_result(response)
        self._cache.put(RequestKey(self._stream_id, sequence), answer)
        self._send(response)
        self._inference.log_answer(
            f"{self._name}/{sequence}", received, prediction, framed_bytes(response.ByteSize())
        )

    async def _answer(
        self,
        sequence: int,
        received: Received,
        deadline_s: float | None,
        answer: "asyncio.Future[StreamResponse]",
    ) -> None:
        request_id = f"{self._name}/{sequence}"
        try:
            prediction = await self._inference.predict(
                received, sequence=sequence, deadline_s=deadline_s
            )
            response = StreamResponse(prediction=prediction)
            wire_bytes = framed_bytes(response.ByteSize())
            self._inference.log_answer(request_id, received, prediction, wire_bytes)
        except SpikeBottleNetError as error:
            self._cache.forget(RequestKey(self._stream_id, sequence))
            failure = self._inference.refuse(request_id, sequence, error)
            response = StreamResponse(failure=failure)
        finally:
            self._credit.release()
        answer.set_result(response)
        self._send(response)

    async def _repeat(self, known: "asyncio.Future[StreamResponse]") -> None:
        self._send(await asyncio.shield(known))

    def _fail(self, sequence: int, error: SpikeBottleNetError, *, more: bool) -> None:
        self._partial.pop(sequence, None)
        if more:
            self._failed[sequence] = None
            while len(self._failed) > _MAX_FAILED:
                self._failed.pop(next(iter(self._failed)))
        request_id = f"{self._name}/{sequence}"
        failure = self._inference.refuse(request_id, sequence, error)
        self._send(StreamResponse(failure=failure))

    def _send(self, response: StreamResponse) -> None:
        self._ledger.count_down(response.ByteSize())
        self._out.put_nowait(response)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
