"""What the cloud's web server shows; called, and imported for, at the first visit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cloud_node.inference import CloudInference
from cloud_node.service import CloudService
from spikebottlenet.metrics.families import Family
from spikebottlenet.rpc.server import Serving

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


def web_routes(serving: Serving, families: Sequence[Family]) -> "Sequence[BaseRoute]":
    """Health and metrics."""
    from spikebottlenet.metrics.exposition import metrics_route
    from spikebottlenet.web.routes import health_route

    return [health_route(lambda: serving.healthy), metrics_route(families)]


def live_routes(service: CloudService, inference: CloudInference) -> "Sequence[BaseRoute]":
    """The live page."""
    from cloud_node.live import CloudPage

    return CloudPage(service, inference).routes()
