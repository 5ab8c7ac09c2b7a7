"""The thread that owns a durable queue's files: all that wait share one commit."""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from edge_node.queue_files import QueueFiles
from edge_node.queue_ops import QueueOps
from edge_node.queue_rows import State
from spikebottlenet.errors import SpikeBottleNetError, StoreError
from spikebottlenet.logs import fields

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_LARGEST_GROUP = 1024
_TICK_S = 1.0  # between looks at ages and at the orders of the command


@dataclass(frozen=True)
class _Job(Generic[ResultT]):
    work: Callable[[QueueOps], ResultT]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[ResultT]"
    then: Callable[[], None]  # on the event loop, once it is on disk, whoever still waits


def nothing() -> None:
    """For jobs that nobody else has to hear of."""


@dataclass
class _Outcomes:
    """Of one group, told to the event loop at once."""

    results: list[tuple[_Job[Any], Any]] = field(default_factory=list)
    errors: list[tuple[_Job[Any], Exception]] = field(default_factory=list)

    def tell(self) -> None:
        """Wake who waits."""
        for job, result in self.results:
            job.then()
            if not job.future.done():
                job.future.set_result(result)
        for job, error in self.errors:
            if not job.future.done():
                job.future.set_exception(error)


class Writer:
    """The thread that owns the files."""

    def __init__(self, files: QueueFiles, ops: QueueOps) -> None:
        self._files = files
        self._ops = ops
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="queue", daemon=True)
        self._group: list[_Job[Any]] = []  # that is served now
        self._ended = threading.Event()
        self._miscounted = False  # the counts could not be read again after a group failed
        self.revived: Callable[[], None] = nothing  # dead letters wait again

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Do what was asked for, then end."""
        self._jobs.put(None)
        self._thread.join()

    async def do(
        self, work: Callable[[QueueOps], ResultT], then: Callable[[], None] = nothing
    ) -> ResultT:
        """Have the thread do something; returns once it is on disk.

        Raises:
            StoreError: it cannot be done, or the thread has ended.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()
        self._jobs.put(_Job(work, loop, future, then))
        if self._ended.is_set():
            self._refuse_all()
        return await future

    def check(self) -> None:
        """Make sure that the thread is there.

        Raises:
            StoreError: it has ended.
        """
        if self._ended.is_set():
            raise StoreError(f"the queue {self._files.path} is not served any more")

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.set()
            self._refuse_all()

    def _refuse_all(self) -> None:
        """Tell those that nobody serves any more."""
        error = StoreError(f"the queue {self._files.path} is closed: start the edge-node again")
        with contextlib.suppress(queue.Empty, RuntimeError):  # no job, or no loop, is left
            for job in self._group:
                job.loop.call_soon_threadsafe(_Outcomes(errors=[(job, error)]).tell)
            while True:
                left = self._jobs.get_nowait()
                if left is not None:
                    left.loop.call_soon_threadsafe(_Outcomes(errors=[(left, error)]).tell)

    def _work(self) -> None:
        going = True
        looked = time.monotonic()
        while going:
            group: list[_Job[Any]] = []
            try:
                job = self._jobs.get(timeout=_TICK_S)
                while job is not None:
                    group.append(job)
                    if len(group) == _LARGEST_GROUP:
                        break
                    job = self._jobs.get_nowait()
                else:
                    going = False
            except queue.Empty:
                pass
            if group:
                self._group = group
                self._serve(group)
                self._group = []
            if time.monotonic() - looked >= _TICK_S:
                looked = time.monotonic()
                self._look_around()
        self._alone(lambda ops: ops.keep_age(now=True))

    def _serve(self, group: Sequence[_Job[Any]]) -> None:
        try:
            outcomes = self._commit(group)
        except Exception:  # of whatever kind: told to those that it concerns, below
            # One by one, so that reading goes on where writing does not.
            for job in group:
                self._serve_one(job)
            return
        group[0].loop.call_soon_threadsafe(outcomes.tell)

    def _serve_one(self, job: _Job[Any]) -> None:
        try:
            try:
                outcomes = self._commit([job])
            except sqlite3.Error:
                if not self._files.make_room():
                    raise
                outcomes = self._commit([job])
        except sqlite3.Error as error:
            wrong = StoreError(
                f"the queue {self._files.path} cannot be written: {error}; free space on its disk"
            )
            log.error("not written", extra=fields(reason=str(wrong)))
            outcomes = _Outcomes(errors=[(job, wrong)])
        except Exception as error:
            log.exception("queue failed")
            outcomes = _Outcomes(errors=[(job, error)])
        job.loop.call_soon_threadsafe(outcomes.tell)

    def _commit(self, group: Sequence[_Job[Any]]) -> _Outcomes:
        outcomes = _Outcomes()
        try:
            self._begin()
            for job in group:
                if job.future.cancelled():  # nobody was promised anything
                    continue
                try:
                    outcomes.results.append((job, job.work(self._ops)))
                except SpikeBottleNetError as error:
                    outcomes.errors.append((job, error))
            self._ops.keep_age()
            self._files.commit()
        except BaseException:
            self._undo()
            raise
        return outcomes

    def _begin(self) -> None:
        if self._miscounted:
            self._ops.reload()
            self._miscounted = False
        self._files.begin()

    def _undo(self) -> None:
        """Take a failed group back; a file that cannot be read now may be later."""
        self._miscounted = True
        self._files.rollback()

    def _alone(self, work: Callable[[QueueOps], ResultT]) -> ResultT | None:
        try:
            self._begin()
            result = work(self._ops)
            self._files.commit()
        except Exception as error:  # the thread goes on: all that the queue does, it does
            self._undo()
            log.error("not written", extra=fields(reason=f"{type(error).__name__}: {error}"))
            return None
        return result

    def _look_around(self) -> None:
        self._alone(QueueOps.expire)
        # Taken and followed in one commit: the command waits for the order to be gone.
        for order, done in self._alone(_follow_orders) or ():
            log.info("queue command", extra=fields(action=order, requests=done))
            if order == RETRY:
                self.revived()


RETRY = "retry"
PURGE = "purge "


def _follow_orders(ops: QueueOps) -> list[tuple[str, int]]:
    return [(order, follow(ops, order)) for order in ops.take_orders()]


def follow(ops: QueueOps, order: str) -> int:
    """Do what the ``queue`` command asked for; how many requests it touched."""
    if order == RETRY:
        return ops.retry_dead()
    names = order.removeprefix(PURGE).split() if order.startswith(PURGE) else []
    return ops.purge([State[name] for name in names if name in State.__members__])
