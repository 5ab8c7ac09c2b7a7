"""The standard health service, with nothing a stranger could hold up.

(grpcio-health-checking writes to a watcher under the lock that a change of health needs: a watcher
that reads nothing would keep the daemon from saying that it stops.)
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

from spikebottlenet.errors import RequestError

Context = grpc.aio.ServicerContext[Any, Any]
States = HealthCheckResponse


class Health(HealthServicer):
    """State of each service; ``""`` is the whole server."""

    def __init__(self) -> None:
        self._healthy: dict[str, bool] = {}
        self._changed = asyncio.Event()

    def set(self, name: str, healthy: bool) -> None:
        """Change a service's state and tell who watches."""
        self._healthy[name] = healthy
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(
        self, request: HealthCheckRequest | None, context: Context
    ) -> HealthCheckResponse:
        """Say a service's state now."""
        name = _service(request)
        if name not in self._healthy:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service here")
        return HealthCheckResponse(status=self._state(name))

    async def Watch(
        self, request: HealthCheckRequest | None, context: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        """Say a service's state now and each time it changes."""
        name, said = _service(request), None
        while True:
            changed, state = self._changed, self._state(name)
            if state != said:
                said = state
                yield HealthCheckResponse(status=state)
            else:
                await changed.wait()

    def _state(self, name: str) -> "States.ServingStatus":
        healthy = self._healthy.get(name)
        if healthy is None:
            return States.SERVICE_UNKNOWN
        return States.SERVING if healthy else States.NOT_SERVING


def _service(request: HealthCheckRequest | None) -> str:
    if request is None:
        raise RequestError("message is not a HealthCheckRequest: check the client")
    return str(request.service)
