"""The ``EdgeInference`` service: an image in, an inference record out."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import grpc
import grpc.aio

from edge_node.answering import Answered, Answering, Wanted
from edge_node.metrics import EdgeMetrics
from edge_node.queue_rows import State
from edge_node.record import Reply
from edge_node.results import pack_result
from edge_node.settings import EdgeSettings
from edge_node.store import Store
from spikebottlenet.accounting.record import InferenceRecord, Totals
from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.errors import (
    RequestError,
    SpikeBottleNetError,
    TooLargeError,
    UnavailableError,
)
from spikebottlenet.logs import fields
from spikebottlenet.rpc.limits import current_client
from spikebottlenet.rpc.status import code_number, retry_after_ms, status_code
from spikebottlenet.rpc.v1.edge_pb2 import (
    ClassifyFailure,
    ClassifyRequest,
    ClassifyResponse,
    ResultsRequest,
    StoredResult,
)
from spikebottlenet.rpc.v1.edge_pb2 import InferenceRecord as RecordMessage
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceServicer
from spikebottlenet.tracing import Span, Tracer, caller_context

log = logging.getLogger(__name__)

# Answers of one client's stream that may be worked on at a time; the head keeps its own count.
_STREAM_WINDOW = 64
_KEY_BYTES = 16
_LARGEST_POSITION = (1 << 63) - 1
_RECENT = 120  # records kept for the live page
_CANCELLED = grpc.StatusCode.CANCELLED.name
_STORE_WITHIN_MS = 60_000  # until a request is on disk, where its client gives no deadline

Context = grpc.aio.ServicerContext[Any, Any]


class EdgeService(EdgeInferenceServicer):
    """Answers clients; keeps this process's totals."""

    def __init__(
        self,
        answering: Answering,
        settings: EdgeSettings,
        store: Store,
        metrics: EdgeMetrics,
        tracer: Tracer,
    ) -> None:
        self._answering = answering
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self._tracer = tracer
        self.totals = Totals()
        self.refused = self.cancelled = 0
        self.recent: deque[InferenceRecord] = deque(maxlen=_RECENT)
        self._draining = False
        self._reading: set[asyncio.Task[None]] = set()  # what comes on a stream, one for each

    def drain(self) -> None:
        """Refuse new images; what was accepted is still answered."""
        self._draining = True
        for reading in self._reading:  # a task of a group may be cancelled; its group goes on
            reading.cancel()

    def log_totals(self, ledger: WireLedger, **more: object) -> None:
        """The totals line, wire bytes by both ways of counting."""
        sums = asdict(self.totals) | {"refused": self.refused, "cancelled": self.cancelled, **more}
        sums["not_stored"] = self._answering.not_stored
        log.info("totals", extra=fields(**sums, **ledger.reconcile()))

    async def Classify(self, request: ClassifyRequest | None, context: Context) -> RecordMessage:
        """Answer one image."""
        until = _monotonic_end(context)
        return (await self.classify(request, time.monotonic(), until)).reply.message

    async def ClassifyStream(
        self, requests: AsyncIterator[ClassifyRequest | None], context: Context
    ) -> None:
        """Answer a client's images as they are ready."""
        window = asyncio.Semaphore(_STREAM_WINDOW)  # until an answer is written
        writing = asyncio.Lock()
        until = _monotonic_end(context)

        async def read() -> None:
            """Take the next request, have another task read on, and answer it in this one."""
            reading = self._begin_reading()
            try:
                await window.acquire()  # before it is taken: the end may come while this waits
                request = await anext(requests)
            except StopAsyncIteration:
                return
            finally:
                self._reading.discard(reading)
            arrived = time.monotonic()
            tasks.create_task(read())
            response = await self._response(request, arrived, until)
            async with writing:
                await context.write(response)
            window.release()

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(read())
        except ExceptionGroup as group:  # gRPC knows those of a call that is gone by themselves
            raise group.exceptions[0] from None

    def _begin_reading(self) -> "asyncio.Task[None]":
        """Note that this task reads from a stream, which ends where the service drains.

        Raises:
            asyncio.CancelledError: it drains.
        """
        task = asyncio.current_task()
        if task is None or self._draining:
            raise asyncio.CancelledError
        self._reading.add(task)
        return task

    async def _response(
        self, request: ClassifyRequest | None, arrived: float, until: float | None
    ) -> ClassifyResponse:
        sequence = 0 if request is None else request.sequence
        try:
            with current_client().request():
                answered = await self.classify(request, arrived, until)
            response = answered.reply.response
            response.sequence = sequence
            return response
        except SpikeBottleNetError as error:
            failure = ClassifyFailure(
                code=code_number(error),
                message=str(error),
                retry_after_ms=retry_after_ms(error),
            )
            return ClassifyResponse(sequence=sequence, failure=failure)

    async def Results(
        self, request: ResultsRequest | None, context: Context
    ) -> AsyncIterator[StoredResult]:
        """Say what became of stored requests."""
        if request is None:
            raise RequestError("message is not a ResultsRequest: check the client's version")
        if request.after > _LARGEST_POSITION:
            raise RequestError(
                f"after is {request.after}, wanted at most {_LARGEST_POSITION}: send a position "
                "that this edge-node gave"
            )
        results = self._store.results(
            after=request.after, request_ids=request.request_ids, limit=request.limit
        )
        async for result in results:
            if request.answered_only and result.state is State.WAITING:
                return
            yield pack_result(result, self._store.request_id(result.sequence))

    async def classify(
        self, request: ClassifyRequest | None, arrived: float, until: float | None
    ) -> Answered:
        """Answer an image that came at ``arrived``; its call ends at ``until`` (monotonic).

        Counted and logged, whichever way it came.

        Raises:
            SpikeBottleNetError: why it was refused.
        """
        said = "" if request is None else caller_context(request.traceparent)
        span = self._tracer.begin("edge.classify", said, arrived)
        try:
            try:
                if self._draining:
                    raise UnavailableError("this edge-node is stopping: connect again later")
                wanted = self._read_request(request, arrived, until, span)
                answered = await self._answering.answer(wanted)
            except Exception as error:
                if isinstance(error, SpikeBottleNetError):
                    raise
                # A mistake of ours costs this image its answer, and no other anything.
                log.exception("image failed")
                raise SpikeBottleNetError("failed inside this edge-node: see its log") from error
        except SpikeBottleNetError as error:
            self.refused += 1
            code = status_code(error).name
            self._metrics.refused(code)
            span.end(code=code)
            log.warning("refused", extra=fields(code=code, reason=str(error)))
            raise
        except asyncio.CancelledError:  # by the client: what it has cost so far is in no record
            self.cancelled += 1
            self._metrics.refused(_CANCELLED)
            span.end(code=_CANCELLED)
            log.info("cancelled", extra=fields(code=_CANCELLED))
            raise
        reply = answered.reply
        span.end(code="OK", source=reply.source.value, model=answered.model.bundle.model)
        # It is counted, and its line written, while the answer is on its way.
        asyncio.get_running_loop().call_soon(self._account, reply, answered.cloud_missing)
        return answered

    def _account(self, reply: Reply, cloud_missing: str) -> None:
        record = reply.record()
        self.totals.add(record)
        self._metrics.answered(record)
        self.recent.append(record)
        log.info("answered", extra=fields(**record.as_json(), cloud_missing=cloud_missing or None))

    def _read_request(
        self, request: ClassifyRequest | None, arrived: float, until: float | None, span: Span
    ) -> Wanted:
        if request is None:
            raise RequestError("message is not a ClassifyRequest: check the client's version")
        if len(request.image) > self._settings.max_image_bytes:
            raise TooLargeError(
                f"image is {len(request.image)} bytes, wanted at most "
                f"{self._settings.max_image_bytes}: shrink it, or raise max_image_bytes"
            )
        if len(request.request_key) not in (0, _KEY_BYTES):
            raise RequestError(
                f"request_key has {len(request.request_key)} bytes, wanted {_KEY_BYTES} or none: "
                "send a UUID"
            )
        usual_ms = _STORE_WITHIN_MS if request.store else self._settings.deadline_ms
        deadline = arrived + (request.deadline_ms or usual_ms) / 1e3
        return Wanted(
            image=request.image,
            arrived=arrived,
            deadline=deadline if until is None else min(deadline, until),
            store=request.store,
            key=request.request_key,
            model=request.model,
            span=span,
        )


def _monotonic_end(context: Context) -> float | None:
    """When a call's own deadline is; None without one."""
    left_s = context.time_remaining()
    return None if left_s is None else time.monotonic() + left_s
