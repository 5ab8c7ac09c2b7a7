"""The durable queue in an edge-node: accept requests, deliver them, say what became of them."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from edge_node.delivery import Delivery
from edge_node.queue import DurableQueue, open_queue
from edge_node.queue_command import default_store_path
from edge_node.queue_values import QueueLimits, QueueResult
from edge_node.settings import EdgeSettings
from spikebottlenet.bundle import Bundle
from spikebottlenet.errors import RequestError, StoreError
from spikebottlenet.logs import fields

log = logging.getLogger(__name__)

_PAGE = 500
_DIGITS = 18  # of a sequence

Deliver = Callable[[DurableQueue], Delivery]


class Store:
    """The queue of one edge-node; its file is made when the first request is stored."""

    def __init__(self, settings: EdgeSettings, deliver: Deliver) -> None:
        self._settings = settings
        self._deliver = deliver
        self._path = Path(settings.store_path) if settings.store_path else default_store_path()
        self._opening = asyncio.Lock()
        self._running = AsyncExitStack()
        self._queue: DurableQueue | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Store"]:
        """Deliver what waits from an earlier life, and what comes, until the block ends.

        Raises:
            StoreError: the file that the settings name cannot be used.
        """
        async with self._running:
            if self._settings.store_path or self._settings.store != "never":
                await self.queue()
            elif self._path.exists():
                try:
                    await self.queue()
                except StoreError as error:  # of another edge-node here; asked for by nobody
                    log.warning("queue not opened", extra=fields(reason=str(error)))
            yield self

    @property
    def opened(self) -> DurableQueue | None:
        """The queue, if it was opened."""
        return self._queue

    async def queue(self) -> DurableQueue:
        """The queue, opened if it was not.

        Raises:
            StoreError: it cannot be.
        """
        async with self._opening:
            if self._queue is None:
                s = self._settings
                limits = QueueLimits(
                    max_bytes=s.store_max_bytes,
                    max_count=s.store_max_count,
                    max_age_s=s.store_max_age_s,
                    when_full=s.store_when_full,
                    keep_results=s.store_results,
                )
                opened = await self._running.enter_async_context(open_queue(self._path, limits))
                await self._running.enter_async_context(self._deliver(opened).running())
                self._queue = opened
            return self._queue

    async def accept(self, key: bytes, frame: bytes, bundle: Bundle) -> int:
        """Put one image's spikes on disk; returns the sequence.

        Raises:
            OverloadedError: the queue is full and set to reject.
            StoreError: the disk is full, or the file cannot be used.
        """
        queue = await self.queue()
        return await queue.accept(key, frame, fingerprint=bundle.fingerprint, model=bundle.model)

    async def alive(self) -> None:
        """Return if the queue, where there is one, is served.

        Raises:
            StoreError: it is not.
        """
        if self._queue is not None:
            self._queue.check()

    def request_id(self, sequence: int) -> str:
        """What a stored request is known by, for ever."""
        return f"{self._name()}/{sequence}"

    async def results(
        self, *, after: int, request_ids: Sequence[str], limit: int
    ) -> AsyncIterator[QueueResult]:
        """What became of stored requests, in their order.

        Raises:
            RequestError: an id that is not of this queue.
        """
        if self._queue is None:
            if not self._path.exists():
                return
            await self.queue()
        assert self._queue is not None  # noqa: S101, opened just above
        wanted = sorted({self._sequence(name) for name in request_ids}) or None
        given = 0
        while not limit or given < limit:
            page = min(_PAGE, limit - given) if limit else _PAGE
            found = await self._queue.results(after=after, sequences=wanted, limit=page)
            for result in found:
                yield result
            given += len(found)
            if len(found) < page:
                return
            after = found[-1].sequence

    def _name(self) -> uuid.UUID:
        assert self._queue is not None  # noqa: S101, names are of stored requests
        return uuid.UUID(bytes=self._queue.stream_id)

    def _sequence(self, request_id: str) -> int:
        stream, _, sequence = request_id.partition("/")
        plain = sequence.isascii() and sequence.isdigit() and len(sequence) <= _DIGITS
        if stream != str(self._name()) or not plain:
            raise RequestError(
                f"{request_id!r} is no request of this queue, wanted {self._name()}/N: ask the "
                "edge-node that stored it"
            )
        return int(sequence)
