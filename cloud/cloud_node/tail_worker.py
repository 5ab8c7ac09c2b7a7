"""The tails in one thread, which batches what waits while it is busy.

The thread takes the next batch itself as soon as one is done, and posts a batch's answers to the
event loop at once, so that no turn of the loop stands between two batches.
"""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from cloud_node.batching import FairQueue, Sender, next_batch
from cloud_node.cost import CostModel, Measured
from spikebottlenet.errors import DeadlineError, OverloadedError, UnavailableError
from spikebottlenet.logs import fields
from spikebottlenet.runtime.scores import Probabilities
from spikebottlenet.runtime.torch_tail import TorchTail

Spikes = npt.NDArray[np.uint8]

log = logging.getLogger(__name__)

_NOBODY = Sender("nobody")
_SHORTEST_RETRY_S = 0.01


@dataclass(frozen=True)
class BatchLimits:
    """How batches are made, and how much may wait for one."""

    max_batch: int = 16
    max_waiting: int = 512  # images
    max_waiting_bytes: int = 64 * 1024 * 1024  # of their spikes, a byte each
    max_queue_s: float = 0.5  # estimated wait above which an image is refused
    min_waiting: int = 32  # that many may wait however long it takes
    max_wait_s: float = 0.0  # an idle tail waits so long for a fuller batch


class TailAnswer(NamedTuple):
    """What the tail said of one image."""

    probabilities: Probabilities  # [classes]
    queue_us: int  # waited, microseconds
    tail_us: int  # of the batch, microseconds


class _Group(NamedTuple):
    """What can go through together."""

    tail: TorchTail
    timesteps: int


@dataclass(frozen=True)
class _Job:
    spikes: Spikes  # [t, C, H, W]
    arrived: float  # monotonic seconds
    deadline: float | None  # monotonic seconds
    answer: "asyncio.Future[TailAnswer]"

    @property
    def abandoned(self) -> bool:
        return self.answer.done()


_Outcome = tuple[_Job, TailAnswer | Exception]


class TailWorker:
    """A bounded queue before the tails."""

    def __init__(self, limits: BatchLimits | None = None) -> None:
        self._limits = limits or BatchLimits()
        self._changed = threading.Condition()  # guards all that follows
        self._queues: OrderedDict[_Group, FairQueue[_Job]] = OrderedDict()  # none is empty
        self._costs: WeakKeyDictionary[TorchTail, dict[int, CostModel]] = WeakKeyDictionary()
        self._waiting_bytes = 0
        self._busy_until = 0.0  # estimated end of the running batch
        self._pings: list[asyncio.Future[None]] = []
        self._ended = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.expired = 0  # dropped before they were computed

    @asynccontextmanager
    async def running(self) -> AsyncIterator["TailWorker"]:
        """Serve the queue until the block ends; what still waits then is cancelled."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="tail", daemon=True)
        self._thread.start()
        try:
            yield self
        finally:
            with self._changed:
                self._ended = True
                left = [job.answer for queue in self._queues.values() for job in queue]
                self._queues.clear()
                self._changed.notify()
            for answer in left:
                answer.cancel()
            await asyncio.to_thread(self._thread.join)

    async def alive(self) -> None:
        """Return once the thread has had a turn.

        Raises:
            RuntimeError: nobody serves the queue any more.
        """
        ping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._ended or self._thread is None or not self._thread.is_alive():
                raise RuntimeError("the tail's thread has ended")
            self._pings.append(ping)
            self._changed.notify()
        await ping

    async def classify(
        self,
        tail: TorchTail,
        spikes: Spikes,
        *,
        deadline_s: float | None,
        sender: Sender = _NOBODY,
    ) -> TailAnswer:
        """Class probabilities of spikes [t, C, H, W] by a model's tail.

        Raises:
            OverloadedError: too many wait already, or the tail failed.
            DeadlineError: it could not be answered within ``deadline_s`` seconds.
            UnavailableError: the worker has ended.
        """
        now = time.monotonic()
        answer: asyncio.Future[TailAnswer] = asyncio.get_running_loop().create_future()
        deadline = None if deadline_s is None else now + deadline_s
        group = _Group(tail, len(spikes))
        with self._changed:
            if self._ended:
                raise UnavailableError("the tail has stopped: send it to another cloud-node")
            self._admit(group, sender, spikes.nbytes, now)
            queue = self._queues.get(group)
            if queue is None:
                queue = self._queues[group] = FairQueue()
            queue.push(sender, _Job(spikes, now, deadline, answer))
            self._waiting_bytes += spikes.nbytes
            self._changed.notify()
        return await answer

    def _admit(self, group: _Group, sender: Sender, size: int, now: float) -> None:
        limits, cost = self._limits, self._cost(group).cost
        waiting = sum(len(queue) for queue in self._queues.values())
        queue = self._queues.get(group)
        ahead = queue.ahead_of(sender) if queue else 0
        others = len(self._queues) - (queue is not None)
        ahead = min(waiting, ahead * (1 + others))  # groups take turns
        running_s = max(0.0, self._busy_until - now)
        wait_s = running_s + cost.queue_s(ahead + 1, limits.max_batch)
        held = sum(each.held(sender.client) for each in self._queues.values())
        free, free_bytes = (
            limits.max_waiting - waiting,
            limits.max_waiting_bytes - self._waiting_bytes,
        )
        # As of the places of a server: each holds as many as are still free, so others find some.
        greedy = held >= limits.min_waiting
        if free <= 0 or (greedy and held >= free):
            found, setting = f"{waiting} images wait already, {held} of them yours", "max_waiting"
        elif size > free_bytes or (greedy and held * size >= free_bytes):
            found, setting = f"{self._waiting_bytes} bytes wait already", "max_waiting_bytes"
        elif limits.max_queue_s < wait_s and ahead >= limits.min_waiting:
            found, setting = f"an answer would take {wait_s:.2f} s", "max_queue_ms"
        else:
            return
        raise OverloadedError(
            f"{found}: try again later, or raise {setting}",
            retry_after_s=max(_SHORTEST_RETRY_S, wait_s / 2),
        )

    def _cost(self, group: _Group) -> CostModel:
        costs = self._costs.get(group.tail)
        if costs is None:
            costs = self._costs[group.tail] = {}
        return costs.setdefault(group.timesteps, CostModel())

    def _work(self) -> None:
        """Run batches until the end; the thread's whole life."""
        try:
            while self._serve_one():
                pass
        finally:
            with self._changed:
                self._ended = True
                left = [job for queue in self._queues.values() for job in queue]
                self._queues.clear()
                pings, self._pings = self._pings, []
            lost = UnavailableError("the tail has stopped: send it to another cloud-node")
            self._post([(job, lost) for job in left], pings, RuntimeError("the thread has ended"))

    def _serve_one(self) -> bool:
        """Run one batch, and keep hold of nothing of it: a model that is changed must go."""
        taken = self._take()
        if taken is None:
            return False
        self._run(*taken)
        return True

    def _take(self) -> tuple[_Group, list[_Job]] | None:
        """Wait for the next batch; None at the end."""
        with self._changed:
            while not self._ended:
                if self._pings:
                    pings, self._pings = self._pings, []
                    self._post([], pings)
                if not self._queues:
                    self._changed.wait()
                    continue
                group, queue = next(iter(self._queues.items()))
                delay_s = self._delay_s(queue)
                if delay_s > 0:
                    self._changed.wait(delay_s)
                    continue
                batch = self._plan(group, queue)
                if batch:
                    return group, batch
                del group, queue, batch  # nothing of a model is held while this waits
        return None

    def _delay_s(self, queue: FairQueue[_Job]) -> float:
        """How long a batch that is not full still waits for more."""
        if not self._limits.max_wait_s or len(queue) >= self._limits.max_batch:
            return 0.0
        oldest = min(job.arrived for job in queue)
        return oldest + self._limits.max_wait_s - time.monotonic()

    def _plan(self, group: _Group, queue: FairQueue[_Job]) -> list[_Job]:
        now = time.monotonic()
        model = self._cost(group)
        before = sum(job.spikes.nbytes for job in queue)
        plan = next_batch(queue, max_batch=self._limits.max_batch, cost=model.cost, now=now)
        self._waiting_bytes -= before - sum(job.spikes.nbytes for job in queue)
        if len(queue):
            self._queues.move_to_end(group)
        else:
            del self._queues[group]
        if plan.too_late:
            self.expired += len(plan.too_late)
            late = [(job, _too_late(job, now)) for job in plan.too_late]
            self._post(late)
            if not plan.batch:
                model.doubt()
        self._busy_until = now + model.cost.batch_s(len(plan.batch))
        return plan.batch

    def _run(self, group: _Group, jobs: list[_Job]) -> None:
        started = time.monotonic()
        try:
            spikes = np.stack([job.spikes for job in jobs], axis=1)
            rows = zip(jobs, group.tail.classify(spikes), strict=True)
            tail_s = time.monotonic() - started
            outcomes = [
                (job, TailAnswer(row, round(1e6 * (started - job.arrived)), round(1e6 * tail_s)))
                for job, row in rows
            ]
        except Exception as error:  # out of memory and the like; or one of them is to blame
            log.exception("tail failed", extra=fields(images=len(jobs)))
            if len(jobs) == 1:
                self._post([(jobs[0], OverloadedError(f"the tail failed: {error}"))])
                return
            middle = len(jobs) // 2
            self._run(group, jobs[:middle])
            self._run(group, jobs[middle:])
            return
        with self._changed:
            self._cost(group).learn(Measured(len(jobs), tail_s))
        self._post(outcomes)

    def _post(
        self,
        outcomes: Sequence[_Outcome],
        pings: "Sequence[asyncio.Future[None]]" = (),
        dead: Exception | None = None,
    ) -> None:
        """Hand outcomes to the event loop, all in one call."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(_settle, outcomes, pings, dead)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("answers came after the end")


def _too_late(job: _Job, now: float) -> DeadlineError:
    if job.deadline is not None and now > job.deadline:
        return DeadlineError(f"waited {now - job.arrived:.3f} s, past its deadline")
    return DeadlineError(
        f"waited {now - job.arrived:.3f} s, and its batch would end past its deadline: allow more "
        "time"
    )


def _settle(
    outcomes: Sequence[_Outcome],
    pings: "Sequence[asyncio.Future[None]]",
    dead: Exception | None,
) -> None:
    for job, outcome in outcomes:
        if job.answer.done():  # whoever asked is gone
            continue
        if isinstance(outcome, Exception):
            job.answer.set_exception(outcome)
        else:
            job.answer.set_result(outcome)
    for ping in pings:
        if ping.done():
            continue
        if dead is None:
            ping.set_result(None)
        else:
            ping.set_exception(dead)
