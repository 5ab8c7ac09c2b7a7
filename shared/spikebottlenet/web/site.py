"""The HTTP server itself: uvicorn's protocol on the daemon's event loop and socket.

uvicorn's own ``Server`` is not used: it takes the process's signals, and has no limit for those who
connect and say nothing.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import h11
from starlette.applications import Starlette
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from spikebottlenet.listening import ListeningSettings
from spikebottlenet.rpc.security import is_loopback
from spikebottlenet.rpc.tokens import TokenFile
from spikebottlenet.web.door import Door
from spikebottlenet.web.server import Routes
from spikebottlenet.web.tls import server_context

_MAX_CONNECTIONS = 128  # of all visitors
_GOODBYE_S = 1.0  # for answers that are on their way at the end


async def serve(listener: socket.socket, settings: ListeningSettings, routes: Routes) -> None:
    """Answer visitors until cancelled.

    Raises:
        ConfigError: certificates or tokens do not work.
    """
    security, limits = settings.server_security(), settings.server_limits()
    app = Door(
        Starlette(routes=await asyncio.to_thread(routes)),
        tokens=None if security.tokens is None else TokenFile(security.tokens),
        only_here=is_loopback(settings.web_listen),
    )
    config = Config(
        cast("Callable[..., Any]", app),
        http=H11Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        h11_max_incomplete_event_size=limits.max_metadata_bytes,
    )
    config.load()
    context = server_context(security)
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Visitor(config, state, silent_s=limits.silent_s),
        sock=listener,
        backlog=limits.backlog,
        ssl=context,
        ssl_handshake_timeout=None if context is None else limits.handshake_s,
    )
    try:
        await server.serve_forever()
    finally:
        server.close()
        await _say_goodbye(state)


async def _say_goodbye(state: ServerState) -> None:
    """Let answers that are on their way end, then cut what is left."""
    for visitor in list(state.connections):
        visitor.shutdown()
    if state.tasks:
        await asyncio.wait(list(state.tasks), timeout=_GOODBYE_S)
    for task in list(state.tasks):
        task.cancel()
    await asyncio.gather(*state.tasks, return_exceptions=True)
    for visitor in list(state.connections):
        visitor.transport.abort()


class Visitor(H11Protocol):
    """One connection; ended if a request does not come whole in time, or too many are open."""

    def __init__(self, config: Config, state: ServerState, *, silent_s: float) -> None:
        super().__init__(config, state, {})
        self._silent_s = silent_s
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, if there is room."""
        super().connection_made(transport)
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.abort()
        else:
            self._end = self.loop.call_later(self._silent_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take some bytes; each request has its time from its first byte."""
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._be_patient()
        elif self._end is None:
            self._end = self.loop.call_later(self._silent_s, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._be_patient()
        super().connection_lost(exc)

    def _be_patient(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
