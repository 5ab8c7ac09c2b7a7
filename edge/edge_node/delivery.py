"""Stored requests to the cloud: in order, again and again until each is answered or dead.

One ordered stream for the model of the oldest request that waits; when the next one is of another
model, or the cloud is away, a new stream. Answers come in order and are on disk before a place in
the window is free again. What was sent and not answered when a stream breaks is sent again under
the same id: at least once, and the cloud answers each once within its window of kept answers.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from edge_node.backoff import Backoff
from edge_node.cloud_stream import Connect, open_stream
from edge_node.delivery_run import DeliveryRun, Progress
from edge_node.metrics import Delivered
from edge_node.queue import DurableQueue
from edge_node.queue_values import StoredRequest
from spikebottlenet.accounting.energy import RadioProfile
from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.errors import ModelMismatchError, OverloadedError, SpikeBottleNetError
from spikebottlenet.logs import fields
from spikebottlenet.rpc.v1.coinference_pb2 import Open

log = logging.getLogger(__name__)

_CONFIRMATIONS = 3  # streams in a row that must refuse a model before its requests are dead
ClassNames = Callable[[str], Awaitable[tuple[str, ...]]]  # fingerprint -> the model's classes


class Delivery:
    """Brings what the queue holds to the cloud for as long as ``running`` lasts."""

    def __init__(
        self,
        queue: DurableQueue,
        connect: Connect,
        ledger: WireLedger,
        class_names: ClassNames,
        radio: RadioProfile,
        *,
        window: int,
        stall_s: float,
        count: Callable[[Delivered], None],
    ) -> None:
        self._queue = queue
        self._connect = connect
        self._ledger = ledger
        self._class_names = class_names
        self._radio = radio
        self._window = window
        self._stall_s = stall_s
        self._count = count
        self._refusals: dict[str, int] = {}  # by fingerprint, in a row
        self._progress = Progress()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Delivery"]:
        """Deliver until the block ends."""
        work = asyncio.create_task(self._deliver_always())
        try:
            yield self
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _deliver_always(self) -> None:
        backoff = Backoff()
        away = False
        while True:
            await self._queue.wait_for_waiting(after=0)
            done, wait_s = self._progress.done, 0.0
            try:
                await self._one_stream()
            except SpikeBottleNetError as error:
                if not away:
                    away = True
                    log.warning("delivery waits", extra=fields(reason=str(error)))
                wait_s = backoff.next_s()
                if isinstance(error, OverloadedError):
                    wait_s = max(wait_s, error.retry_after_s)
            except Exception:
                # Stored requests are never given up because of a mistake in the code around them.
                log.exception("delivery failed")
                wait_s = backoff.next_s()
            if self._progress.done > done:
                backoff.reset()
                away = False
            await asyncio.sleep(wait_s)

    async def _one_stream(self) -> None:
        """Deliver until a request of another model comes, the queue rests, or the stream breaks."""
        oldest = await self._queue.waiting(after=0, limit=1)
        if not oldest:
            return
        first = oldest[0]
        opening = Open(
            fingerprint=bytes.fromhex(first.fingerprint),
            stream_id=self._queue.stream_id,
            ordered=True,
        )
        try:
            async with open_stream(self._connect, opening, self._ledger) as stream:
                self._refusals.pop(first.fingerprint, None)
                names = await self._class_names(first.fingerprint)
                window = min(self._window, stream.max_in_flight)
                run = DeliveryRun(
                    self._queue,
                    stream,
                    self._progress,
                    self._radio,
                    window=window,
                    count=self._count,
                )
                await run.finish(first.fingerprint, names, stall_s=self._stall_s)
        except ModelMismatchError as error:
            await self._refused(first, error)

    async def _refused(self, first: StoredRequest, error: ModelMismatchError) -> None:
        """A model that is refused again and again has its waiting requests set aside."""
        times = self._refusals.get(first.fingerprint, 0) + 1
        if times < _CONFIRMATIONS:
            self._refusals[first.fingerprint] = times
            raise error
        self._refusals.pop(first.fingerprint)
        dead = 0
        after = first.sequence - 1
        while batch := await self._queue.waiting(after=after, limit=1000):
            sequences = [r.sequence for r in batch if r.fingerprint == first.fingerprint]
            await self._queue.bury(sequences, str(error))
            dead += len(sequences)
            after = batch[-1].sequence
        log.error("dead letters", extra=fields(requests=dead, reason=str(error)))
        self._progress.done += dead
