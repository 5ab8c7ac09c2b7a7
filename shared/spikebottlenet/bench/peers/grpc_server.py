"""The un-cut network behind a plain gRPC unary server: ``--batch N --threads N``.

As one writes it in an afternoon: bytes in, bytes out, the network in one worker thread. With
``--batch`` above 1 what waits goes through together, with no delay added.
"""

import argparse
import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
import grpc.aio

from spikebottlenet.bench.peers.plain_server import serve_calls
from spikebottlenet.bench.peers.uncut import Pixels, Uncut, load_uncut


class _Waiting(NamedTuple):
    pixels: Pixels
    answer: "asyncio.Future[dict[str, float]]"


class Batcher:
    """What waits goes through the network together."""

    def __init__(self, uncut: Uncut, *, max_batch: int) -> None:
        self._uncut = uncut
        self._max_batch = max_batch
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)

    async def answer(self, request: bytes, _: "grpc.aio.ServicerContext[Any, Any]") -> bytes:
        """One image file to its classes as JSON."""
        answer: asyncio.Future[dict[str, float]] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Waiting(self._uncut.decode(request), answer))
        return json.dumps(await answer).encode()

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._max_batch and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            images = [waiting.pixels for waiting in batch]
            found = await loop.run_in_executor(self._thread, self._uncut.classify, images)
            for waiting, classes in zip(batch, found, strict=True):
                if not waiting.answer.done():  # else its caller is gone
                    waiting.answer.set_result(classes)


async def serve(bundle: str, *, batch: int, threads: int) -> None:
    """Serve until terminated."""
    batcher = Batcher(load_uncut(bundle, threads=threads), max_batch=batch)
    running = asyncio.create_task(batcher.run())
    try:
        await serve_calls(batcher.answer)
    finally:
        running.cancel()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.bundle, batch=options.batch, threads=options.threads))


if __name__ == "__main__":
    main()
