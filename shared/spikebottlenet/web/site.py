"""The HTTP server itself: uvicorn's protocol on the daemon's event loop and socket.

uvicorn's own ``Server`` is not used: it takes the process's signals, and has no limit for those who
connect and say nothing.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from spikebottlenet.rpc.limits import ServerLimits
from spikebottlenet.web.door import Door
from spikebottlenet.web.ending import Ending
from spikebottlenet.web.guard import Guard
from spikebottlenet.web.visitor import Reception

_GOODBYE_S = 1.0  # for answers that are on their way at the end


class Site:
    """A web server from its first visitor on."""

    def __init__(self, reception: Reception, listener: socket.socket) -> None:
        self._reception = reception
        self._taking = asyncio.create_task(reception.take_in(listener))

    async def answered(self, within_s: float) -> None:
        """Return once all that was asked before is answered, or after ``within_s`` seconds."""
        if self._reception.state.tasks:
            await asyncio.wait(list(self._reception.state.tasks), timeout=within_s)

    async def close(self) -> None:
        """Take no more visitors, let answers that are on their way end, cut what is left."""
        self._taking.cancel()
        await asyncio.gather(self._taking, return_exceptions=True)
        state = self._reception.state
        for visitor in list(state.connections):
            visitor.shutdown()
        await self.answered(_GOODBYE_S)
        for visitor in list(state.connections):
            visitor.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


async def open_site(
    listener: socket.socket,
    routes: Sequence[BaseRoute],
    guard: Guard,
    limits: ServerLimits,
    ending: Ending,
) -> Site:
    """Answer visitors from now on; the listener is the site's once this returns."""
    app = Door(Starlette(routes=routes), guard, limits, ending)
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
    return Site(Reception(config, guard.context, limits), listener)
