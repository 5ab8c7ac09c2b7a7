"""The strangers: each storm begins, is held while good clients are measured, and ends."""

import asyncio
import contextlib
import os
from abc import ABC, abstractmethod
from collections import Counter

import grpc

from spikebottlenet.rpc.security import ChannelSecurity, call_metadata
from spikebottlenet.rpc.v1.coinference_pb2 import Open, StreamRequest
from tests.door import ask
from tests.strangers.client import image_request
from tests.strangers.daemon import Guarded
from tests.strangers.raw import RawHttp2, connect, prefixed

CONNECTIONS = 10_000
STREAMS = 1_000
REAPED_WITHIN_S = 12.0  # the daemon's limits for a handshake and for an Open are 10 s
ANNOUNCED_BYTES = 1 << 30
_BIG_CALLS = 64
_HANDS = 32  # threads that connect: a full backlog holds each up for seconds
_FAILURES = 10  # of one of them, then it gives up
_STREAMS_EACH = 250  # of a connection: below the daemon's limit of 256
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


class Storm(ABC):
    """What strangers do to one daemon."""

    name: str

    def __init__(self, cloud: Guarded) -> None:
        self.cloud = cloud
        self.seen: Counter[str] = Counter()  # statuses and counts, for the report
        self.stays = False  # until the daemon has had enough of it

    @abstractmethod
    async def begin(self) -> None:
        """Come, and stay."""

    @abstractmethod
    async def end(self) -> None:
        """Go away."""


class IdleConnections(Storm):
    """Connections that never speak (``greet`` False), or say HTTP/2's first words and no more."""

    def __init__(self, cloud: Guarded, *, greet: bool) -> None:
        super().__init__(cloud)
        self.name = f"{CONNECTIONS} idle connections, {'greeted' if greet else 'silent'}"
        self._greet = greet
        self._lines: list = []

    async def begin(self) -> None:
        shares = [range(first, CONNECTIONS, _HANDS) for first in range(_HANDS)]
        await asyncio.gather(*(asyncio.to_thread(self._connect, share) for share in shares))
        self.seen["connected"] += len(self._lines)

    def _connect(self, numbers: range) -> None:
        failed = 0
        for number in numbers:
            try:
                line = connect(self.cloud.port, number)
                self._lines.append(line)
                if self._greet:
                    line.sendall(_PREFACE)
            except OSError as error:
                self.seen[type(error).__name__] += 1
                failed += 1
                if failed > _FAILURES:
                    return

    async def end(self) -> None:
        if self.stays and self._lines and not self._greet:
            await asyncio.to_thread(_wait_closed, self._lines[-1])
        self.seen["closed by the daemon"] += sum(_is_closed(line) for line in self._lines)
        for line in self._lines:
            line.close()
        self._lines.clear()


def _wait_closed(line) -> None:
    line.settimeout(REAPED_WITHIN_S)
    with contextlib.suppress(OSError):
        while line.recv(4096):
            pass


def _is_closed(line) -> bool:
    line.setblocking(False)
    try:
        while data := line.recv(4096):
            del data
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _token(security: ChannelSecurity) -> str:
    return call_metadata(security)[0][1].removeprefix("Bearer ")


class AbandonedStreams(Storm):
    """Streams of one greedy client that are opened, and neither read nor written any more."""

    def __init__(self, cloud: Guarded, *, spoken: bool) -> None:
        super().__init__(cloud)
        self.name = f"{STREAMS} abandoned streams, {'after' if spoken else 'before'} their Open"
        self._spoken = spoken
        self._lines: list[RawHttp2] = []

    async def begin(self) -> None:
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        token, fingerprint = _token(self.cloud.greedy), image_request().fingerprint
        for _ in range(STREAMS // _STREAMS_EACH):
            line = RawHttp2(self.cloud.port)
            self._lines.append(line)
            for _ in range(_STREAMS_EACH):
                opening = Open(fingerprint=fingerprint, stream_id=os.urandom(16))
                data = prefixed(StreamRequest(open=opening).SerializeToString())
                line.open("Stream", token, data if self._spoken else b"")
                self.seen["opened"] += 1

    async def end(self) -> None:
        within_s = REAPED_WITHIN_S if self.stays and not self._spoken else 0.2
        for line in self._lines:
            await asyncio.to_thread(line.read_statuses, _STREAMS_EACH, within_s=within_s)
            self.seen.update({f"ended with {key}": n for key, n in line.statuses.items()})
            line.close()
        self._lines.clear()


class HugeMessages(Storm):
    """Calls that announce a message of 1 GiB, from whoever has a token or has none."""

    def __init__(self, cloud: Guarded, *, known: bool) -> None:
        super().__init__(cloud)
        self.name = f"{_BIG_CALLS} messages of 1 GiB, {'a' if known else 'no'} token"
        self._token = _token(cloud.greedy) if known else None
        self._lines: list[RawHttp2] = []

    async def begin(self) -> None:
        await asyncio.to_thread(self._announce)

    def _announce(self) -> None:
        for number in range(_BIG_CALLS):
            line = RawHttp2(self.cloud.port)
            self._lines.append(line)
            method = ("Infer", "Stream", "GetModel")[number % 3]
            line.open(method, self._token, prefixed(bytes(16_000), announced=ANNOUNCED_BYTES))
            line.read_statuses(1, within_s=5)
            self.seen.update({f"status {key}": n for key, n in line.statuses.items()})

    async def end(self) -> None:
        for line in self._lines:
            line.close()
        self._lines.clear()


class Knocking(Storm):
    """Calls without what they need, one after another for as long as the storm lasts."""

    def __init__(self, cloud: Guarded, name: str, security: ChannelSecurity, **more) -> None:
        super().__init__(cloud)
        self.name = f"knocking: {name}"
        self._security = security
        self._more = more
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        self._task = asyncio.create_task(self._knock())

    async def _knock(self) -> None:
        while True:
            code = await ask(self.cloud.port, self._security, **self._more)
            self.seen[grpc.StatusCode(code).name] += 1
            await asyncio.sleep(0.02)

    async def end(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
