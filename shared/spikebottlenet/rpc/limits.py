"""How much the peers of a server may take: together, and each.

A client's requests empty a token bucket of ``burst`` one by one; it fills at ``rate`` a second.
What all share, each may hold as many places of as are still free (dynamic thresholds: Choudhury and
Hahne, IEEE/ACM Transactions on Networking 6, 1998): ``k`` greedy clients hold ``k/(k+1)`` of them
and one more finds room. The table of clients is bounded: the one longest without a call goes first.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from spikebottlenet.errors import OverloadedError

MAX_CLIENTS = 4096  # remembered; more only while each has a call open
_LONGEST_TURN_S = 2.0  # of a stream that begins: an edge gives up after five
PLACE_FREE_AFTER_S = 0.1  # a guess: how long until a request in flight is answered

Clock = Callable[[], float]  # seconds, never back


@dataclass(frozen=True)
class ServerLimits:
    """Limits of one server; in ``rate``, ``burst`` and ``client_in_flight`` 0 is none."""

    rate: float = 0.0  # requests of one client, a second
    burst: int = 0  # requests of one client at once; 0: a second's worth
    client_in_flight: int = 0  # requests of one client not yet answered
    client_calls: int = 2048  # calls of one client open
    max_calls: int = 4096  # calls open; one client may have as many as are free
    max_unary: int = 256  # of them with one request message, held in memory; alike
    silent_s: float = 60.0  # until a call's first message
    stream_rate: float = 100.0  # streams of one client that begin, a second; others wait
    stream_burst: int = 32  # streams of one client that begin at once
    max_connections: int = 16384
    backlog: int = 128  # connections that wait to be taken; more come again after a second
    max_streams: int = 256  # calls of one connection
    handshake_s: float = 10.0  # until TLS and HTTP/2 stand
    idle_s: float = 300.0  # connection without a call
    max_metadata_bytes: int = 8192  # headers of one call


class TokenBucket:
    """``burst`` requests at once, ``rate`` a second in the long run."""

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        self._rate = rate
        self._size = float(burst or max(1.0, rate))
        self._level = self._size
        self._clock = clock
        self._at = clock()

    def take(self) -> float:
        """Take one; 0, or the seconds until there is one again and nothing taken."""
        now = self._clock()
        self._level = min(self._size, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._level >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) / self._rate

    def take_later(self, longest_s: float) -> float:
        """Take one even if there is none yet; the seconds until there is.

        Above ``longest_s`` none is taken.
        """
        wait_s = self.take()
        if 0 < wait_s <= longest_s:
            self._level -= 1
        return wait_s

    def give_back(self) -> None:
        """Undo one that was taken."""
        self._level = min(self._size, self._level + 1)


class Client:
    """One caller of a server: what it has open, and what it may still ask."""

    def __init__(self, name: str, limits: ServerLimits, clock: Clock = time.monotonic) -> None:
        self.name = name
        self.calls = 0
        self.in_flight = 0
        self._limits = limits
        self._bucket = TokenBucket(limits.rate, limits.burst, clock) if limits.rate else None
        self._streams = TokenBucket(limits.stream_rate, limits.stream_burst, clock)

    async def stream_turn(self) -> None:
        """Wait until one more stream may begin, so that many at once hold up nobody else.

        Raises:
            OverloadedError: too many wait already; says when to come again.
        """
        wait_s = self._streams.take_later(_LONGEST_TURN_S)
        if wait_s > _LONGEST_TURN_S:
            raise OverloadedError(
                f"{self.name} opens more than {self._limits.stream_rate:g} streams a second: open "
                f"it again in {wait_s:.1f} s, or raise stream_rate",
                retry_after_s=wait_s,
            )
        if wait_s > 0:
            try:
                await asyncio.sleep(wait_s)
            except asyncio.CancelledError:
                self._streams.give_back()  # whoever comes after does not wait for it
                raise

    def charge(self) -> None:
        """Count one request against the rate.

        Raises:
            OverloadedError: above the rate; says when to send it again.
        """
        wait_s = self._bucket.take() if self._bucket else 0.0
        if wait_s > 0:
            raise OverloadedError(
                f"{self.name} is above {self._limits.rate:g} requests a second: send it again in "
                f"{wait_s:.3f} s, or raise rate or burst",
                retry_after_s=wait_s,
            )

    def begin_request(self) -> None:
        """Note that a request has come; :meth:`end_request` once it is answered.

        Raises:
            OverloadedError: above the rate, or too many in flight.
        """
        most = self._limits.client_in_flight
        if most and self.in_flight >= most:
            raise OverloadedError(
                f"{self.name} has {self.in_flight} requests in flight: wait for answers, or raise "
                "client_in_flight",
                retry_after_s=PLACE_FREE_AFTER_S,
            )
        self.charge()
        self.in_flight += 1

    def end_request(self) -> None:
        """Note that a request that was begun is answered."""
        self.in_flight -= 1

    def request(self) -> "Counted":
        """Around one request, from its arrival to its answer.

        Raises:
            OverloadedError: above the rate, or too many in flight.
        """
        return Counted(self)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call.

        Raises:
            OverloadedError: too many are open.
        """
        if self.calls >= self._limits.client_calls:
            raise OverloadedError(
                f"{self.name} has {self.calls} calls open: end some, or raise client_calls"
            )
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1


class Counted:
    """Around a client's request; an object, as a generator takes twice the calls."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __enter__(self) -> None:
        self._client.begin_request()

    def __exit__(self, *_: object) -> None:
        self._client.end_request()


class Places:
    """``most`` places that clients share, each holding at most as many as are still free."""

    def __init__(self, most: int, advice: str, *, retry_after_s: float = 1.0) -> None:
        self._most = most
        self._free = most
        self._advice = advice
        self._retry_after_s = retry_after_s
        self._held: dict[str, int] = {}

    @contextmanager
    def taken(self, name: str) -> Iterator[None]:
        """Hold one place for the client of this name.

        Raises:
            OverloadedError: it holds as many as are free.
        """
        held = self._held.get(name, 0)
        if held >= self._free:
            raise OverloadedError(
                f"{name} holds {held} of {self._most} places and no more than that are free: "
                f"{self._advice}",
                retry_after_s=self._retry_after_s,
            )
        self._held[name] = held + 1
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
            self._held[name] -= 1
            if not self._held[name]:
                del self._held[name]


class Clients:
    """The clients of one server, by name."""

    def __init__(self, limits: ServerLimits, clock: Clock = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._known: OrderedDict[str, Client] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, name: str) -> Client:
        """The client of this name, remembered from now on."""
        client = self._known.get(name)
        if client is None:
            self._forget_one()
            client = self._known[name] = Client(name, self._limits, self._clock)
        self._known.move_to_end(name)
        return client

    def _forget_one(self) -> None:
        if len(self._known) < MAX_CLIENTS:
            return
        for name, client in self._known.items():
            if not client.calls:
                del self._known[name]
                return


_current: ContextVar[Client | None] = ContextVar("client", default=None)
_unlimited = Client("nobody", ServerLimits())


def current_client() -> Client:
    """The client whose call the running task serves; without limits where there is no call."""
    return _current.get() or _unlimited


def set_current_client(client: Client) -> None:
    """Let :func:`current_client` find it in this task and in those that it starts."""
    _current.set(client)
