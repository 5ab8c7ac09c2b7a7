"""Tails in other processes: an image goes to a replica, and to another if that one dies."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from cloud_node.batching import Sender
from cloud_node.job import Image, Job, TailAnswer
from cloud_node.models import ServedModel
from cloud_node.ray_serve.replica import TailJob
from spikebottlenet.bundle import Bundle
from spikebottlenet.errors import (
    DeadlineError,
    OverloadedError,
    SpikeBottleNetError,
    UnavailableError,
)
from spikebottlenet.runtime.scores import Probabilities
from spikebottlenet.runtime.tail_engine import TailEngine

log = logging.getLogger(__name__)

_PATIENCE_S = 30.0  # of an image without a deadline, while replicas die and start
_PAUSE_S = 0.05
_RETRY_S = 0.1  # a guess: how long until a place is free


class RemoteTail:
    """Stands for a model's tail where only its replicas hold the weights."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def classify(self, spikes: Any, *, threads: int = 0) -> Probabilities:
        """Nothing is computed here.

        Raises:
            UnavailableError: always.
        """
        raise UnavailableError("the tail is in its replicas: ask RemoteTails")


def remote_model(bundle: Bundle) -> ServedModel:
    """A model whose tail is elsewhere."""
    return ServedModel(bundle, bundle.codec(), RemoteTail(bundle.fingerprint))


class RemoteTails:
    """The replicas behind a Ray Serve handle."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle  # of the deployment of TailReplica
        self.expired = 0
        self.waiting = 0  # images, for a replica or in one
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, tail: TailEngine, jobs: Sequence[Job], *, sender: Sender, alone: bool) -> None:
        """Have each image answered as :meth:`classify` answers it."""
        for job in jobs:
            job.begin(time.monotonic())
            task = asyncio.create_task(self._answer(tail, job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, tail: TailEngine, job: Job) -> None:
        try:
            job.settle(await self.classify(tail, job.image, deadline_s=job.within_s))
        except SpikeBottleNetError as error:
            job.settle(error)
        except Exception as error:
            log.exception("replicas failed")
            job.settle(OverloadedError(f"the tail failed: {error}", retry_after_s=_RETRY_S))

    async def classify(
        self, tail: TailEngine, image: Image, *, deadline_s: float | None
    ) -> TailAnswer:
        """The best classes of an image.

        Whichever replica takes it computes it; one that dies with it costs a try, as an image may
        be computed twice without harm.

        Raises:
            OverloadedError: too many wait already, or the tail failed.
            CorruptFrameError: its spikes cannot be decoded.
            DeadlineError: it could not be answered within ``deadline_s`` seconds.
            UnavailableError: no replica lived long enough to answer it.
        """
        assert isinstance(tail, RemoteTail)  # noqa: S101, remote_model makes no other
        spikes = np.packbits(image.spikes()).tobytes()
        job = TailJob(tail.fingerprint, image.timesteps, spikes)
        patience_s = _PATIENCE_S if deadline_s is None else deadline_s
        give_up, lost = time.monotonic() + patience_s, "none answered"
        self.waiting += 1
        try:
            async with asyncio.timeout(patience_s):
                while time.monotonic() < give_up:
                    try:
                        answer: TailAnswer = await self._handle.classify.remote(job)
                        return answer
                    except (RayActorError, DeploymentUnavailableError) as error:
                        lost = str(error).partition("\n")[0]
                        await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            if deadline_s is not None:
                self.expired += 1
                raise DeadlineError(f"not answered within {deadline_s:.3f} s") from None
        except BackPressureError as error:
            raise OverloadedError(
                f"{error.message}; try again later, or raise max_waiting", retry_after_s=_RETRY_S
            ) from error
        except RayError as error:
            raise OverloadedError(f"the tail failed: {error}", retry_after_s=_RETRY_S) from error
        finally:
            self.waiting -= 1
        raise UnavailableError(f"no replica of the tails answered: {lost}; send it again")
