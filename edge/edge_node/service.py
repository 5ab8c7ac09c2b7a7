"""The ``EdgeInference`` service: an image in, an inference record out."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import grpc.aio

from edge_node.cloud_link import CloudLink
from edge_node.head_worker import HeadWorker
from edge_node.record import cloud_answer, edge_exit_answer, make_record
from edge_node.settings import EdgeSettings
from spikebottlenet.accounting.energy import RADIO_PROFILES
from spikebottlenet.accounting.record import InferenceRecord, Totals
from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.bundle import Bundle
from spikebottlenet.errors import (
    DeadlineError,
    ModelMismatchError,
    OverloadedError,
    RequestError,
    SpikeBottleNetError,
    TooLargeError,
    UnavailableError,
)
from spikebottlenet.logs import fields
from spikebottlenet.rpc.records import pack_record
from spikebottlenet.rpc.status import code_number, status_code
from spikebottlenet.rpc.v1.edge_pb2 import (
    ClassifyFailure,
    ClassifyRequest,
    ClassifyResponse,
)
from spikebottlenet.rpc.v1.edge_pb2 import InferenceRecord as RecordMessage
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceServicer

log = logging.getLogger(__name__)

# Answers of one client's stream that may be worked on at a time; the head keeps its own count.
_STREAM_WINDOW = 64

Context = grpc.aio.ServicerContext[Any, Any]


class EdgeService(EdgeInferenceServicer):
    """Answers clients; keeps this process's totals."""

    def __init__(
        self, bundle: Bundle, settings: EdgeSettings, head: HeadWorker, link: CloudLink
    ) -> None:
        self._bundle = bundle
        self._settings = settings
        self._head = head
        self._link = link
        self._radio = RADIO_PROFILES[settings.radio]
        self._totals = Totals()
        self._refused = 0
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Refuse new images; what was accepted is still answered."""
        self._draining.set()

    def log_totals(self, ledger: WireLedger) -> None:
        """The totals line, wire bytes by both ways of counting."""
        sums = asdict(self._totals) | {"refused": self._refused}
        log.info("totals", extra=fields(**sums, **ledger.reconcile()))

    async def Classify(self, request: ClassifyRequest | None, context: Context) -> RecordMessage:
        """Answer one image."""
        return pack_record(await self._classify(request))

    async def ClassifyStream(
        self, requests: AsyncIterator[ClassifyRequest | None], context: Context
    ) -> AsyncIterator[ClassifyResponse]:
        """Answer a client's images as they are ready."""
        answers: asyncio.Queue[ClassifyResponse | None] = asyncio.Queue(_STREAM_WINDOW)
        reading = asyncio.create_task(self._read(requests, answers))
        try:
            while (answer := await answers.get()) is not None:
                yield answer
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(
        self,
        requests: AsyncIterator[ClassifyRequest | None],
        answers: "asyncio.Queue[ClassifyResponse | None]",
    ) -> None:
        window = asyncio.Semaphore(_STREAM_WINDOW)

        async def answer(request: ClassifyRequest | None) -> None:
            sequence = 0 if request is None else request.sequence
            try:
                record = pack_record(await self._classify(request))
                await answers.put(ClassifyResponse(sequence=sequence, record=record))
            except SpikeBottleNetError as error:
                failure = ClassifyFailure(code=code_number(error), message=str(error))
                await answers.put(ClassifyResponse(sequence=sequence, failure=failure))
            finally:
                window.release()

        async with asyncio.TaskGroup() as tasks:
            async for request in _until(self._draining, requests):
                await window.acquire()
                tasks.create_task(answer(request))
        await answers.put(None)

    async def _classify(self, request: ClassifyRequest | None) -> InferenceRecord:
        try:
            return await self._answer(request)
        except SpikeBottleNetError as error:
            self._refused += 1
            code = status_code(error).name
            log.warning("refused", extra=fields(code=code, reason=str(error)))
            raise

    async def _answer(self, request: ClassifyRequest | None) -> InferenceRecord:
        if self._draining.is_set():
            raise UnavailableError("this edge-node is stopping: connect again later")
        if request is None:
            raise RequestError("message is not a ClassifyRequest: check the client's version")
        if request.store or request.model:
            raise RequestError(
                "the request asks for store or a model by name, which this edge-node cannot do "
                "yet: leave both out"
            )
        if len(request.image) > self._settings.max_image_bytes:
            raise TooLargeError(
                f"image is {len(request.image)} bytes, wanted at most "
                f"{self._settings.max_image_bytes}: shrink it, or raise max_image_bytes"
            )
        started = time.perf_counter()
        encoded = await self._head.encode(request.image)
        deadline_s = (request.deadline_ms or self._settings.deadline_ms) / 1e3
        exchange = self._link.new_exchange(encoded.frame, deadline_s=deadline_s)
        sent = time.perf_counter()
        try:
            prediction = await self._link.infer(exchange, deadline_s=deadline_s)
        except ModelMismatchError:
            raise  # a mistake of whoever set this up; the exit would hide it
        except (UnavailableError, OverloadedError, DeadlineError) as reason:
            probabilities = await self._head.exit_probabilities(encoded)
            answer, why = edge_exit_answer(probabilities, encoded), str(reason)
        else:
            waited_ms = 1e3 * (time.perf_counter() - sent)
            answer, why = cloud_answer(prediction, waited_ms=waited_ms), ""
        total_ms = 1e3 * (time.perf_counter() - started)
        record = make_record(
            self._bundle, self._radio, encoded, exchange, answer, total_ms=total_ms
        )
        self._totals.add(record)
        log.info("answered", extra=fields(**record.as_json(), cloud_missing=why or None))
        return record


async def _until(
    stop: asyncio.Event, requests: AsyncIterator[ClassifyRequest | None]
) -> AsyncIterator[ClassifyRequest | None]:
    """The requests that come before ``stop`` is set."""
    stopping = asyncio.create_task(stop.wait())
    following: asyncio.Task[ClassifyRequest | None] | None = None
    try:
        while not stop.is_set():
            following = asyncio.ensure_future(anext(requests))
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                return
            try:
                yield following.result()
            except StopAsyncIteration:
                return
    finally:
        for task in (stopping, following):
            if task is not None:
                task.cancel()
