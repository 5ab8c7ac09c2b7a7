"""Stored requests of one model over one ordered stream: a window sent, answers in order."""

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import grpc.aio

from edge_node.cloud_stream import CloudStream, bound_request
from edge_node.metrics import Delivered
from edge_node.queue import DurableQueue
from edge_node.queue_rows import StoredAnswer
from spikebottlenet.accounting.energy import RadioProfile
from spikebottlenet.errors import (
    CorruptFrameError,
    DeadlineError,
    OverloadedError,
    SpikeBottleNetError,
    UnavailableError,
)
from spikebottlenet.logs import fields
from spikebottlenet.rpc.chances import from_chances
from spikebottlenet.rpc.status import error_from_number
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Failure,
    Prediction,
    StreamRequest,
    StreamResponse,
)

log = logging.getLogger(__name__)

_MAX_DAMAGED = 5  # times that one request may arrive damaged before it is dead
_IDLE_S = 20.0  # with nothing to send for so long the stream is closed
_LOOKS_A_STALL = 4


@dataclass
class Progress:
    """What delivery has come to, over all streams."""

    done: int = 0  # requests answered or set aside
    damaged_sequence: int = 0
    damaged_times: int = 0

    def arrived_damaged(self, sequence: int) -> bool:
        """Count a damaged arrival; true once there were too many to blame the way."""
        same = sequence == self.damaged_sequence
        self.damaged_sequence = sequence
        self.damaged_times = self.damaged_times + 1 if same else 1
        return self.damaged_times >= _MAX_DAMAGED


class DeliveryRun:
    """State of one stream."""

    def __init__(
        self,
        queue: DurableQueue,
        stream: CloudStream,
        progress: Progress,
        radio: RadioProfile,
        *,
        window: int,
        count: Callable[[Delivered], None],
    ) -> None:
        self._queue = queue
        self._stream = stream
        self._progress = progress
        self._radio = radio
        self._count = count
        self._wire_bytes_up: dict[int, int] = {}  # of what was sent, by sequence
        self._places = asyncio.Semaphore(window)
        self._sent: deque[int] = deque()  # without an answer, in order
        self._heard = time.monotonic()  # the last answer, or the first request after a rest
        self._saving: set[asyncio.Task[None]] = set()

    async def finish(self, fingerprint: str, names: tuple[str, ...], *, stall_s: float) -> None:
        """Send what waits of this model and take the answers; returns when it has no more for now.

        Raises:
            SpikeBottleNetError: the stream broke, stalled, or the cloud has no room.
        """
        beside = [
            asyncio.create_task(self._write(fingerprint)),
            asyncio.create_task(self._watch(stall_s)),
        ]
        try:
            while (received := await self._stream.read()) is not None:
                self._heard = time.monotonic()
                await self._take(*received, names)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, *self._saving, return_exceptions=True)
        if self._sent:
            raise await self._stream.ending()

    async def _watch(self, stall_s: float) -> None:
        while True:
            await asyncio.sleep(stall_s / _LOOKS_A_STALL)
            if self._sent and time.monotonic() - self._heard > stall_s:
                self._stream.cut(f"no answer for {stall_s} s: connecting afresh")
                return

    async def _write(self, fingerprint: str) -> None:
        try:
            await self._write_all(fingerprint)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader sees the same end and says why
        except SpikeBottleNetError as error:
            self._stream.cut(f"the queue cannot be read: {error}")

    async def _write_all(self, fingerprint: str) -> None:
        after, limit, revivals = 0, 64, self._queue.revivals
        while True:
            if self._queue.revivals != revivals:  # some before these wait again: begin anew
                await self._stream.done_writing()
                return
            batch = await self._queue.waiting(after=after, limit=limit)
            together: list[StreamRequest] = []
            for request in batch:
                if request.fingerprint != fingerprint:
                    await self._write_together(together)
                    await self._stream.done_writing()
                    return
                if self._places.locked():
                    await self._write_together(together)
                await self._places.acquire()
                if not self._sent:
                    self._heard = time.monotonic()
                self._sent.append(request.sequence)
                before, after = after, request.sequence
                together.append(
                    bound_request(self._queue.stream_id, after, request.frame, previous=before)
                )
            await self._write_together(together)
            if not batch:
                try:
                    async with asyncio.timeout(_IDLE_S):
                        await self._queue.wait_for_waiting(after=after)
                except TimeoutError:
                    await self._stream.done_writing()
                    return

    async def _write_together(self, requests: list[StreamRequest]) -> None:
        """Write all of these, in as few messages as they fit; the list is empty then."""
        while requests:
            message, parts = self._stream.together(requests)
            for request, share in zip(requests, parts, strict=False):  # may be answered at once
                self._wire_bytes_up[request.sequence] = share
            del requests[: len(parts)]
            await self._stream.send(message)

    async def _take(
        self, response: StreamResponse, wire_bytes: int, names: tuple[str, ...]
    ) -> None:
        match response.WhichOneof("response"):
            case "prediction":
                if max(response.prediction.classes) >= len(names):
                    raise UnavailableError("the cloud's answer is of another model's classes")
                self._next_is(response.prediction.sequence)
                self._save(response.prediction, wire_bytes, names)
            case "failure":
                await self._failed(response.failure)
            case "drain":
                raise UnavailableError("the cloud is stopping")

    def _next_is(self, sequence: int) -> None:
        if not self._sent or self._sent[0] != sequence:
            expected = self._sent[0] if self._sent else "none"
            raise UnavailableError(f"answer to {sequence} out of order, expected {expected}")
        self._sent.popleft()

    def _save(self, prediction: Prediction, wire_bytes: int, names: tuple[str, ...]) -> None:
        """Put an answer on disk; its place is free once it is there."""
        answer = StoredAnswer(
            classes=tuple(prediction.classes),
            labels=tuple(names[index] for index in prediction.classes),
            probabilities=from_chances(prediction.chances),
            timesteps=prediction.timesteps,
        )

        wire_bytes_up = self._wire_bytes_up.pop(prediction.sequence, 0)
        took = Delivered(
            wire_bytes_up=wire_bytes_up,
            wire_bytes_down=wire_bytes,
            edge_radio_uj=self._radio.send_uj(wire_bytes_up),
            cloud_compute_uj=prediction.cloud_compute_uj,
        )
        line = fields(
            request_id=f"{uuid.UUID(bytes=self._queue.stream_id)}/{prediction.sequence}",
            label=answer.labels[0],
            timesteps=answer.timesteps,
            **took._asdict(),
        )

        async def save() -> None:
            try:
                await self._queue.complete(prediction.sequence, answer)
                self._progress.done += 1
                self._count(took)
                log.info("delivered", extra=line)
            except SpikeBottleNetError as error:
                self._stream.cut(f"an answer cannot be kept: {error}")
            finally:
                self._places.release()

        task = asyncio.create_task(save())
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _failed(self, failure: Failure) -> None:
        error = error_from_number(
            failure.code, failure.message, retry_after_ms=failure.retry_after_ms
        )
        if isinstance(error, UnavailableError | OverloadedError | DeadlineError):
            raise error
        if isinstance(error, CorruptFrameError) and (
            not self._sent
            or failure.sequence != self._sent[0]
            or not self._progress.arrived_damaged(failure.sequence)
        ):
            raise UnavailableError(f"a request arrived damaged: {error}")
        self._next_is(failure.sequence)
        self._wire_bytes_up.pop(failure.sequence, None)
        await self._queue.bury([failure.sequence], str(error))
        self._progress.done += 1
        self._places.release()
