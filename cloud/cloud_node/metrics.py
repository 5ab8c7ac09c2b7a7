"""What a cloud counts for Prometheus: the sums of its answers, and how it stands at a scrape."""

from collections.abc import Iterator

from cloud_node.models import ServedModels
from cloud_node.received import Received
from cloud_node.tail_worker import TailWorker
from spikebottlenet.metrics.families import (
    DURATION_BOUNDS,
    Counter,
    Family,
    Gauge,
    Histogram,
    ReadCounter,
    ReadHistogram,
    Reading,
)
from spikebottlenet.metrics.standing import MODEL_LABELS, model_readings
from spikebottlenet.rpc.v1.coinference_pb2 import Prediction

_US_PER_S = 1e6
_UJ_PER_J = 1e6
_BATCH_BOUNDS = (1, 2, 4, 8, 12, 16, 24, 32, 64, 128)
_ESTIMATED = "estimated"


class CloudMetrics:
    """Counts of one cloud-node; written by the event loop alone."""

    def __init__(self) -> None:
        requests = Counter(
            "spikebottlenet_cloud_requests", "Images by gRPC status code.", ("code",)
        )
        wait = Histogram(
            "spikebottlenet_cloud_queue_wait_seconds",
            "How long answered images waited for a tail.",
            DURATION_BOUNDS,
        )
        tail = Histogram(
            "spikebottlenet_cloud_tail_duration_seconds",
            "Duration of the batch that an answered image went through the tail in.",
            DURATION_BOUNDS,
        )
        early = Counter(
            "spikebottlenet_cloud_early_answers",
            "Images answered before all their timesteps had come.",
        )
        payload = Counter("spikebottlenet_cloud_payload_bytes", "Spike frames of answered images.")
        message = Counter("spikebottlenet_cloud_message_bytes", "Protobuf messages around them.")
        wire = Counter(
            "spikebottlenet_cloud_wire_bytes",
            "Answered images' share of the wire, by the framing model; up is to the cloud.",
            ("direction",),
        )
        energy = Counter(
            "spikebottlenet_cloud_energy_joules",
            "Energy of answered images by part: cloud_compute (decoder and tail).",
            ("part", "method"),
        )
        self.families: list[Family] = [
            *(requests, wait, tail, early, payload, message, wire, energy)
        ]
        self._requests = requests
        self._answered = requests.of("OK")
        self._wait, self._tail, self._early = wait.of(), tail.of(), early.of()
        self._payload, self._message = payload.of(), message.of()
        self._wire_up, self._wire_down = wire.of("up"), wire.of("down")
        self._compute = energy.of("cloud_compute", _ESTIMATED)

    def answered(self, received: Received, prediction: Prediction, *, wire_bytes_down: int) -> None:
        """Count one answered image."""
        self._answered.value += 1
        self._wait.observe(prediction.queue_us / _US_PER_S)
        self._tail.observe(prediction.tail_us / _US_PER_S)
        self._early.value += prediction.enough
        self._payload.value += received.payload_bytes
        self._message.value += received.message_bytes
        self._wire_up.value += received.wire_bytes
        self._wire_down.value += wire_bytes_down
        self._compute.value += prediction.cloud_compute_uj / _UJ_PER_J

    def refused(self, code: str) -> None:
        """Count one image that got no answer, by the name of its status code."""
        self._requests.of(code).value += 1


def cloud_families(models: ServedModels, worker: TailWorker) -> list[Family]:
    """What a cloud shows of how it stands."""

    def batches() -> Iterator[tuple[int, int]]:
        return iter(list(worker.batches.items()))  # the tails' threads add to them meanwhile

    return [
        Gauge(
            "spikebottlenet_cloud_model_info",
            "1 for each model served.",
            lambda: model_readings(model.bundle for model in models),
            MODEL_LABELS,
        ),
        ReadCounter(
            "spikebottlenet_cloud_inferences",
            "Images that went through a tail.",
            lambda: [Reading(sum(size * times for size, times in batches()))],
        ),
        ReadCounter(
            "spikebottlenet_cloud_executions",
            "Passes of a tail, each of one batch.",
            lambda: [Reading(sum(times for _, times in batches()))],
        ),
        ReadHistogram(
            "spikebottlenet_cloud_batch_size",
            "Images of each pass.",
            _BATCH_BOUNDS,
            lambda: dict(batches()),
        ),
        Gauge(
            "spikebottlenet_cloud_waiting_images",
            "Images that wait for a tail.",
            lambda: [Reading(worker.waiting)],
        ),
        ReadCounter(
            "spikebottlenet_cloud_drops",
            "Given up before they were computed, by reason: deadline.",
            lambda: [Reading(worker.expired, ("deadline",))],
            ("reason",),
        ),
    ]
