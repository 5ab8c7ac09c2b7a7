"""One image in the cloud: frames to a prediction, accounted and logged."""

import logging
from collections.abc import Sequence
from dataclasses import asdict

from cloud_node.batching import Sender
from cloud_node.job import Awaited, Job, TailAnswer
from cloud_node.metrics import CloudMetrics, CloudTotals
from cloud_node.models import ServedModel, ServedModels
from cloud_node.received import Received
from cloud_node.settings import CloudSettings
from cloud_node.tails import Tails
from cloud_node.tally import Answered, Tally
from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.errors import OverloadedError, SpikeBottleNetError
from spikebottlenet.logs import Often, Seldom, fields
from spikebottlenet.rpc.chances import CERTAIN
from spikebottlenet.rpc.limits import current_client
from spikebottlenet.rpc.status import code_number, retry_after_ms, status_code
from spikebottlenet.rpc.v1.coinference_pb2 import Failure, Prediction
from spikebottlenet.tracing import NO_TRACES, Tracer

log = logging.getLogger(__name__)


class CloudInference:
    """Answers images with the tails; keeps this process's totals."""

    def __init__(
        self,
        models: ServedModels,
        settings: CloudSettings,
        worker: Tails,
        tracer: Tracer = NO_TRACES,
    ) -> None:
        self.models = models
        self.settings = settings
        self._worker = worker
        self._answered = Often(log, "answered")
        self._no_room = Seldom()
        self.under_way = 0  # requests that are not answered yet
        self.streams = 0  # that are open
        self.totals = CloudTotals()
        self.metrics = CloudMetrics(self.totals)
        self.tally = Tally()
        self._tracer = tracer

    @property
    def waiting(self) -> int:
        """Images that wait for a tail."""
        return self._worker.waiting

    def ask(
        self, model: ServedModel, jobs: Sequence[Job], *, client: str, stream: bytes = b""
    ) -> None:
        """Have a tail run on the timesteps that have come of each image, in the turn of client and
        stream.
        """
        sender, alone = Sender(client, stream), self.under_way == 1
        self._worker.ask(model.tail, jobs, sender=sender, alone=alone)

    def write(
        self,
        prediction: Prediction,
        model: ServedModel,
        received: Received,
        answer: TailAnswer,
        *,
        arrived: float,
    ) -> None:
        """Write what the tail said of an image, which waited from ``arrived`` (monotonic seconds)
        on, into its message.

        Raises:
            SpikeBottleNetError: it said nothing.
        """
        self.tally.batched(answer.batch)
        if not answer.chances:
            raise SpikeBottleNetError(
                f"the tail of {model.bundle.model} gave no numbers: check the bundle"
            )
        if received.traceparent:  # of an edge that traces
            self._trace(received, answer, arrived)
        prediction.classes.extend(answer.classes)
        prediction.chances.extend(answer.chances)
        prediction.timesteps = received.timesteps
        prediction.queue_us = answer.queue_us
        prediction.tail_us = answer.tail_us
        prediction.cloud_compute_uj = model.tail_uj[received.timesteps - 1]

    async def predict(
        self,
        model: ServedModel,
        received: Received,
        *,
        sequence: int,
        deadline_s: float | None,
        stream: bytes = b"",
    ) -> Prediction:
        """The answer to :meth:`ask` for one image, as a message.

        Raises:
            SpikeBottleNetError: why there is none.
        """
        self.under_way += 1
        job = Awaited(received, deadline_s)
        try:
            self.ask(model, [job], client=current_client().name, stream=stream)
            answer, prediction = await job.answer, Prediction(sequence=sequence)
            self.write(prediction, model, received, answer, arrived=job.arrived)
            return prediction
        finally:
            self.under_way -= 1

    def usual(self, model: ServedModel) -> Prediction:
        """What answers of all timesteps have in common."""
        timesteps = model.codec.shape.timesteps
        return Prediction(timesteps=timesteps, cloud_compute_uj=model.tail_uj[timesteps - 1])

    def _trace(self, received: Received, answer: TailAnswer, arrived: float) -> None:
        began = arrived + answer.queue_us / 1e6
        span = self._tracer.begin("cloud.infer", received.traceparent, arrived)
        span.part("queue", arrived, began)
        span.part("tail", began, began + answer.tail_us / 1e6)
        span.end(timesteps=received.timesteps, batch=answer.batch)

    def log_answer(
        self,
        model: ServedModel,
        request_id: str,
        received: Received,
        prediction: Prediction,
        *,
        client: str,
        wire_bytes_down: int,
    ) -> None:
        """One line for an answered request, and its part of the totals."""
        payload_bytes, wire_bytes_up = received.payload_bytes, received.wire_bytes
        compute_uj, enough = prediction.cloud_compute_uj, prediction.enough
        queue_us, tail_us = prediction.queue_us, prediction.tail_us
        confidence = prediction.chances[0] / CERTAIN
        label = model.bundle.manifest.class_names[prediction.classes[0]]
        totals = self.totals
        totals.images += 1
        totals.payload_bytes += payload_bytes
        totals.message_bytes += received.message_bytes
        totals.wire_bytes_up += wire_bytes_up
        totals.wire_bytes_down += wire_bytes_down
        totals.cloud_compute_uj += compute_uj
        self.metrics.answered(queue_us, tail_us, enough=enough)
        self.tally.answered(
            Answered(client, label, confidence, payload_bytes, wire_bytes_up, queue_us, tail_us)
        )
        self._answered.say(
            request_id=request_id,
            label=label,
            confidence=round(confidence, 4),
            timesteps=received.timesteps,
            enough=enough,
            payload_bytes=payload_bytes,
            message_bytes=received.message_bytes,
            wire_bytes_up=wire_bytes_up,
            wire_bytes_down=wire_bytes_down,
            cloud_compute_uj=round(compute_uj, 3),
            queue_ms=queue_us / 1000,
            tail_ms=tail_us / 1000,
            model=model.bundle.model,
        )

    def refuse(self, request_id: str, sequence: int, error: SpikeBottleNetError) -> Failure:
        """The failure that answers a request; logged, for lack of room once a second."""
        self.totals.refused += 1
        code, reason = status_code(error).name, str(error)
        self.metrics.refused(code)
        alike = self._no_room.again() if isinstance(error, OverloadedError) else 1
        if alike:
            said = fields(request_id=request_id, code=code, reason=reason, requests=alike)
            log.warning("refused", extra=said)
        return Failure(
            sequence=sequence,
            code=code_number(error),
            message=reason,
            retry_after_ms=retry_after_ms(error),
        )

    def log_totals(self, ledger: WireLedger) -> None:
        """The totals line, wire bytes by both ways of counting."""
        self._answered.flush()
        sums = asdict(self.totals) | {"expired": self._worker.expired}
        log.info("totals", extra=fields(**sums, **ledger.reconcile()))
