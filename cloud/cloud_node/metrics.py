"""What a cloud counts for Prometheus: the sums of its answers, and how it stands at a scrape."""

from collections.abc import Iterator
from dataclasses import dataclass

from cloud_node.models import ServedModels
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

_US_PER_S = 1e6
_UJ_PER_J = 1e6
_BATCH_BOUNDS = (1, 2, 4, 8, 12, 16, 24, 32, 64, 128)
_ESTIMATED = "estimated"


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


class CloudMetrics:
    """Counts of one cloud-node beside its totals; written by the event loop alone."""

    def __init__(self, totals: CloudTotals) -> None:
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
        self.families: list[Family] = [requests, wait, tail, early, *_of_totals(totals)]
        self._requests = requests
        self._answered = requests.of("OK")
        self._wait, self._tail, self._early = wait.of(), tail.of(), early.of()

    def answered(self, queue_us: int, tail_us: int, *, enough: bool) -> None:
        """Count one answered image."""
        self._answered.value += 1
        self._wait.observe(queue_us / _US_PER_S)
        self._tail.observe(tail_us / _US_PER_S)
        self._early.value += enough

    def refused(self, code: str) -> None:
        """Count one image that got no answer, by the name of its status code."""
        self._requests.of(code).value += 1


def _of_totals(totals: CloudTotals) -> list[Family]:
    return [
        ReadCounter(
            "spikebottlenet_cloud_payload_bytes",
            "Spike frames of answered images.",
            lambda: [Reading(totals.payload_bytes)],
        ),
        ReadCounter(
            "spikebottlenet_cloud_message_bytes",
            "Protobuf messages around them.",
            lambda: [Reading(totals.message_bytes)],
        ),
        ReadCounter(
            "spikebottlenet_cloud_wire_bytes",
            "Answered images' share of the wire, by the framing model; up is to the cloud.",
            lambda: [
                Reading(totals.wire_bytes_up, ("up",)),
                Reading(totals.wire_bytes_down, ("down",)),
            ],
            ("direction",),
        ),
        ReadCounter(
            "spikebottlenet_cloud_energy_joules",
            "Energy of answered images by part: cloud_compute (decoder and tail).",
            lambda: [
                Reading(totals.cloud_compute_uj / _UJ_PER_J, ("cloud_compute", _ESTIMATED)),
            ],
            ("part", "method"),
        ),
    ]


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
