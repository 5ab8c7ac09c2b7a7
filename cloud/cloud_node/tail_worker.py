"""The tails in lanes: threads that each take a batch of what waits as soon as they are free.

A lane takes its next batch itself and posts a batch's answers to the event loop at once, so that no
turn of the loop stands between two batches.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import numpy as np

from cloud_node.batching import Sender
from cloud_node.cores import LaneCores
from cloud_node.job import Image, Job, Outcome, Spikes, TailAnswer, decoded
from cloud_node.waiting import (
    Batch,
    BatchLimits,
    Group,
    WaitingRoom,
    found_in,
)
from spikebottlenet.errors import (
    CorruptFrameError,
    DeadlineError,
    OverloadedError,
    UnavailableError,
)
from spikebottlenet.logs import fields
from spikebottlenet.runtime.tail_engine import TailEngine

log = logging.getLogger(__name__)

_NOBODY = Sender("nobody")

_Outcome = tuple[Job, Outcome]

# Decodes images of one model, or says what is wrong with one.
DecodeEach = Callable[[Sequence[Any]], Sequence[Spikes | CorruptFrameError]]


class TailWorker:
    """A bounded queue before the tails, and the lanes that serve it."""

    def __init__(
        self,
        limits: BatchLimits | None = None,
        *,
        threads: int = 1,
        decode: DecodeEach | None = None,
    ) -> None:
        self._limits = limits or BatchLimits()
        self._decode_each = decode or _each_by_itself
        self._threads = threads  # of a batch that has them all
        self._changed = threading.Condition()  # guards the room and the pings
        self._room = WaitingRoom(self._limits)
        self._pings: list[list[asyncio.Future[None]]] = [[] for _ in range(self._limits.lanes)]
        self._ended = False
        self._lanes: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self.expired = 0  # dropped before they were computed
        self.batches: dict[int, int] = {}  # that went through a tail, by their size

    @property
    def waiting(self) -> int:
        """Images that wait for a tail."""
        with self._changed:
            return len(self._room)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["TailWorker"]:
        """Serve the queue until the block ends; what still waits then is told so."""
        self._loop = asyncio.get_running_loop()
        for lane in range(self._limits.lanes):
            thread = threading.Thread(target=self._work, args=(lane,), name="tail", daemon=True)
            self._lanes.append(thread)
            thread.start()
        try:
            yield self
        finally:
            with self._changed:
                self._ended = True
                left = self._room.clear()
                self._changed.notify_all()
            for job in left:
                job.settle(_stopped())
            for thread in self._lanes:
                await asyncio.to_thread(thread.join)

    async def alive(self) -> None:
        """Return once every lane has had a turn.

        Raises:
            RuntimeError: nobody serves the queue any more.
        """
        loop = asyncio.get_running_loop()
        with self._changed:
            if self._ended or not self._lanes or not all(lane.is_alive() for lane in self._lanes):
                raise RuntimeError("the tail's thread has ended")
            pings = [loop.create_future() for _ in self._lanes]
            for waiting, ping in zip(self._pings, pings, strict=True):
                waiting.append(ping)
            self._changed.notify_all()
        await asyncio.gather(*pings)

    def ask(
        self,
        tail: TailEngine,
        jobs: Sequence[Job],
        *,
        sender: Sender = _NOBODY,
        alone: bool = False,
    ) -> None:
        """Have each image answered by a model's tail; it is decoded once admitted.

        One that is ``alone``, no other being under way, runs here and now if it is soon done: to a
        lane and back are two wake-ups, a tenth of the tail's time.

        A job may be told:
            OverloadedError: too many wait already, or the tail failed.
            CorruptFrameError: its spikes cannot be decoded.
            DeadlineError: it could not be answered in time.
            UnavailableError: the worker has ended, or did before it was computed.
        """
        now = time.monotonic()
        for job in jobs:
            job.begin(now)
        if alone and len(jobs) == 1 and self._answers_now(tail, jobs[0]):
            return
        told: list[_Outcome] = []
        with self._changed:
            for group, alike in _by_group(tail, jobs):
                if self._ended:
                    told += [(job, _stopped()) for job in alike]
                else:
                    told += self._room.join(group, sender, alike, now)
                    self._changed.notify()
        _settle(told, (), None)

    def _answers_now(self, tail: TailEngine, job: Job) -> bool:
        """Answer an image that comes at this moment, if it is soon done and nothing goes before."""
        image = job.image
        group = Group(tail, image.timesteps, image.spike_bytes)
        with self._changed:
            if self._ended or not self._room.takes_at_once(group, job.deadline, job.arrived):
                return False
        outcome = self._outcome_of(tail, job)
        _settle([(job, outcome)], (), None)
        if isinstance(outcome, TailAnswer):  # which is on its way when that is taken in
            asyncio.get_running_loop().call_soon(self._note_one, group, outcome.tail_us / 1e6)
        return True

    def _outcome_of(self, tail: TailEngine, job: Job) -> Outcome:
        spikes = decoded(job.image)
        if isinstance(spikes, CorruptFrameError):
            return spikes
        started = time.monotonic()
        try:
            rows = tail.classify(spikes[:, None], threads=self._threads)
            ((classes, chances),) = found_in(rows)
        except Exception as error:
            log.exception("tail failed", extra=fields(images=1))
            return OverloadedError(f"the tail failed: {error}")
        tail_s = time.monotonic() - started
        return TailAnswer(classes, chances, _us(started - job.arrived), _us(tail_s), 1)

    def _note_one(self, group: Group, tail_s: float) -> None:
        with self._changed:
            self._room.taken_at_once(group, tail_s)
            self.batches[1] = self.batches.get(1, 0) + 1

    def _work(self, lane: int) -> None:
        """Run batches until the end; a lane's whole life."""
        cores = LaneCores(lane, self._limits.lanes)
        try:
            while self._serve_one(lane, cores):
                pass
        finally:
            with self._changed:
                self._ended = True
                left = self._room.clear()
                pings = [ping for waiting in self._pings for ping in waiting]
                self._pings = [[] for _ in self._pings]
                self._changed.notify_all()
            lost = [(job, _stopped()) for job in left]
            self._post(lost, pings, RuntimeError("the thread has ended"))

    def _serve_one(self, lane: int, cores: LaneCores) -> bool:
        """Run one batch, and keep hold of nothing of it: a model that is changed must go."""
        batch = self._take(lane)
        if batch is None:
            return False
        seconds: float | None = None
        try:
            whole = batch.alone or self._limits.lanes == 1
            cores.take(every=whole or not batch.crowded)
            seconds = self._run(batch.group, batch.jobs, self._threads if whole else 1)
        except BaseException:
            self._post([(job, _stopped()) for job in batch.jobs])
            raise
        finally:
            with self._changed:
                self._room.ended(lane, batch, seconds)
                if batch.alone:  # whoever came meanwhile waited for all threads
                    self._changed.notify_all()
        return True

    def _take(self, lane: int) -> Batch | None:
        """Wait for the next batch; None at the end."""
        with self._changed:
            while not self._ended:
                if self._pings[lane]:
                    pings, self._pings[lane] = self._pings[lane], []
                    self._post([], pings)
                now = time.monotonic()
                taken = self._room.take(lane, now)
                if not isinstance(taken, Batch):
                    self._changed.wait(None if math.isinf(taken) else taken)
                    continue
                if taken.too_late:
                    self.expired += len(taken.too_late)
                    self._post([(job, _too_late(job, now)) for job in taken.too_late])
                if taken.jobs:
                    if self._room.calls:
                        self._changed.notify()
                    return taken
                del taken  # nothing of a model is held while this waits
        return None

    def _run(self, group: Group, jobs: list[Job], threads: int) -> float | None:
        """Run a batch and post its answers; seconds it took, None where it failed."""
        began = time.monotonic()
        try:
            jobs, spikes_of = self._decode(jobs)
            if not jobs:
                return None
            started = time.monotonic()
            spikes = np.stack(spikes_of, axis=1)
            found = found_in(group.tail.classify(spikes, threads=threads))
            tail_s = time.monotonic() - started
            tail_us, size = _us(tail_s), len(jobs)
            outcomes: list[_Outcome] = [
                (job, TailAnswer(classes, chances, _us(started - job.arrived), tail_us, size))
                for job, (classes, chances) in zip(jobs, found, strict=True)
            ]
        except Exception as error:  # out of memory and the like; or one of them is to blame
            log.exception("tail failed", extra=fields(images=len(jobs)))
            if len(jobs) == 1:
                self._post([(jobs[0], OverloadedError(f"the tail failed: {error}"))])
                return None
            middle = len(jobs) // 2
            self._run(group, jobs[:middle], threads)
            self._run(group, jobs[middle:], threads)
            return None
        with self._changed:
            self.batches[len(jobs)] = self.batches.get(len(jobs), 0) + 1
        self._post(outcomes)
        return tail_s + started - began

    def _decode(self, jobs: list[Job]) -> tuple[list[Job], list[Spikes]]:
        """The spikes of those that can be decoded; the others are answered.

        Here and not as they come, as one after another takes half the time that it takes among all
        that the event loop does.
        """
        good: list[Job] = []
        spikes_of: list[Spikes] = []
        found = self._decode_each([job.image for job in jobs])
        for job, spikes in zip(jobs, found, strict=True):
            if isinstance(spikes, CorruptFrameError):
                self._post([(job, spikes)])
            else:
                good.append(job)
                spikes_of.append(spikes)
        return good, spikes_of

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


def _each_by_itself(images: Sequence[Image]) -> list[Spikes | CorruptFrameError]:
    return [decoded(image) for image in images]


def _by_group(tail: TailEngine, jobs: Sequence[Job]) -> Iterator[tuple[Group, list[Job]]]:
    for timesteps, alike in groupby(jobs, lambda job: job.image.timesteps):
        images = list(alike)
        yield Group(tail, timesteps, images[0].image.spike_bytes), images


def _stopped() -> UnavailableError:
    return UnavailableError("the tail has stopped: send it to another cloud-node")


def _us(seconds: float) -> int:
    return round(1e6 * seconds)


def _too_late(job: Job, now: float) -> DeadlineError:
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
        try:
            job.settle(outcome)
        except Exception:  # a mistake of ours costs no other its answer
            log.exception("an image was not told what came of it")
    for ping in pings:
        if ping.done():
            continue
        if dead is None:
            ping.set_result(None)
        else:
            ping.set_exception(dead)
