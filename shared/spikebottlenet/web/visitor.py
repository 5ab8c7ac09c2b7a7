"""Connections to the web server: uvicorn's protocol, with places for all and time for each.

A connection takes its place before TLS, whose buffers are its largest part: strangers that say
nothing cost no more of them than visitors may.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import ExitStack

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from spikebottlenet.errors import OverloadedError
from spikebottlenet.rpc.access import address_name
from spikebottlenet.rpc.limits import Places, ServerLimits
from spikebottlenet.web.door import CERTIFICATE

_MAX_CONNECTIONS = 128  # of all visitors; one address may have as many as are free


class Reception:
    """What all connections of one web server share."""

    def __init__(self, config: Config, context: ssl.SSLContext | None, limits: ServerLimits):
        self.config = config
        self.context = context
        self.limits = limits
        self.state = ServerState()
        self.places = Places(_MAX_CONNECTIONS, "close some")
        self.handshakes: set[asyncio.Task[None]] = set()


class Arrival(asyncio.Protocol):
    """A connection until it may speak HTTP: it takes a place, then TLS where that is set."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._place = ExitStack()
        self._early: list[bytes] = []  # said before the visitor stands

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it, if there is room."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101, TCP's
        peer = transport.get_extra_info("peername")
        try:
            name = address_name(peer[0]) if peer else "unknown"
            self._place.enter_context(self._reception.places.taken(name))
        except OverloadedError:
            transport.abort()
            return
        # What a peer does not read is known as soon as the kernel takes no more of it.
        transport.set_write_buffer_limits(high=1, low=0)
        if self._reception.context is None:
            self._begin(transport)
            return
        transport.pause_reading()
        shaking = asyncio.get_running_loop().create_task(
            self._shake_hands(transport, self._reception.context)
        )
        self._reception.handshakes.add(shaking)
        shaking.add_done_callback(self._reception.handshakes.discard)

    def data_received(self, data: bytes) -> None:
        """Keep what came with the end of the handshake."""
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._place.close()

    async def _shake_hands(self, plain: asyncio.Transport, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            secure = await loop.start_tls(
                plain,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._reception.limits.handshake_s,
            )
        except OSError:  # of TLS or the connection: theirs to know
            secure = None
        except BaseException:
            self._place.close()
            raise
        if secure is None or secure.is_closing():
            self._place.close()
            return
        secure.set_write_buffer_limits(high=1, low=0)
        self._begin(secure)

    def _begin(self, transport: asyncio.Transport) -> None:
        visitor = Visitor(self._reception, _certificate(transport), self._place.close)
        transport.set_protocol(visitor)
        visitor.connection_made(transport)
        for data in self._early:
            visitor.data_received(data)


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

    def __init__(
        self, reception: Reception, certificate: str | None, leave: Callable[[], None]
    ) -> None:
        super().__init__(reception.config, reception.state, {CERTIFICATE: certificate})
        self._leave = leave
        self._asking = _Timer(reception.limits.silent_s, self._abort)
        self._unread = _Timer(reception.limits.silent_s, self._cut)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for its first request."""
        super().connection_made(transport)
        self._asking.start()

    def data_received(self, data: bytes) -> None:
        """Take some bytes; each request has its time from its first byte."""
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

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._asking.stop()
        self._unread.stop()
        self._leave()
        super().connection_lost(exc)

    def _abort(self) -> None:
        self.transport.abort()

    def _cut(self) -> None:
        """End it, and let the kernel forget what was not read."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
