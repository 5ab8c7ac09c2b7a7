"""A daemon's small HTTP server, in its own event loop beside gRPC: metrics, health, live pages.

The port is bound at the start; starlette and uvicorn are imported when somebody connects, so that a
daemon that nobody looks at pays neither their time nor their memory.
"""

import asyncio
import importlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from spikebottlenet.errors import ConfigError, UnavailableError
from spikebottlenet.listening import ListeningSettings
from spikebottlenet.logs import fields
from spikebottlenet.rpc.security import ServerSecurity, check_address, is_loopback
from spikebottlenet.rpc.tokens import TokenFile
from spikebottlenet.web.ending import Ending
from spikebottlenet.web.guard import Guard
from spikebottlenet.web.tls import server_context

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from spikebottlenet.web.site import Site

log = logging.getLogger(__name__)

Refused = Mapping[int, int]  # requests that were refused, by HTTP status
Routes = Callable[[Refused], "Sequence[BaseRoute]"]  # at the first visit; may import what it needs

_SITE = "spikebottlenet.web.site"
_AGAIN_S = 1.0  # between two tries to open the site


class Web:
    """A web server that runs, or waits for its first visitor."""

    def __init__(self, url: str) -> None:
        self.url = url  # '' if not served
        self.ending = Ending()
        self.site: Site | None = None

    async def drain(self, within_s: float) -> None:
        """End what pages watch, let requests that were taken be answered."""
        self.ending.begin()
        if self.site is not None:
            await self.site.answered(within_s)


@asynccontextmanager
async def running_web(settings: ListeningSettings, routes: Routes) -> AsyncIterator[Web]:
    """Serve ``routes`` on ``web_listen`` until the block ends.

    Guarded as gRPC is. An address in use is an error where it was chosen; of the default it is
    logged, and the daemon serves without pages.

    Raises:
        ConfigError: other machines could reach it and nothing guards it, or its certificates or
            tokens do not work.
        UnavailableError: it was chosen and cannot be bound.
    """
    address, security = settings.web_listen, settings.server_security()
    if not address:
        yield Web("")
        return
    check_address(address, security)
    guard = Guard(
        tokens=None if security.tokens is None else TokenFile(security.tokens),
        context=server_context(security),
        only_here=is_loopback(address),
    )
    try:
        listener = _bind(address, settings.backlog)
    except OSError as error:
        problem = f"cannot serve web pages on {address}: {error.strerror or error}"
        if address != type(settings).model_fields["web_listen"].default:
            raise UnavailableError(f"{problem}; choose another with --web-listen") from error
        log.warning("web pages not served", extra=fields(reason=problem))
        yield Web("")
        return
    web = Web(_url(address, listener, security))
    opening = asyncio.create_task(_open(web, listener, guard, settings, routes))
    try:
        yield web
    finally:
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        web.ending.begin()
        if web.site is not None:
            await web.site.close()
        listener.close()


async def _open(
    web: Web,
    listener: socket.socket,
    guard: Guard,
    settings: ListeningSettings,
    routes: Routes,
) -> None:
    """Wait for the first visitor, then import the site; if it fails, for the next one."""
    while web.site is None:
        await _readable(listener)
        try:
            module: Any = await asyncio.to_thread(importlib.import_module, _SITE)
            found = await asyncio.to_thread(routes, guard.refused)
            limits = settings.server_limits()
            web.site = await module.open_site(listener, found, guard, limits, web.ending)
        except Exception:  # the pages are lost for now, the daemon is not
            log.exception("web pages failed: the next visit tries again")
            _turn_away(listener)
            await asyncio.sleep(_AGAIN_S)


def _turn_away(listener: socket.socket) -> None:
    """Close the connections that wait to be taken, so that nobody waits for nothing."""
    try:
        while True:
            listener.accept()[0].close()
    except OSError:  # there is no more
        return


async def _readable(listener: socket.socket) -> None:
    """Return once a connection waits to be taken."""
    loop = asyncio.get_running_loop()
    knocked = asyncio.Event()
    loop.add_reader(listener, knocked.set)
    try:
        await knocked.wait()
    finally:
        loop.remove_reader(listener)


def _bind(address: str, backlog: int) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise ConfigError(f"web_listen is {address!r}, wanted host:port, such as 127.0.0.1:8080")
    family, *_, found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    both = family == socket.AF_INET6 and found[0] == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server(found[:2], family=family, backlog=backlog, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener


def _url(address: str, listener: socket.socket, security: ServerSecurity) -> str:
    scheme = "http" if security.cert is None else "https"
    return f"{scheme}://{address.rpartition(':')[0]}:{listener.getsockname()[1]}"
