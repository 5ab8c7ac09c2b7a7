"""The one place that makes servers: options with reasons, health, reflection, error translation."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]
from grpc_reflection.v1alpha import reflection

from spikebottlenet.errors import SpikeBottleNetError, UnavailableError
from spikebottlenet.rpc.channel import Options, connection_options
from spikebottlenet.rpc.status import status_code

_MIN_PING_INTERVAL_MS = 10_000
_MAX_STREAMS = 256
_MAX_METADATA_BYTES = 8 * 1024

Handlers = Mapping[str, grpc.RpcMethodHandler]


class ServiceCollector:
    """Takes what generated ``add_..._to_server`` functions would put into a server.

    Each method then reads a message that is no protobuf as ``None``, so that foreign bytes are the
    service's to refuse and not a traceback in the transport; and each error raised on purpose
    becomes its status code.
    """

    def __init__(self) -> None:
        self.services: dict[str, Handlers] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Ignored: the same methods come by name."""

    def add_registered_method_handlers(self, service: str, handlers: Handlers) -> None:
        """Keep the methods of a service."""
        self.services[service] = {name: _guarded(method) for name, method in handlers.items()}


def _guarded(method: Any) -> grpc.RpcMethodHandler:
    changes: dict[str, object] = {"request_deserializer": _lenient(method.request_deserializer)}
    if method.unary_unary:
        changes["unary_unary"] = _translated_unary(method.unary_unary)
    elif method.unary_stream:
        changes["unary_stream"] = _translated_stream(method.unary_stream)
    else:
        changes["stream_stream"] = _translated_stream(method.stream_stream)
    guarded: grpc.RpcMethodHandler = method._replace(**changes)
    return guarded


def _lenient(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return None

    return read


def _translated_unary(behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Callable[..., Any]:
    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(request, context)
        except SpikeBottleNetError as error:
            await context.abort(status_code(error), str(error))

    return answer


def _translated_stream(behaviour: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[..., Any]:
    async def answer(
        request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        try:
            async for message in behaviour(request, context):
                yield message
        except SpikeBottleNetError as error:
            await context.abort(status_code(error), str(error))

    return answer


def _server_options(max_message_bytes: int) -> Options:
    return [
        *connection_options(),
        ("grpc.max_receive_message_length", max_message_bytes),
        # An edge on a bad link may ping as often as our channels do, and no more.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        # One peer cannot hold every stream or fill memory with headers.
        ("grpc.max_concurrent_streams", _MAX_STREAMS),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        # A port in use is an error, not two daemons that share it at random.
        ("grpc.so_reuseport", 0),
    ]


class Serving:
    """A server that runs: where, and its health."""

    def __init__(
        self,
        server: grpc.aio.Server,
        health: health_aio.HealthServicer,
        names: list[str],
        port: int,
    ):
        self.port = port
        self._server = server
        self._health = health
        self._names = names

    async def set_healthy(self, healthy: bool) -> None:
        """Tell the health service's callers whether to send more."""
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if healthy else states.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, state)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones end within ``grace_s``, then cut them."""
        await self._server.stop(grace_s)


@asynccontextmanager
async def running_server(
    address: str, collector: ServiceCollector, *, max_message_bytes: int
) -> AsyncIterator[Serving]:
    """Bind ``host:port`` (port 0 takes a free one), start, yield, and stop at once on exit.

    The server is not healthy until the caller says so.

    Raises:
        UnavailableError: the address cannot be bound.
    """
    server = grpc.aio.server(options=_server_options(max_message_bytes))
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = list(collector.services)
    for name, handlers in collector.services.items():
        generic = grpc.method_handlers_generic_handler(name, dict(handlers))
        server.add_generic_rpc_handlers((generic,))
    shown = [*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
    reflection.enable_server_reflection([*shown, reflection.SERVICE_NAME], server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise UnavailableError(
            f"cannot listen on {address}: the port is in use or the address is not this "
            "machine's; choose another with --listen"
        ) from error
    serving = Serving(server, health, names, port)
    await serving.set_healthy(False)
    await server.start()
    try:
        yield serving
    finally:
        await server.stop(None)
