"""A replica of the tails: images come one by one from the ingress and go through in batches."""

import asyncio
import time
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from ray import serve

from cloud_node.job import TailAnswer
from cloud_node.models import load_model
from cloud_node.ray_serve.settings import RaySettings
from cloud_node.waiting import found_in
from spikebottlenet.bundle import bundle_folders

_LEAST_WAIT_S = 0.001  # with none, Ray takes one image at a time, however many wait


class TailJob(NamedTuple):
    """One image on its way to a replica."""

    fingerprint: str  # of its model
    timesteps: int
    spikes: bytes  # [t, C, H, W], a bit each
    arrived: float = 0.0  # monotonic seconds, by the replica's clock


class TailReplica:
    """Every model's tail in a process of its own; Ray Serve makes as many as are wanted."""

    def __init__(self, settings: RaySettings) -> None:
        models = [load_model(f, settings.tail_options()) for f in bundle_folders(settings.bundle)]
        self._models = {model.bundle.fingerprint: model for model in models}
        self._threads = settings.tail_threads
        self._idle = asyncio.Event()
        self._idle.set()
        self._run.set_max_batch_size(settings.max_batch)
        wait_s = max(_LEAST_WAIT_S, settings.max_wait_ms / 1e3)
        self._run.set_batch_wait_timeout_s(wait_s)

    async def classify(self, job: TailJob) -> TailAnswer:
        """The answer to one image."""
        job = job._replace(arrived=time.monotonic())
        # Ray makes up batches while one runs, of whatever comes within its short wait: what comes
        # meanwhile is kept back, so that it goes together.
        await self._idle.wait()
        answer: TailAnswer = await self._run(job)
        return answer

    @serve.batch  # type: ignore[untyped-decorator]
    async def _run(self, jobs: list[TailJob]) -> list[TailAnswer]:
        self._idle.clear()
        try:
            return await asyncio.to_thread(self._answers, jobs)
        finally:
            self._idle.set()

    def _answers(self, jobs: Sequence[TailJob]) -> list[TailAnswer]:
        """Answers in the order of the jobs; those of one model and length go through together."""

        def group(index: int) -> tuple[str, int]:
            return jobs[index].fingerprint, jobs[index].timesteps

        answers: dict[int, TailAnswer] = {}
        for (fingerprint, timesteps), members in groupby(
            sorted(range(len(jobs)), key=group), group
        ):
            together = list(members)
            model, started = self._models[fingerprint], time.monotonic()
            shape = (timesteps, *tuple(model.codec.shape)[1:])
            bits = [np.frombuffer(jobs[index].spikes, np.uint8) for index in together]
            spikes = [np.unpackbits(b, count=int(np.prod(shape))).reshape(shape) for b in bits]
            rows = model.tail.classify(np.stack(spikes, axis=1), threads=self._threads)
            tail_us = round(1e6 * (time.monotonic() - started))
            for index, found in zip(together, found_in(rows), strict=True):
                queue_us = round(1e6 * (started - jobs[index].arrived))
                answers[index] = TailAnswer(*found, queue_us, tail_us, len(together))
        return [answers[index] for index in range(len(jobs))]
