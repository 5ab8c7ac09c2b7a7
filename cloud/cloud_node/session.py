"""One edge's stream: what it sends, chunk by chunk, and how it begins, is drained and ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from cloud_node.inference import CloudInference
from cloud_node.models import ServedModel
from cloud_node.outgoing import BATCH_BYTES
from cloud_node.received import Received
from cloud_node.requests import Requests
from spikebottlenet.accounting.wire import WireLedger, shares
from spikebottlenet.errors import (
    CorruptFrameError,
    OverloadedError,
    RequestError,
    SpikeBottleNetError,
)
from spikebottlenet.rpc.chances import CERTAIN
from spikebottlenet.rpc.checks import frame_context, verify_check, with_check
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Accepted,
    Drain,
    Open,
    RequestBatch,
    StreamRequest,
    StreamResponse,
)
from spikebottlenet.tracing import caller_context

_DRAIN_QUIET_S = 0.5  # a drained stream with nothing to answer for so long is ended
_AT_A_TIME = 16  # images of one message, before other streams have their turns
_MAX_IGNORED = 1024  # sequences whose further chunks are ignored

Write = Callable[[StreamResponse], Awaitable[None]]


class Session:
    """State of one stream after its Open."""

    def __init__(
        self,
        opening: Open,
        model: ServedModel,
        inference: CloudInference,
        requests: Requests,
        ledger: WireLedger,
    ) -> None:
        self.model = model
        # Of the Open what is asked for each image: a message's fields take longer to read.
        self._brief, self._checked, self._ordered = opening.brief, opening.checked, opening.ordered
        self._stream_id, self._deadline_ms = opening.stream_id, opening.deadline_ms
        self._inference = inference
        self._requests = requests
        self._ledger = ledger
        self._last = self._before = 0  # sequences, on an ordered stream
        self._partial: dict[int, Received] = {}
        self._over: dict[int, None] = {}  # answered early or failed, with chunks that may follow
        self._draining = False
        self._writing = asyncio.Lock()
        self._goes_on = True

    def drain(self) -> None:
        """Tell the edge to send nothing new."""
        if not self._draining:
            self._draining = True
            self._requests.out.put(StreamResponse(drain=Drain()))

    async def answer(self, requests: AsyncIterator[StreamRequest | None], write: Write) -> None:
        """Write what goes to the edge until it ends the stream and has every answer.

        Raises:
            RequestError: the edge broke the protocol.
        """
        settings = self._inference.settings
        accepted = Accepted(
            max_in_flight=settings.max_in_flight,
            batch_bytes=min(BATCH_BYTES, settings.max_message_bytes),
        )
        if self._brief:
            accepted.usual.CopyFrom(self._inference.usual(self.model))
            if self._checked:
                with_check(accepted.usual, self._stream_id)
        first = StreamResponse(accepted=accepted)
        self._ledger.count_down(first.ByteSize())
        await write(first)
        reading = asyncio.create_task(self._read(requests, write))
        self._inference.streams += 1
        try:
            while True:
                quiet = self._draining and not self._requests.under_way
                wait_s = _DRAIN_QUIET_S if quiet else None
                try:
                    more = await asyncio.wait_for(self._requests.out.some(), wait_s)
                except TimeoutError:
                    # What was sent is still answered.
                    waits = self._requests.out.waits or self._writing.locked()
                    if self._requests.under_way or self._partial or waits:
                        continue
                    return
                if not more:
                    break
                await self._write_all(write)
                if not self._goes_on:
                    return
            await reading
        finally:
            self._inference.streams -= 1
            self._requests.out.close()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _write_all(self, write: Write) -> None:
        async with self._writing:
            while self._goes_on and (departure := self._requests.out.take()) is not None:
                await write(departure.message)
                self._goes_on = self._requests.written(departure)

    async def _read(self, requests: AsyncIterator[StreamRequest | None], write: Write) -> None:
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
                # What is answered by then leaves from here: to wake another task takes longer.
                if self._inference.streams == 1:
                    self._requests.ask()
                else:  # what has come to the others meanwhile is asked for in the same turn
                    await asyncio.sleep(0)
                if not self._writing.locked():
                    await self._write_all(write)
                if not self._goes_on:
                    return
            await self._requests.all_answered()
        finally:
            self._requests.out.complete()

    async def _take_batch(self, batch: RequestBatch, message_bytes: int) -> None:
        """Take requests that came in one message, as if each had come by itself."""
        if message_bytes > BATCH_BYTES:
            raise RequestError(
                f"batch of {message_bytes} bytes, wanted at most {BATCH_BYTES}: send smaller ones"
            )
        damage: CorruptFrameError | None = None
        if self._checked:
            try:
                verify_check(batch, self._stream_id)
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
                    await asyncio.sleep(0)
            elif damage is None:
                raise RequestError("a batch has more than spikes: put only those into it")
        if damage is not None:
            await self._fail(0, damage, more=False)

    async def _take(self, chunk: StreamRequest, message_bytes: int, wire_bytes: int) -> None:
        sequence, more = chunk.sequence, chunk.more
        if self._ordered:
            self._check_order(sequence)
        if sequence in self._over:  # a late chunk
            if not more:
                self._over.pop(sequence)
            return
        known = self._requests.known(sequence)
        if known is not None:
            if more:
                self._ignore_rest_of(sequence)
            await self._requests.room()
            self._requests.repeat(sequence, known)
            return
        try:
            received = self._partial.pop(sequence, None) or self._first_chunk(chunk)
            received.message_bytes += message_bytes
            received.wire_bytes += wire_bytes
            received.add(chunk.frame, context=self._context(sequence, more=more))
            if more and received.complete:
                raise RequestError("every timestep has come, yet more are said to follow")
        except SpikeBottleNetError as error:
            await self._fail(sequence, error, more=more)
            return
        deadline_ms = chunk.deadline_ms or self._deadline_ms
        deadline_s = deadline_ms / 1e3 if deadline_ms else None
        if not more:
            await self._requests.room()
            self._requests.start(sequence, received, deadline_s)
            return
        self._partial[sequence] = received
        if self._inference.settings.enough_confidence < 1 and not self._ordered:
            await self._try_early(sequence, received, deadline_s)

    def _check_order(self, sequence: int) -> None:
        if sequence < self._last or (sequence == self._last and sequence not in self._partial):
            raise RequestError(
                f"sequence {sequence} after {self._last} on an ordered stream: send them in order"
            )
        if sequence != self._last:
            self._before, self._last = self._last, sequence

    def _first_chunk(self, chunk: StreamRequest) -> Received:
        if len(self._partial) >= self._inference.settings.max_in_flight:
            raise OverloadedError(
                f"{len(self._partial)} images are incomplete on this stream: end them first"
            )
        received = Received(self.model.codec)
        received.traceparent = caller_context(chunk.traceparent)
        return received

    def _context(self, sequence: int, *, more: bool) -> bytes:
        if not self._checked:
            return b""
        return frame_context(self._stream_id, sequence, more=more, previous=self._before)

    async def _try_early(self, sequence: int, received: Received, deadline_s: float | None) -> None:
        """Answer from the timesteps so far if they are sure enough."""
        try:
            prediction = await self._inference.predict(
                self.model,
                received,
                sequence=sequence,
                deadline_s=deadline_s,
                stream=self._stream_id,
            )
        except SpikeBottleNetError as error:
            await self._fail(sequence, error, more=True)
            return
        if prediction.chances[0] / CERTAIN < self._inference.settings.enough_confidence:
            return
        prediction.enough = True
        await self._requests.room()
        self._ignore_rest_of(sequence)  # which an edge that listens does not send
        self._requests.give_early(received, prediction)

    def _ignore_rest_of(self, sequence: int) -> None:
        self._partial.pop(sequence, None)
        self._over[sequence] = None
        while len(self._over) > _MAX_IGNORED:
            self._over.pop(next(iter(self._over)))

    async def _fail(self, sequence: int, error: SpikeBottleNetError, *, more: bool) -> None:
        if more:
            self._ignore_rest_of(sequence)
        self._partial.pop(sequence, None)
        await self._requests.room()
        self._requests.fail(sequence, error)
