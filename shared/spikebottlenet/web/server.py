"""A daemon's small HTTP server, in its own event loop beside gRPC: metrics, health, live pages.

The port is bound at the start; starlette and uvicorn are imported when somebody connects, so that a
daemon that nobody looks at pays neither their time nor their memory.
"""

import asyncio
import importlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from spikebottlenet.errors import ConfigError, UnavailableError
from spikebottlenet.listening import ListeningSettings
from spikebottlenet.logs import fields
from spikebottlenet.rpc.security import ServerSecurity, check_address

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

log = logging.getLogger(__name__)

Routes = Callable[[], "Sequence[BaseRoute]"]  # called at the first visit; may import what it needs

_SITE = "spikebottlenet.web.site"


@asynccontextmanager
async def running_web(settings: ListeningSettings, routes: Routes) -> AsyncIterator[str]:
    """Serve ``routes`` on ``web_listen`` until the block ends; yields the URL, '' if not served.

    Guarded as gRPC is. An address in use is an error where it was chosen; of the default it is
    logged, and the daemon serves without pages.

    Raises:
        ConfigError: other machines could reach it and nothing guards it.
        UnavailableError: it was chosen and cannot be bound.
    """
    address, security = settings.web_listen, settings.server_security()
    if not address:
        yield ""
        return
    check_address(address, security)
    try:
        listener = _bind(address, settings.backlog)
    except OSError as error:
        problem = f"cannot serve web pages on {address}: {error.strerror or error}"
        if address != type(settings).model_fields["web_listen"].default:
            raise UnavailableError(f"{problem}; choose another with --web-listen") from error
        log.warning("web pages not served", extra=fields(reason=problem))
        yield ""
        return
    serving = asyncio.create_task(_serve(listener, settings, routes))
    try:
        yield _url(address, listener, security)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()


async def _serve(listener: socket.socket, settings: ListeningSettings, routes: Routes) -> None:
    """Wait for the first visitor, then import the site and be one."""
    try:
        await _readable(listener)
        site = await asyncio.to_thread(importlib.import_module, _SITE)
        await site.serve(listener, settings, routes)
    except Exception:  # the pages are lost, the daemon is not
        log.exception("web pages failed")


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
