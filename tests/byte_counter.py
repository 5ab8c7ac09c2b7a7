"""A TCP proxy that counts what passes: the truth that byte accounting is held to."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator


class ByteCounter:
    """Forwards connections to ``target`` and counts payload bytes each way."""

    def __init__(self, target: str) -> None:
        self.up = 0
        self.down = 0
        self.address = ""
        self._host, _, port = target.rpartition(":")
        self._port = int(port)

    async def _pump(self, reader, writer, direction: str) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                setattr(self, direction, getattr(self, direction) + len(data))
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    async def _connected(self, reader, writer) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        await asyncio.gather(
            self._pump(reader, far_writer, "up"), self._pump(far_reader, writer, "down")
        )


@contextlib.contextmanager
def counting_bytes(target: str) -> Iterator[ByteCounter]:
    """A proxy in a thread of its own for as long as the block lasts."""
    counter = ByteCounter(target)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(counter._connected, "127.0.0.1", 0)
        counter.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    try:
        yield counter
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
