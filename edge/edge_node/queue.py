"""The durable queue: what it accepted is on disk, twice, until the cloud has answered for it.

One thread writes. All that wait for it go into one commit (group commit), so that requests share
the price of a disk's flush, and a call returns when its commit is on disk.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from edge_node.queue_files import QueueFiles, only_writer
from edge_node.queue_ops import Clock, QueueOps
from edge_node.queue_rows import State, StoredAnswer
from edge_node.queue_values import QueueCounts, QueueLimits, QueueResult, StoredRequest
from edge_node.queue_writer import Writer

ResultT = TypeVar("ResultT")


class DurableQueue:
    """The queue, as the event loop sees it."""

    def __init__(self, writer: Writer, stream_id: bytes) -> None:
        self.stream_id = stream_id  # UUIDv7, 16 bytes; with a sequence it names a request for ever
        self.revivals = 0  # times that dead letters were let wait again
        self._writer = writer
        self._changed = asyncio.Event()
        self._waiters: dict[int, list[asyncio.Future[StoredAnswer]]] = defaultdict(list)

    async def accept(self, key: bytes, frame: bytes, *, fingerprint: str, model: str) -> int:
        """Put a request in; its sequence once it is on disk.

        The same ``key`` again, unless empty, gives the same sequence and stores nothing.

        Raises:
            OverloadedError: full, and set to reject.
            StoreError: it cannot be written; what was accepted before is there.
        """
        return await self._writer.do(
            lambda ops: ops.accept(key, frame, fingerprint, model), self._wake
        )

    async def waiting(self, *, after: int, limit: int) -> list[StoredRequest]:
        """Those behind ``after`` that wait for the cloud, in order, at most ``limit``."""
        return await self._writer.do(lambda ops: ops.waiting(after, limit))

    async def wait_for_waiting(self, *, after: int) -> None:
        """Return once one behind ``after`` waits, or dead letters wait again."""
        revivals = self.revivals
        while True:
            changed = self._changed
            if await self.waiting(after=after, limit=1) or self.revivals != revivals:
                return
            await changed.wait()

    async def complete(self, sequence: int, answer: StoredAnswer) -> bool:
        """Keep an answer; false if there was one already, which stays."""
        first = await self._writer.do(lambda ops: ops.complete(sequence, answer))
        if first:
            for waiter in self._waiters.pop(sequence, ()):
                if not waiter.done():
                    waiter.set_result(answer)
        return first

    async def answer_of(self, sequence: int) -> StoredAnswer:
        """Wait for a request's answer."""
        waiter: asyncio.Future[StoredAnswer] = asyncio.get_running_loop().create_future()
        waiters = self._waiters[sequence]
        waiters.append(waiter)
        try:
            for found in await self.results(after=0, sequences=[sequence], limit=1):
                if found.answer is not None:
                    return found.answer
            return await waiter
        finally:
            waiters.remove(waiter)
            if not waiters and self._waiters.get(sequence) is waiters:
                del self._waiters[sequence]

    async def bury(self, sequences: Sequence[int], reason: str) -> int:
        """Set waiting requests aside as dead letters; how many."""
        return await self._writer.do(lambda ops: ops.bury(sequences, reason))

    async def results(
        self, *, after: int, sequences: Sequence[int] | None, limit: int
    ) -> list[QueueResult]:
        """What became of requests behind ``after`` (of these, if named), in order."""
        return await self._writer.do(lambda ops: ops.results(after, sequences, limit))

    async def retry_dead(self) -> int:
        """Let dead letters wait again, in their old places; how many."""
        return await self._writer.do(QueueOps.retry_dead, self.revived)

    async def purge(self, states: Sequence[State]) -> int:
        """Forget all requests in these states; how many."""
        return await self._writer.do(lambda ops: ops.purge(states))

    async def do(self, work: Callable[[QueueOps], ResultT]) -> ResultT:
        """Do several things in one commit."""
        return await self._writer.do(work)

    async def expire(self) -> int:
        """Drop waiting requests that are too old; the queue does so each second by itself."""
        return await self._writer.do(QueueOps.expire)

    async def counts(self) -> QueueCounts:
        """What it holds."""
        return await self._writer.do(QueueOps.counts)

    def check(self) -> None:
        """Make sure that the thread is there; it may be busy for long with a slow disk.

        Raises:
            StoreError: it has ended.
        """
        self._writer.check()

    def revived(self) -> None:
        """Dead letters wait again: whoever delivers has to begin at the front."""
        self.revivals += 1
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@asynccontextmanager
async def open_queue(
    path: Path, limits: QueueLimits, *, clock: Clock = time.monotonic
) -> AsyncIterator[DurableQueue]:
    """Open a queue's files, made if they are not there, for as long as the block lasts.

    Raises:
        StoreError: another process has them, they cannot be used, or a newer version wrote them.
    """
    with only_writer(path):
        files = await asyncio.to_thread(QueueFiles, path)
        with contextlib.closing(files):
            ops = QueueOps(files, limits, clock)
            writer = Writer(files, ops)
            opened = DurableQueue(writer, ops.stream_id)
            loop = asyncio.get_running_loop()

            def revived() -> None:
                loop.call_soon_threadsafe(opened.revived)

            writer.revived = revived
            writer.start()
            try:
                yield opened
            finally:
                await asyncio.to_thread(writer.stop)
