"""The ``EdgeInference`` service: an image in, an inference record out."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import grpc.aio

from edge_node.cloud_link import CloudLink, Exchange
from edge_node.head_worker import EncodedImage, HeadWorker
from edge_node.settings import EdgeSettings
from spikebottlenet.accounting.energy import RADIO_PROFILES, compute_uj
from spikebottlenet.accounting.record import (
    InferenceRecord,
    LabelScore,
    LatencyMs,
    Source,
    Totals,
)
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
from spikebottlenet.rpc.v1.coinference_pb2 import Prediction
from spikebottlenet.rpc.v1.edge_pb2 import (
    ClassifyFailure,
    ClassifyRequest,
    ClassifyResponse,
)
from spikebottlenet.rpc.v1.edge_pb2 import InferenceRecord as RecordMessage
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceServicer
from spikebottlenet.runtime.scores import ClassScore, best_classes

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

    async def Classify(  # noqa: N802, the contract's name
        self, request: ClassifyRequest | None, context: Context
    ) -> RecordMessage:
        """Answer one image."""
        return pack_record(await self._classify(request))

    async def ClassifyStream(  # noqa: N802
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
            record = await self._edge_exit_record(encoded, exchange, started)
            why: str | None = str(reason)
        else:
            record = self._cloud_record(encoded, exchange, prediction, started, sent)
            why = None
        self._totals.add(record)
        log.info("answered", extra=fields(**record.as_json(), cloud_missing=why))
        return record

    def _cloud_record(
        self,
        encoded: EncodedImage,
        exchange: Exchange,
        prediction: Prediction,
        started: float,
        sent: float,
    ) -> InferenceRecord:
        now = time.perf_counter()
        queue_ms, tail_ms = prediction.queue_us / 1e3, prediction.tail_us / 1e3
        return self._record(
            encoded,
            exchange,
            best=tuple(
                ClassScore(index, probability)
                for index, probability in zip(
                    prediction.classes, prediction.probabilities, strict=True
                )
            ),
            source=Source.CLOUD,
            timesteps=prediction.timesteps,
            cloud_compute_uj=prediction.cloud_compute_uj,
            network_ms=max(0.0, 1e3 * (now - sent) - queue_ms - tail_ms),
            queue_ms=queue_ms,
            tail_ms=tail_ms,
            total_ms=1e3 * (now - started),
        )

    async def _edge_exit_record(
        self, encoded: EncodedImage, exchange: Exchange, started: float
    ) -> InferenceRecord:
        probabilities = await self._head.exit_probabilities(encoded)
        return self._record(
            encoded,
            exchange,
            best=best_classes(probabilities),
            source=Source.EDGE_EXIT,
            timesteps=len(encoded.spikes),
            cloud_compute_uj=0.0,
            network_ms=0.0,
            queue_ms=0.0,
            tail_ms=0.0,
            total_ms=1e3 * (time.perf_counter() - started),
        )

    def _record(
        self,
        encoded: EncodedImage,
        exchange: Exchange,
        *,
        best: tuple[ClassScore, ...],
        source: Source,
        timesteps: int,
        cloud_compute_uj: float,
        network_ms: float,
        queue_ms: float,
        tail_ms: float,
        total_ms: float,
    ) -> InferenceRecord:
        manifest = self._bundle.manifest
        names = manifest.class_names
        top5 = tuple(LabelScore(names[score.class_index], score.probability) for score in best)
        return InferenceRecord(
            label=top5[0].label,
            confidence=top5[0].probability,
            top5=top5,
            source=source,
            timesteps=timesteps,
            payload_bytes=len(encoded.frame),
            message_bytes=exchange.message_bytes,
            wire_bytes_up=exchange.wire_bytes_up,
            wire_bytes_down=exchange.wire_bytes_down,
            spikes=int(encoded.spikes.sum()),
            firing_rate=float(encoded.spikes.mean()),
            edge_macs=encoded.macs,
            edge_accumulates=encoded.accumulates,
            edge_compute_uj=compute_uj(encoded.macs, encoded.accumulates),
            edge_radio_uj=self._radio.send_uj(exchange.wire_bytes_up),
            ann_head_uj=compute_uj(manifest.operations.ann_head_macs, 0),
            cloud_compute_uj=cloud_compute_uj,
            latency_ms=LatencyMs(
                preprocess=encoded.preprocess_ms,
                head=encoded.head_ms,
                encode=encoded.encode_ms,
                network=network_ms,
                queue=queue_ms,
                tail=tail_ms,
                total=total_ms,
            ),
            request_id=exchange.request_id,
            model=self._bundle.model,
        )


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
