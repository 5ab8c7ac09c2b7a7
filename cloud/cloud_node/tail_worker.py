"""The tails in one worker thread; images of one model that wait together go through together."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.errors import DeadlineError, OverloadedError
from spikebottlenet.runtime.scores import Probabilities
from spikebottlenet.runtime.torch_tail import TorchTail

Spikes = npt.NDArray[np.uint8]

log = logging.getLogger(__name__)

_FIRST_GUESS_S = 0.01
_SMOOTHED_OVER = 16  # batches


class TailAnswer(NamedTuple):
    """What the tail said of one image."""

    probabilities: Probabilities  # [classes]
    queue_us: int  # waited, microseconds
    tail_us: int  # of the batch, microseconds


@dataclass(frozen=True)
class _Job:
    tail: TorchTail
    spikes: Spikes  # [t, C, H, W]
    arrived: float  # monotonic seconds
    deadline: float | None  # monotonic seconds
    answer: "asyncio.Future[TailAnswer]"


class TailWorker:
    """A bounded queue before the tails."""

    def __init__(self, *, max_batch: int, max_waiting: int) -> None:
        self._max_batch = max_batch
        self._waiting: asyncio.Queue[_Job] = asyncio.Queue(max_waiting)
        self._thread: ThreadPoolExecutor | None = None
        self._serving: asyncio.Task[None] | None = None
        self._image_s = _FIRST_GUESS_S  # of late
        self.expired = 0  # dropped before they were computed

    @asynccontextmanager
    async def running(self) -> AsyncIterator["TailWorker"]:
        """Serve the queue until the block ends; what still waits then is cancelled."""
        with ThreadPoolExecutor(1, thread_name_prefix="tail") as thread:
            self._thread = thread
            self._serving = asyncio.create_task(self._serve(thread))
            try:
                yield self
            finally:
                self._serving.cancel()
                await asyncio.gather(self._serving, return_exceptions=True)

    async def alive(self) -> None:
        """Return once the thread has had a turn.

        Raises:
            RuntimeError: nobody serves the queue any more.
        """
        if self._serving is None or self._serving.done():
            raise RuntimeError("the tail's loop has ended")
        await asyncio.get_running_loop().run_in_executor(self._thread, int)

    async def classify(
        self, tail: TorchTail, spikes: Spikes, *, deadline_s: float | None
    ) -> TailAnswer:
        """Class probabilities of spikes [t, C, H, W] by a model's tail.

        Raises:
            OverloadedError: too many wait already.
            DeadlineError: its turn came after ``deadline_s`` seconds.
        """
        now = time.monotonic()
        answer: asyncio.Future[TailAnswer] = asyncio.get_running_loop().create_future()
        deadline = None if deadline_s is None else now + deadline_s
        try:
            self._waiting.put_nowait(_Job(tail, spikes, now, deadline, answer))
        except asyncio.QueueFull:
            raise OverloadedError(
                f"{self._waiting.maxsize} images wait already: try again later, or raise "
                "max_waiting",
                retry_after_s=self._image_s * self._waiting.maxsize / 2,
            ) from None
        return await answer

    async def _serve(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            jobs = [await self._waiting.get()]
            while len(jobs) < self._max_batch and not self._waiting.empty():
                jobs.append(self._waiting.get_nowait())
            started = time.monotonic()
            batches: dict[tuple[TorchTail, int], list[_Job]] = {}
            for job in jobs:
                if self._in_time(job, started):
                    batches.setdefault((job.tail, len(job.spikes)), []).append(job)
            for batch in batches.values():
                await self._run(loop, thread, batch)

    async def _run(
        self, loop: asyncio.AbstractEventLoop, thread: ThreadPoolExecutor, batch: list[_Job]
    ) -> None:
        started = time.monotonic()
        try:
            spikes = np.stack([job.spikes for job in batch], axis=1)
            probabilities = await loop.run_in_executor(thread, batch[0].tail.classify, spikes)
        except Exception as error:  # out of memory and the like; the next batch may fit
            log.exception("tail failed")
            for job in batch:
                _settle(job, OverloadedError(f"the tail failed: {error}"))
            return
        tail_s = time.monotonic() - started
        tail_us = round(1e6 * tail_s)
        self._image_s += (tail_s / len(batch) - self._image_s) / _SMOOTHED_OVER
        for job, row in zip(batch, probabilities, strict=True):
            _settle(job, TailAnswer(row, round(1e6 * (started - job.arrived)), tail_us))

    def _in_time(self, job: _Job, now: float) -> bool:
        if job.answer.done():  # whoever asked is gone
            return False
        if job.deadline is None or now <= job.deadline:
            return True
        self.expired += 1
        _settle(job, DeadlineError(f"waited {now - job.arrived:.3f} s, past its deadline"))
        return False


def _settle(job: _Job, outcome: TailAnswer | Exception) -> None:
    if job.answer.done():  # whoever asked is gone
        return
    if isinstance(outcome, Exception):
        job.answer.set_exception(outcome)
    else:
        job.answer.set_result(outcome)
