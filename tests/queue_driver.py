"""A durable queue driven from plain code, on an event loop of its own."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from edge_node.queue import DurableQueue, open_queue
from edge_node.queue_rows import StoredAnswer
from edge_node.queue_values import QueueLimits

ResultT = TypeVar("ResultT")

WIDE = QueueLimits(
    max_bytes=1 << 40, max_count=1 << 40, max_age_s=0, when_full="reject", keep_results=1 << 40
)
MODEL = {"fingerprint": "ab" * 32, "model": "net@abababab"}


class Driver:
    """One queue that is opened, used, closed, and found again after a crash."""

    def __init__(
        self, path: Path, limits: QueueLimits = WIDE, clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.path = path
        self.limits = limits
        self.clock = clock
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self.queue: DurableQueue
        try:
            self.open()
        except BaseException:
            self._loop.close()
            raise

    def open(self) -> None:
        """Open what lies there."""
        opening = open_queue(self.path, self.limits, clock=self.clock)
        self.queue = self.run(self._stack.enter_async_context(opening))

    def close(self) -> None:
        """Close it, as a daemon that ends does."""
        self.run(self._stack.aclose())

    def end(self) -> None:
        """Close it and the loop."""
        self.close()
        self._loop.close()

    def crash(self, folder: Path) -> None:
        """Go on with the files as they lie on disk now, as after a kill or a loss of power."""
        folder.mkdir()
        for part in self.path.parent.glob(f"{self.path.name}*"):
            if not part.name.endswith((".lock", "-shm")):
                shutil.copy(part, folder / part.name)
        self.close()
        self.path = folder / self.path.name
        self.open()

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Wait for it."""
        return self._loop.run_until_complete(work)

    def accept(self, frame: bytes, key: bytes = b"") -> int:
        """Store one request."""
        return self.run(self.queue.accept(key, frame, **MODEL))

    def accept_all(self, requests: Sequence[tuple[bytes, bytes]]) -> list[int]:
        """Store requests, key and frame, all at once."""

        async def accept() -> list[int]:
            accepts = (self.queue.accept(key, frame, **MODEL) for key, frame in requests)
            return await asyncio.gather(*accepts)

        return self.run(accept())

    def frames(self) -> dict[int, bytes]:
        """What waits, by number."""
        return {r.sequence: r.frame for r in self.run(self.queue.waiting(after=0, limit=1 << 30))}

    def states(self) -> dict[int, str]:
        """What became of each, by number."""
        found = self.run(self.queue.results(after=0, sequences=None, limit=1 << 30))
        return {result.sequence: result.state.name for result in found}


def answer(number: int) -> StoredAnswer:
    """An answer that tells which it is."""
    return StoredAnswer((number % 100,), (f"label {number}",), (0.5,), 2)
