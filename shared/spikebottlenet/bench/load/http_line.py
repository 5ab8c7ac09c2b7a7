"""A client of an HTTP server: POST an image file, connections kept open, nothing else on top.

Written on plain sockets, because a client library's own time would be measured with the server's.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from spikebottlenet.bench.load.plan import Aim

_GOOD = range(200, 300)
# To gRPC's codes, as in its own mapping of HTTP (grpc/doc/http-grpc-status-mapping.md).
_CODES = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_UNKNOWN, _UNAVAILABLE = 2, 14


class HttpLine:
    """One client; as many connections as it has requests in flight."""

    def __init__(self, aim: Aim) -> None:
        self._aim = aim
        self._host, _, port = aim.address.rpartition(":")
        self._port = int(port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open: set[asyncio.StreamWriter] = set()

    async def ask(self, index: int) -> int:
        """Send payload ``index``; the status of its answer as a gRPC code."""
        body = self._aim.payloads[index % len(self._aim.payloads)]
        head = (
            f"POST {self._aim.path} HTTP/1.1\r\nHost: {self._aim.address}\r\n"
            f"Content-Type: {self._aim.content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            reader, writer = self._idle.pop() if self._idle else await self._connect()
            writer.write(head.encode("ascii") + body)
            status = await _read_answer(reader)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            return _UNAVAILABLE
        self._idle.append((reader, writer))
        return 0 if status in _GOOD else _CODES.get(status, _UNKNOWN)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        self._open.add(writer)
        return reader, writer

    async def close(self) -> None:
        """Close every connection."""
        for writer in self._open:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for w in self._open), return_exceptions=True)


async def _read_answer(reader: asyncio.StreamReader) -> int:
    """Read one whole answer; its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    length = 0
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length":
            length = int(value)
    await reader.readexactly(length)
    return int(first.split()[1])


@asynccontextmanager
async def http_line(aim: Aim) -> AsyncIterator[HttpLine]:
    """A client whose connections end with the block."""
    line = HttpLine(aim)
    try:
        yield line
    finally:
        await line.close()
