"""One image in the cloud: frames to a prediction, accounted and logged."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from cloud_node.batching import Sender
from cloud_node.metrics import CloudMetrics
from cloud_node.models import ServedModel, ServedModels
from cloud_node.received import Received
from cloud_node.settings import CloudSettings
from cloud_node.tails import Tails
from cloud_node.tally import Answered, Tally
from cloud_node.waiting import Asked, TailAnswer
from spikebottlenet.accounting.energy import compute_uj
from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.bundle import Bundle
from spikebottlenet.errors import OverloadedError, SpikeBottleNetError
from spikebottlenet.logs import Often, Seldom, fields
from spikebottlenet.rpc.chances import CERTAIN
from spikebottlenet.rpc.limits import current_client
from spikebottlenet.rpc.status import code_number, retry_after_ms, status_code
from spikebottlenet.rpc.v1.coinference_pb2 import Failure, Prediction
from spikebottlenet.tracing import NO_TRACES, Tracer

log = logging.getLogger(__name__)


@dataclass
class CloudTotals:
    """Sums over one process's life; wire bytes are answered images' shares by the framing model."""

    images: int = 0
    refused: int = 0
    payload_bytes: int = 0
    message_bytes: int = 0
    wire_bytes_up: int = 0
    wire_bytes_down: int = 0
    cloud_compute_uj: float = 0.0


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
        self.totals = CloudTotals()
        self.metrics = CloudMetrics()
        self.tally = Tally()
        self._tracer = tracer

    @property
    def waiting(self) -> int:
        """Images that wait for a tail."""
        return self._worker.waiting

    def ask(
        self, model: ServedModel, asked: Sequence[Asked], *, stream: bytes = b""
    ) -> "list[asyncio.Future[TailAnswer]]":
        """Have a tail run on the timesteps that have come of each image, in the turn of client and
        stream.

        A future raises SpikeBottleNetError: why it did not.
        """
        sender = Sender(current_client().name, stream)
        return self._worker.ask(model.tail, asked, sender=sender, alone=self.under_way == 1)

    def prediction(
        self, model: ServedModel, received: Received, sequence: int, answer: TailAnswer
    ) -> Prediction:
        """What the tail said, as a message.

        Raises:
            SpikeBottleNetError: it said nothing.
        """
        self.tally.batched(answer.batch)
        if not answer.chances:
            raise SpikeBottleNetError(
                f"the tail of {model.bundle.model} gave no numbers: check the bundle"
            )
        if received.traceparent:  # of an edge that traces
            self._trace(received, answer)
        return Prediction(
            sequence=sequence,
            classes=answer.classes,
            chances=answer.chances,
            timesteps=received.timesteps,
            queue_us=answer.queue_us,
            tail_us=answer.tail_us,
            cloud_compute_uj=_tail_uj(model.bundle, received.timesteps),
        )

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
        received.asked = time.monotonic()
        try:
            (answer,) = self.ask(model, [Asked(received, deadline_s)], stream=stream)
            return self.prediction(model, received, sequence, await answer)
        finally:
            self.under_way -= 1

    def usual(self, model: ServedModel) -> Prediction:
        """What answers of all timesteps have in common."""
        timesteps = model.codec.shape.timesteps
        return Prediction(timesteps=timesteps, cloud_compute_uj=_tail_uj(model.bundle, timesteps))

    def _trace(self, received: Received, answer: TailAnswer) -> None:
        arrived = received.asked
        began = arrived + answer.queue_us / 1e6
        span = self._tracer.begin("cloud.infer", received.traceparent, arrived)
        span.part("queue", arrived, began)
        span.part("tail", began, began + answer.tail_us / 1e6)
        span.end(timesteps=received.timesteps, batch=answer.batch)

    def log_answer(
        self,
        bundle: Bundle,
        request_id: str,
        received: Received,
        prediction: Prediction,
        *,
        wire_bytes_down: int,
    ) -> None:
        """One line for an answered request, and its part of the totals."""
        totals = self.totals
        totals.images += 1
        totals.payload_bytes += received.payload_bytes
        totals.message_bytes += received.message_bytes
        totals.wire_bytes_up += received.wire_bytes
        totals.wire_bytes_down += wire_bytes_down
        totals.cloud_compute_uj += prediction.cloud_compute_uj
        self.metrics.answered(received, prediction, wire_bytes_down=wire_bytes_down)
        confidence = prediction.chances[0] / CERTAIN
        label = bundle.manifest.class_names[prediction.classes[0]]
        self.tally.answered(
            Answered(
                client=current_client().name,
                label=label,
                confidence=confidence,
                payload_bytes=received.payload_bytes,
                wire_bytes_up=received.wire_bytes,
                queue_us=prediction.queue_us,
                tail_us=prediction.tail_us,
            )
        )
        self._answered.say(
            request_id=request_id,
            label=label,
            confidence=round(confidence, 4),
            timesteps=prediction.timesteps,
            enough=prediction.enough,
            payload_bytes=received.payload_bytes,
            message_bytes=received.message_bytes,
            wire_bytes_up=received.wire_bytes,
            wire_bytes_down=wire_bytes_down,
            cloud_compute_uj=round(prediction.cloud_compute_uj, 3),
            queue_ms=prediction.queue_us / 1000,
            tail_ms=prediction.tail_us / 1000,
            model=bundle.model,
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


def _tail_uj(bundle: Bundle, timesteps: int) -> float:
    """Estimated energy of decoder and tail."""
    return compute_uj(bundle.manifest.operations.tail_macs[timesteps - 1], 0)
