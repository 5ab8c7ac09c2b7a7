"""What the edge's web server shows; called, and imported for, at the first visit."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from edge_node.models import ServedModels
from edge_node.service import EdgeService
from edge_node.settings import EdgeSettings
from spikebottlenet.metrics.families import Family
from spikebottlenet.rpc.limits import Clients
from spikebottlenet.rpc.server import Serving

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


def web_routes(
    serving: Serving, families: Sequence[Family], refresh: Callable[[], Awaitable[None]]
) -> "Sequence[BaseRoute]":
    """Health and metrics."""
    from spikebottlenet.metrics.exposition import metrics_route
    from spikebottlenet.web.routes import health_route

    return [health_route(lambda: serving.healthy), metrics_route(families, refresh)]


def live_routes(
    service: EdgeService, models: ServedModels, settings: EdgeSettings, clients: Clients
) -> "Sequence[BaseRoute]":
    """The live page."""
    from edge_node.live import EdgePage

    return EdgePage(service, models, settings, clients).routes()
