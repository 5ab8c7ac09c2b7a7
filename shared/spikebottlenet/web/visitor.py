"""Connections to the web server: uvicorn's protocol, with places for all and time for each.

A connection takes its place before TLS, whose buffers are its largest part: strangers that say
nothing cost no more of them than visitors may.
"""

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from spikebottlenet.errors import OverloadedError
from spikebottlenet.logs import fields
from spikebottlenet.rpc.access import address_name
from spikebottlenet.rpc.limits import Places, ServerLimits
from spikebottlenet.web.door import CERTIFICATE

log = logging.getLogger(__name__)

_MAX_CONNECTIONS = 128  # of all visitors; one address may have as many as are free
_AGAIN_S = 1.0  # until connections are taken again, where one could not be


class Reception:
    """Takes visitors in, each as soon as there is a place: what all of one web server share."""

    def __init__(self, config: Config, context: ssl.SSLContext | None, limits: ServerLimits):
        self.config = config
        self.limits = limits
        self.state = ServerState()
        self._tls: dict[str, Any] = {}
        if context is not None:  # an answer that is read may take its time beyond the end
            self._tls = {
                "ssl": context,
                "ssl_handshake_timeout": limits.handshake_s,
                "ssl_shutdown_timeout": limits.silent_s,
            }
        self._places = Places(_MAX_CONNECTIONS, "close some")

    async def take_in(self, listener: socket.socket) -> None:
        """Take connections until this is cancelled; visitors that speak by then go on."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as arriving:
            while True:
                try:
                    connection, address = await loop.sock_accept(listener)
                except ConnectionError:  # gone again
                    continue
                except Exception as error:  # no descriptor to be had now, and the like
                    log.warning("visitors wait", extra=fields(reason=str(error)))
                    await asyncio.sleep(_AGAIN_S)
                    continue
                arriving.create_task(self._arrive(connection, address[0]))
                await asyncio.sleep(0)  # others have their turns, however many come

    async def _arrive(self, connection: socket.socket, address: str) -> None:
        """Have a connection take a place, then TLS where that is set, and speak HTTP."""
        place = ExitStack()
        try:
            place.enter_context(self._places.taken(address_name(address)))
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Visitor(self, place.close), connection, **self._tls
            )
        except OverloadedError:
            connection.close()
        except OSError:  # of TLS or the connection: theirs to know
            place.close()
        except Exception:  # a mistake of ours costs this visitor a page, and no other anything
            place.close()
            log.exception("a visitor was not taken in")
        except BaseException:
            place.close()
            raise


def _certificate(transport: asyncio.Transport) -> str | None:
    """The common name of a client's certificate, None without one."""
    shown = transport.get_extra_info("peercert") or {}
    for part in shown.get("subject", ()):
        for key, name in part:
            if key == "commonName":
                return str(name)
    return None


class _Timer:
    """Calls ``act`` after ``after_s`` seconds, unless stopped."""

    def __init__(self, after_s: float, act: Callable[[], None]) -> None:
        self._after_s = after_s
        self._act = act
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to wait; no more than goes on waiting where it has begun."""
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(self._after_s, self._act)

    def stop(self) -> None:
        """Wait no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Visitor(H11Protocol):
    """One connection; ended if a request does not come whole in time, or an answer is not read."""

    def __init__(self, reception: Reception, leave: Callable[[], None]) -> None:
        super().__init__(reception.config, reception.state, {})
        self._leave = leave
        self._asking = _Timer(reception.limits.silent_s, self._abort)
        self._unread = _Timer(reception.limits.silent_s, self._cut)
        self._ended = _Timer(reception.limits.silent_s, self._cut)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for its first request."""
        self.app_state[CERTIFICATE] = _certificate(transport)
        super().connection_made(transport)
        # What a peer does not read is known as soon as the kernel takes no more of it.
        transport.set_write_buffer_limits(high=1, low=0)
        self._asking.start()

    def data_received(self, data: bytes) -> None:
        """Take some bytes; each request has its time from its first byte."""
        self._ended.stop()
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._asking.stop()
        else:
            self._asking.start()

    def pause_writing(self) -> None:
        """Give the peer a time to read what it asked for."""
        super().pause_writing()
        self._unread.start()

    def resume_writing(self) -> None:
        """It did."""
        self._unread.stop()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Give the peer a time for the whole answer: under TLS nothing tells who reads none."""
        super().on_response_complete()
        if self.cycle.response_complete:  # and no request has come right behind
            self._ended.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        for timer in (self._asking, self._unread, self._ended):
            timer.stop()
        self._leave()
        super().connection_lost(exc)

    def _abort(self) -> None:
        self.transport.abort()

    def _cut(self) -> None:
        """End it, and let the kernel forget what was not read."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
