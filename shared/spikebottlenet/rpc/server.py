"""The one place that makes servers: options with reasons, health, reflection, error translation."""

import logging
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from spikebottlenet.errors import SpikeBottleNetError, UnavailableError
from spikebottlenet.rpc.access import Door
from spikebottlenet.rpc.backlog import limit_backlog
from spikebottlenet.rpc.channel import Options, connection_options
from spikebottlenet.rpc.health import Health
from spikebottlenet.rpc.limits import ServerLimits
from spikebottlenet.rpc.messages import write_all
from spikebottlenet.rpc.refusal import refuse
from spikebottlenet.rpc.security import ServerSecurity, check_address, server_credentials
from spikebottlenet.rpc.tokens import TokenFile

log = logging.getLogger(__name__)

_MIN_PING_INTERVAL_MS = 10_000
_OWN_FILES = 256  # descriptors that are not connections

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
            await refuse(context, error)

    return answer


def _translated_stream(behaviour: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            await write_all(behaviour(request, context), context)
        except SpikeBottleNetError as error:
            await refuse(context, error)

    return answer


def _server_options(max_message_bytes: int, limits: ServerLimits) -> Options:
    files = max(2 * _OWN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return [
        *connection_options(),
        ("grpc.max_receive_message_length", max_message_bytes),
        # An edge on a bad link may ping as often as our channels do, and no more.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        # One peer cannot hold every stream or fill memory with headers. Above the soft limit a call
        # may be refused at random, above the absolute one it is: both are the same, so that it is
        # known which.
        ("grpc.max_concurrent_streams", limits.max_streams),
        ("grpc.max_metadata_size", limits.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_metadata_bytes),
        # Connections that never speak go soon, those that say nothing more go later, and all of
        # them leave descriptors for files.
        ("grpc.server_handshake_timeout_ms", round(1e3 * limits.handshake_s)),
        ("grpc.max_connection_idle_ms", round(1e3 * limits.idle_s)),
        ("grpc.max_allowed_incoming_connections", min(limits.max_connections, files - _OWN_FILES)),
        # A port in use is an error, not two daemons that share it at random.
        ("grpc.so_reuseport", 0),
    ]


class Serving:
    """A server that runs: where, and its health."""

    def __init__(
        self,
        server: grpc.aio.Server,
        health: Health,
        names: list[str],
        port: int,
        door: Door,
    ):
        self.port = port
        self.healthy = False
        self.refused: Mapping[str, int] = door.refused  # calls, by status code
        self.clients = door.clients
        self._server = server
        self._health = health
        self._names = names

    async def set_healthy(self, healthy: bool) -> None:
        """Tell the health service's callers whether to send more."""
        self.healthy = healthy
        for name in ("", *self._names):
            self._health.set(name, healthy)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones end within ``grace_s``, then cut them."""
        await self._server.stop(grace_s)


@asynccontextmanager
async def running_server(
    address: str,
    collector: ServiceCollector,
    *,
    max_message_bytes: int,
    security: ServerSecurity = ServerSecurity(),  # noqa: B008, frozen
    limits: ServerLimits = ServerLimits(),  # noqa: B008, frozen
) -> AsyncIterator[Serving]:
    """Bind ``host:port`` (port 0 takes a free one), start, yield, and stop at once on exit.

    The server is not healthy until the caller says so.

    Raises:
        ConfigError: other machines could reach it and nothing guards it, or its certificates or
            tokens do not work.
        UnavailableError: the address cannot be bound.
    """
    check_address(address, security)
    credentials = server_credentials(security)
    tokens = None if security.tokens is None else TokenFile(security.tokens)
    door, options = Door(limits, tokens), _server_options(max_message_bytes, limits)
    server = grpc.aio.server(interceptors=[door], options=options)
    names = list(collector.services)
    health, standard = Health(), ServiceCollector()
    add_HealthServicer_to_server(health, standard)
    for name, handlers in (collector.services | standard.services).items():
        generic = grpc.method_handlers_generic_handler(name, dict(handlers))
        server.add_generic_rpc_handlers((generic,))
    shown = [*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
    reflection.enable_server_reflection([*shown, reflection.SERVICE_NAME], server)
    serving = Serving(server, health, names, _bind(server, address, credentials), door)
    if not limit_backlog(serving.port, limits.backlog):
        log.warning("new connections wait in a queue of the system's own length")
    await serving.set_healthy(False)
    await server.start()
    try:
        yield serving
    finally:
        await server.stop(None)


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise UnavailableError(
            f"cannot listen on {address}: the port is in use or the address is not this "
            "machine's; choose another with --listen"
        ) from error
