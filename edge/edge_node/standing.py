"""How an edge stands at a scrape: what waits, the link to the cloud, the durable queue."""

import asyncio
import time
from collections.abc import Iterator

from edge_node.answering import Answering
from edge_node.head_worker import HeadWorker
from edge_node.models import ServedModels
from edge_node.queue_values import QueueCounts
from edge_node.store import Store
from spikebottlenet.errors import StoreError
from spikebottlenet.metrics.families import Family, Gauge, ReadCounter, Reading
from spikebottlenet.metrics.standing import MODEL_LABELS, model_readings

_QUEUE_WITHIN_S = 1.0  # a disk that is slower leaves the last counts standing
_EMPTY = QueueCounts(0, 0, 0, 0, {"full": 0, "age": 0}, mirrored=True)


class QueueStanding:
    """What the durable queue holds, as last read; says nothing of one that is open before that.

    Its counts go on over restarts, so that 0 for "not read yet" would look like a sudden rise.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: QueueCounts | None = None
        self._oldest_unix_s: float | None = None

    async def refresh(self) -> None:
        """Read it again, if it is open and its disk is not too slow."""
        queue = self._store.opened
        if queue is None:  # one that existed was opened at the start
            self._counts = self._counts or _EMPTY
            return
        try:
            async with asyncio.timeout(_QUEUE_WITHIN_S):
                counts = await queue.counts()
                oldest = await queue.waiting(after=0, limit=1)
        except (TimeoutError, StoreError):
            return
        self._counts = counts
        self._oldest_unix_s = oldest[0].stored_unix_ms / 1e3 if oldest else None

    @property
    def families(self) -> list[Family]:
        """What it shows."""
        return [
            Gauge(
                "spikebottlenet_edge_queue_requests",
                "Requests in the durable queue by state.",
                self._requests,
                ("state",),
            ),
            Gauge(
                "spikebottlenet_edge_queue_bytes",
                "Bytes of their spikes, of those that wait and dead ones.",
                lambda: [Reading(self._counts.kept_bytes)] if self._counts else [],
            ),
            Gauge(
                "spikebottlenet_edge_queue_oldest_age_seconds",
                "How long the first that waits has waited; 0 where none does.",
                lambda: [Reading(self._age_s())] if self._counts else [],
            ),
        ]

    def dropped(self) -> Iterator[Reading]:
        """Stored requests that the queue's own limits dropped, ever."""
        for why, count in self._counts.dropped.items() if self._counts else ():
            yield Reading(count, (f"queue_{why}",))

    def _requests(self) -> Iterator[Reading]:
        if self._counts is None:
            return
        yield Reading(self._counts.waiting, ("waiting",))
        yield Reading(self._counts.answered, ("answered",))
        yield Reading(self._counts.dead, ("dead",))

    def _age_s(self) -> float:
        return 0.0 if self._oldest_unix_s is None else max(0.0, time.time() - self._oldest_unix_s)


def edge_families(
    models: ServedModels, worker: HeadWorker, answering: Answering, queue: QueueStanding
) -> list[Family]:
    """What an edge shows of how it stands."""

    def drops() -> Iterator[Reading]:
        yield Reading(worker.expired, ("deadline",))
        yield Reading(answering.not_stored, ("not_stored",))
        yield from queue.dropped()

    return [
        Gauge(
            "spikebottlenet_edge_model_info",
            "1 for each model served.",
            lambda: model_readings(model.bundle for model in models),
            MODEL_LABELS,
        ),
        ReadCounter(
            "spikebottlenet_edge_inferences",
            "Images that the head has run.",
            lambda: [Reading(worker.inferences)],
        ),
        ReadCounter(
            "spikebottlenet_edge_executions",
            "Passes of the head; one an image.",
            lambda: [Reading(worker.inferences)],
        ),
        Gauge(
            "spikebottlenet_edge_waiting_images",
            "Images that wait for the head or are in it.",
            lambda: [Reading(worker.waiting)],
        ),
        Gauge(
            "spikebottlenet_edge_cloud_connected",
            "1 while the stream to the cloud is up, by model.",
            lambda: [Reading(model.link.is_up, (model.bundle.model,)) for model in models],
            ("model",),
        ),
        Gauge(
            "spikebottlenet_edge_cloud_pending_images",
            "Images that wait for the cloud's answer.",
            lambda: [Reading(sum(model.link.pending for model in models))],
        ),
        ReadCounter(
            "spikebottlenet_edge_drops",
            "Given up, by reason: deadline (before the head's turn), not_stored (the disk refused "
            "or was late), queue_full and queue_age (by the durable queue's limits, ever).",
            drops,
            ("reason",),
        ),
        *queue.families,
    ]
