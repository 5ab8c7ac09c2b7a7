"""Routes that every daemon has: ``/metrics`` and ``/healthz``."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


def health_route(healthy: Callable[[], bool]) -> Route:
    """``/healthz``: 200 while the daemon takes requests, 503 before and after, as gRPC's health."""

    async def health(_: Request) -> PlainTextResponse:
        if healthy():
            return PlainTextResponse("SERVING\n")
        return PlainTextResponse("NOT_SERVING\n", status_code=503)

    return Route("/healthz", health)
