"""The edge's live page: what an image became and cost, and what this daemon does all along.

``POST /api/classify`` takes an image as ``EdgeInference.Classify`` does, with the same limits,
accounting and log line, and answers with its record and what the page draws of it.
``GET /api/live`` tells of all requests, by their numbers only: nobody is shown another's image or
label.
"""

import asyncio
import base64
import io
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from edge_node.answering import Answered
from edge_node.models import ServedModels
from edge_node.service import EdgeService
from edge_node.settings import EdgeSettings
from spikebottlenet import __version__
from spikebottlenet.accounting.record import InferenceRecord, Source
from spikebottlenet.errors import SpikeBottleNetError
from spikebottlenet.model.layers import SIGNS
from spikebottlenet.preprocess import Pixels
from spikebottlenet.rpc.limits import Clients, Places
from spikebottlenet.rpc.v1.edge_pb2 import ClassifyRequest
from spikebottlenet.runtime.scores import best_classes
from spikebottlenet.web.door import CLIENT
from spikebottlenet.web.pages.assets import page_routes
from spikebottlenet.web.pages.feed import Feed
from spikebottlenet.web.pages.refusal import refusal
from spikebottlenet.web.pages.upload import read_body

_MAX_UPLOADS = 8  # images that pages send at a time
_JPEG_QUALITY = 75
_RGB = 3  # samples of a site of an image; event frames have an even number


class EdgePage:
    """The page's data, from the service that answers everyone."""

    def __init__(
        self,
        service: EdgeService,
        models: ServedModels,
        settings: EdgeSettings,
        clients: Clients,  # gRPC's: who comes both ways is one
    ) -> None:
        self._service = service
        self._models = models
        self._settings = settings
        self._clients = clients
        self._uploads = Places(_MAX_UPLOADS, "wait until one is answered")
        self._feed = Feed(self.snapshot)

    def routes(self) -> Sequence[BaseRoute]:
        """The page, its files and its data."""
        return [
            *page_routes("edge.html"),
            Route("/api/live", self._feed.endpoint),
            Route("/api/classify", self.classify, methods=["POST"]),
        ]

    async def classify(self, request: Request) -> Response:
        """``POST`` an image file: its record, its spikes, how the answer formed, other sizes."""
        arrived = time.monotonic()
        name = str(request.scope.get(CLIENT, "page"))
        client = self._clients.get(name)
        try:
            with client.call(), self._uploads.taken(name), client.request():
                image = await read_body(
                    request,
                    max_bytes=self._settings.max_image_bytes,
                    within_s=self._settings.silent_s,
                )
                wanted = ClassifyRequest(image=image, model=request.query_params.get("model", ""))
                answered = await self._service.classify(wanted, arrived, None)
                return JSONResponse(await asyncio.to_thread(view, answered))
        except SpikeBottleNetError as error:
            return refusal(error)

    def snapshot(self) -> dict[str, object]:
        """What a viewer is told: the link, totals, and the requests of late by their numbers."""
        first = self._models.first
        shape = first.bundle.manifest.architecture.spike_shape
        return {
            "version": __version__,
            "models": [
                {"name": model.bundle.model, "fingerprint": model.bundle.fingerprint}
                for model in self._models
            ],
            "shape": list(shape),
            "cloud": self._settings.cloud,
            "radio": self._settings.radio.value,
            "max_image_bytes": self._settings.max_image_bytes,
            "link": {"state": first.link.standing, "reason": first.link.why_down},
            "totals": asdict(self._service.totals) | {"refused": self._service.refused},
            "recent": [_numbers(record) for record in self._service.recent],
        }


def view(answered: Answered) -> dict[str, object]:
    """One answered image as the page draws it; the record unchanged."""
    spikes = answered.encoded.spikes[:, 0]
    pixels = answered.encoded.pixels
    return {
        "record": answered.reply.record().as_json(),
        "cloud_missing": answered.cloud_missing,
        "spikes": {"shape": list(spikes.shape), "bits": _base64(np.packbits(spikes).tobytes())},
        "seen": {"side": len(pixels), "rgb": _base64(in_colour(pixels).tobytes())},
        "forming": [_exit_after(answered, count) for count in range(1, len(spikes) + 1)],
        "sizes": compressed_sizes(pixels),
    }


def in_colour(pixels: Pixels) -> Pixels:
    """The head's input to look at, [side, side, 3]; of events, red is brighter, blue darker."""
    if pixels.shape[-1] == _RGB:
        return pixels
    counts = pixels.reshape(*pixels.shape[:2], -1, SIGNS).sum(axis=2, dtype=np.float64)
    shades = (255 * counts / max(1.0, float(counts.max()))).astype(np.uint8)
    return np.stack([shades[..., 1], np.zeros_like(shades[..., 0]), shades[..., 0]], axis=-1)


def compressed_sizes(pixels: Pixels) -> dict[str, int]:
    """Bytes of the head's own input [side, side, samples], sent as an image and not as spikes.

    Event frames are sent as one grey image, beside one another.
    """
    beside = pixels.transpose(0, 2, 1).reshape(len(pixels), -1)
    image = Image.fromarray(pixels if pixels.shape[-1] == _RGB else beside)
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG", optimize=True)
    image.save(jpeg, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return {"raw": pixels.nbytes, "png": png.tell(), "jpeg_q75": jpeg.tell()}


def _exit_after(answered: Answered, timesteps: int) -> dict[str, object]:
    """What the edge exit makes of the first timesteps."""
    names = answered.model.bundle.manifest.class_names
    found = answered.model.head.exit_probabilities(answered.encoded, timesteps=timesteps)
    top5 = [
        {"label": names[score.class_index], "probability": score.probability}
        for score in best_classes(found)
    ]
    return {"timesteps": timesteps, "source": Source.EDGE_EXIT, "top5": top5}


def _numbers(record: InferenceRecord) -> dict[str, Any]:
    return {
        "source": record.source,
        "total_ms": round(record.latency_ms.total, 2),
        "wire_bytes_up": record.wire_bytes_up,
        "firing_rate": round(record.firing_rate, 4),
        "edge_compute_uj": round(record.edge_compute_uj, 2),
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
