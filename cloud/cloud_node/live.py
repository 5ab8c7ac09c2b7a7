"""The cloud's live page: who is connected, how full the batches are, what was answered of late."""

from collections.abc import Sequence
from dataclasses import asdict

from starlette.routing import BaseRoute, Route

from cloud_node.inference import CloudInference
from cloud_node.service import CloudService
from spikebottlenet import __version__
from spikebottlenet.web.pages.assets import page_routes
from spikebottlenet.web.pages.feed import Feed


class CloudPage:
    """The page's data, from the service that answers every edge."""

    def __init__(self, service: CloudService, inference: CloudInference) -> None:
        self._service = service
        self._inference = inference
        self._feed = Feed(self.snapshot)

    def routes(self) -> Sequence[BaseRoute]:
        """The page, its files and its data."""
        return [*page_routes("cloud.html"), Route("/api/live", self._feed.endpoint)]

    def snapshot(self) -> dict[str, object]:
        """What a viewer is told."""
        inference, tally = self._inference, self._inference.tally
        return {
            "version": __version__,
            "models": [model.bundle.model for model in inference.models],
            "device": inference.settings.device,
            "max_waiting": inference.settings.max_waiting,
            "waiting": inference.waiting,
            "totals": asdict(inference.totals),
            "batches": sorted(tally.batches.items()),
            "per_second": tally.per_second(),
            "edges": self._edges(),
            "answers": [
                {
                    "label": answer.label,
                    "confidence": round(answer.confidence, 4),
                    "payload_bytes": answer.payload_bytes,
                    "queue_ms": answer.queue_us / 1e3,
                    "tail_ms": answer.tail_us / 1e3,
                    "age_s": round(tally.age_s(when)),
                }
                for when, answer in reversed(tally.recent)
            ],
        }

    def _edges(self) -> list[dict[str, object]]:
        """Those with a stream first, then those that were here."""
        tally, streams = self._inference.tally, self._service.streams
        names = [*streams, *(name for name in reversed(tally.clients) if name not in streams)]
        edges: list[dict[str, object]] = []
        for name in names:
            sums = tally.clients.get(name)
            edges.append(
                {
                    "client": name,
                    "streams": streams[name],
                    "images": sums.images if sums else 0,
                    "wire_bytes_up": sums.wire_bytes_up if sums else 0,
                    "quiet_s": round(tally.age_s(sums.last)) if sums else None,
                }
            )
        return edges
