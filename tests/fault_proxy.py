"""A TCP proxy that counts what passes and, when told to, does what poor links do to it.

    client ─ accept ─ read ─ queue ─ wait (latency, rate) ─ flip bits ─ slice ─ write ─ target

Faults are a frozen value that can be replaced at any time (``proxy.faults = Faults(...)``) and
holds for bytes already under way. Chance is seeded a connection and a direction: with the same seed
the same byte offsets are corrupted, however the bytes are cut into segments. Rates and latencies
are of each connection; connections do not share a link.
"""

import asyncio
import concurrent.futures
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator

from tests.link_faults import CHUNK_BYTES, HEALTHY, Corruption, Direction, Faults

_BACKLOG = 1024  # connections that the kernel holds while the event loop is busy
_QUEUED_CHUNKS = 64  # 1 MiB each way: then the sender feels the slow link, as with a real one


class FaultProxy:
    """Forwards connections to ``target`` (host:port, may change and may be away)."""

    def __init__(self, target: str, *, seed: int = 0, faults: Faults = HEALTHY) -> None:
        self.target = target
        self.faults = faults
        self.address = ""
        self.up = 0  # bytes handed on, client to target
        self.down = 0
        self.swallowed = 0
        self.flipped = 0  # bits
        self.connections = 0
        self.seed = seed
        self._tasks: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port of the loopback."""
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, backlog=_BACKLOG)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        self._end_all(reset=False)
        await asyncio.gather(*tasks, return_exceptions=True)

    def count(self, name: Direction, bytes_: int, flipped: int) -> None:
        """Add bytes handed on."""
        if name == "up":
            self.up += bytes_
        else:
            self.down += bytes_
        self.flipped += flipped

    @property
    def open_connections(self) -> int:
        """Connections that are carried now."""
        return len(self._tasks)

    def cut(self) -> None:
        """Close both ends of every connection; from any thread."""
        self._from_any_thread(reset=False)

    def reset(self) -> None:
        """Send RST to both ends of every connection; from any thread."""
        self._from_any_thread(reset=True)

    def _from_any_thread(self, *, reset: bool) -> None:
        assert self._loop is not None
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._end_all(reset=reset)
        else:
            self._loop.call_soon_threadsafe(lambda: self._end_all(reset=reset))

    def _end_all(self, *, reset: bool) -> None:
        for task, writers in list(self._tasks.items()):
            for writer in writers:
                abort(writer, reset=reset)
            task.cancel()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        writers = [writer]
        task = asyncio.get_running_loop().create_task(self._carry(reader, writers, number))
        self._tasks[task] = writers
        task.add_done_callback(self._tasks.pop)

    async def _carry(
        self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter], number: int
    ) -> None:
        if self.faults.refuse:
            abort(writers[0], reset=True)
            return
        carried = _Carried(self, number)
        if self.faults.black_hole:
            await carried.swallow(reader)
            abort(writers[0], reset=False)
            return
        host, _, port = self.target.rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            abort(writers[0], reset=True)
            return
        writers.append(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(carried.pump(reader, far_writer, "up"))
                group.create_task(carried.pump(far_reader, writers[0], "down"))
        finally:
            for writer in writers:
                writer.close()


class _Carried:
    """One connection on its way through."""

    def __init__(self, proxy: FaultProxy, number: int) -> None:
        self._proxy = proxy
        self._number = number
        self._dead = False  # bytes are missing: nothing after them may arrive

    def is_dead(self) -> bool:
        """Whether a black hole has had this connection, now or before."""
        self._dead = self._dead or self._proxy.faults.black_hole
        return self._dead

    async def pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: Direction
    ) -> None:
        """Everything that ``reader`` gives, and its end, to ``writer``."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_CHUNKS)
        async with asyncio.TaskGroup() as group:
            deliver = group.create_task(self._deliver(chunks, writer, name))
            try:
                while data := await reader.read(CHUNK_BYTES):
                    await chunks.put((time.monotonic(), data))
                await chunks.put((time.monotonic(), b""))
            except OSError:
                deliver.cancel()
                if not self.is_dead():
                    abort(writer, reset=True)

    async def swallow(self, reader: asyncio.StreamReader) -> None:
        """Read to the end and forget."""
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                self._proxy.swallowed += len(data)

    async def _deliver(
        self,
        chunks: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        name: Direction,
    ) -> None:
        proxy = self._proxy
        seed = f"{proxy.seed}/{self._number}/{name}"
        corruption, draw = Corruption(f"{seed}/bits"), random.Random(f"{seed}/jitter")
        free_at = 0.0  # when the link is done with the bytes before
        while True:
            arrived, data = await chunks.get()
            way = proxy.faults.way(name)
            delay_ms = way.latency_ms + draw.random() * way.jitter_ms
            free_at = max(free_at, arrived + delay_ms / 1000)
            if not data:
                await _until(free_at + proxy.faults.slow_close_ms / 1000)
                if not (self.is_dead() or writer.is_closing()):
                    with contextlib.suppress(OSError):
                        writer.write_eof()
                return
            while data:
                way = proxy.faults.way(name)
                size = min(way.piece_bytes(), len(data))
                if way.bytes_per_s:
                    free_at = max(free_at, time.monotonic()) + size / way.bytes_per_s
                piece, data = data[:size], data[size:]
                await _until(free_at)
                if self.is_dead() or writer.is_closing():
                    proxy.swallowed += len(piece)
                    continue
                piece, flipped = corruption.apply(piece, proxy.faults.way(name).corrupt_per_byte)
                proxy.count(name, len(piece), flipped)
                with contextlib.suppress(OSError):  # the reader's side learns of it as well
                    writer.write(piece)
                    await writer.drain()


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


def abort(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Drop a connection at once, with RST where ``reset`` is set."""
    raw = writer.get_extra_info("socket")
    if reset and raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def running_proxy(
    target: str, *, seed: int = 0, faults: Faults = HEALTHY
) -> AsyncIterator[FaultProxy]:
    """A proxy on this event loop for as long as the block lasts."""
    proxy = FaultProxy(target, seed=seed, faults=faults)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


@contextlib.contextmanager
def proxy_thread(target: str, *, seed: int = 0, faults: Faults = HEALTHY) -> Iterator[FaultProxy]:
    """A proxy in a thread of its own, for tests that block."""
    proxy = FaultProxy(target, seed=seed, faults=faults)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    started: concurrent.futures.Future[None] = concurrent.futures.Future()

    async def serve() -> None:
        try:
            await proxy.start()
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        await stop.wait()
        await proxy.stop()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="fault-proxy")
    thread.start()
    try:
        started.result()
        yield proxy
    finally:
        with contextlib.suppress(RuntimeError):  # it did not start, and its loop is closed
            loop.call_soon_threadsafe(stop.set)
        thread.join()
