"""What waits for the tails: who may join, which batch goes next, and on how many threads.

A batch runs on one thread, beside as many others as there are lanes, so that no thread of a batch
waits for another that the event loop holds up. A single image with nothing beside it is the
exception: it has every thread, as there a second one makes the answer come sooner. What waits
is dealt evenly to the lanes that are free.

The room keeps no clock and no lock: the caller has both.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from cloud_node.batching import FairQueue, Plan, Sender, next_batch, start_at
from cloud_node.cost import CostModel, Measured
from cloud_node.job import Job
from spikebottlenet.errors import OverloadedError
from spikebottlenet.rpc.chances import to_chances
from spikebottlenet.runtime.scores import Probabilities, best_of_each
from spikebottlenet.runtime.tail_engine import TailEngine

_SHORTEST_RETRY_S = 0.01
_SOON_S = 0.015  # that the event loop can be without its turn


@dataclass(frozen=True)
class BatchLimits:
    """How batches are made, and how much may wait for one."""

    max_batch: int = 32
    max_batch_s: float = math.inf  # that its images take together; one image may take longer
    max_waiting: int = 512  # images
    max_waiting_bytes: int = 64 * 1024 * 1024  # of their spikes, a byte each
    max_queue_s: float = 0.5  # estimated wait above which an image is refused
    min_waiting: int = 32  # that many may wait however long it takes
    max_wait_s: float = 0.0  # a free lane waits so long for a fuller batch
    lanes: int = 1  # batches that run at once


def found_in(probabilities: Probabilities) -> list[tuple[list[int], list[int]]]:
    """Classes and chances of each image [B, classes], as a :class:`TailAnswer` has them."""
    classes, best = best_of_each(probabilities)
    none = np.isnan(best[:, 0])  # all of an image's are numbers, or none, as a softmax makes them
    if none.any():
        best = np.where(none[:, None], 0, best)
    chances = to_chances(best).tolist()
    for place in np.flatnonzero(none):
        chances[place] = []
    return list(zip(classes.tolist(), chances, strict=True))


def _turn_of(most: int) -> int:
    """Images of a turn where a batch has so many at most: half of them, so that a stream shares a
    batch with another that waits, and turns do not get longer with larger batches.
    """
    return (most + 1) // 2


class Group(NamedTuple):
    """What can go through together."""

    tail: TailEngine
    timesteps: int
    image_bytes: int  # of an image's spikes


class Batch(NamedTuple):
    """What a lane is to run, and what need not be computed; either may be empty."""

    group: Group
    jobs: list[Job]
    too_late: list[Job]
    alone: bool  # it has every thread
    crowded: bool  # every lane has a batch now


class _Running(NamedTuple):
    until: float  # estimated, monotonic seconds
    alone: bool


class WaitingRoom:
    """Queues by group, and the batches that run."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._queues: OrderedDict[Group, FairQueue[Job]] = OrderedDict()  # none is empty
        self._costs: WeakKeyDictionary[TailEngine, dict[tuple[int, bool], CostModel]] = (
            WeakKeyDictionary()
        )
        self._running: dict[int, _Running] = {}  # by lane
        self._at_risk: list[Job] = []

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    @property
    def calls(self) -> bool:
        """Whether something waits that a free lane could take."""
        return bool(self._queues) and len(self._running) < self._limits.lanes

    def join(
        self, group: Group, sender: Sender, jobs: Sequence[Job], now: float
    ) -> list[tuple[Job, OverloadedError]]:
        """Put images that have come together behind their sender's others; those that may not wait
        and why.
        """
        error = self._refuses(group, sender, now, len(jobs))
        if error is None:
            self.push(group, sender, *jobs)
            return []
        for place, job in enumerate(jobs):
            if len(jobs) > 1:
                error = self._refuses(group, sender, now)
            if error is not None:  # as it is for those behind it
                return [(other, error) for other in jobs[place:]]
            self.push(group, sender, job)
        return []

    def _refuses(
        self, group: Group, sender: Sender, now: float, images: int = 1
    ) -> OverloadedError | None:
        """Why the last of so many more images of this sender may not wait, and when to try again;
        None if it may.
        """
        limits, more = self._limits, images - 1
        waiting = held = more
        used_bytes = held_bytes = more * group.image_bytes
        for each, queue in self._queues.items():
            all_, mine = len(queue), queue.held(sender.client)
            waiting, held = waiting + all_, held + mine
            used_bytes += each.image_bytes * all_
            held_bytes += each.image_bytes * mine
        wait_s, ahead = self._wait(group, sender, images, now)
        free, free_bytes = limits.max_waiting - waiting, limits.max_waiting_bytes - used_bytes
        # As of the places of a server: each holds as many as are still free, so others find some.
        greedy = held >= limits.min_waiting
        if free <= 0 or (greedy and held >= free):
            found, setting = f"{waiting} images wait already, {held} of them yours", "max_waiting"
        elif group.image_bytes > free_bytes or (greedy and held_bytes >= free_bytes):
            found, setting = f"{used_bytes} bytes wait already", "max_waiting_bytes"
        elif limits.max_queue_s < wait_s and min(ahead, waiting) >= limits.min_waiting:
            found, setting = f"an answer would take {wait_s:.2f} s", "max_queue_ms"
        else:
            return None
        return OverloadedError(
            f"{found}: try again later, or raise {setting}",
            retry_after_s=max(_SHORTEST_RETRY_S, wait_s / 2),
        )

    def _wait(self, group: Group, sender: Sender, images: int, now: float) -> tuple[float, int]:
        """Seconds until the last of so many images of this sender would be answered, and the images
        before it.
        """
        lanes, waiting = self._limits.lanes, len(self)
        queue = self._queues.get(group)
        ahead = queue.ahead_of(sender, images) if queue else images - 1
        others = len(self._queues) - (queue is not None)
        model = self._cost(group, alone=lanes == 1)
        cost, most = model.cost, self._most(model)
        batches = ahead // most + 1  # groups take turns
        ahead += min(waiting - len(queue or ()), others * batches * self._limits.max_batch)
        ends = [max(0.0, running.until - now) for running in self._running.values()]
        free_in_s = min(ends) if len(ends) >= lanes else 0.0
        share = -(-(ahead + 1) // lanes)
        return free_in_s + cost.queue_s(share, most), ahead

    def _most(self, model: CostModel) -> int:
        """Images of a batch, at most."""
        limits = self._limits
        return max(1, int(min(limits.max_batch, model.images_within(limits.max_batch_s))))

    def takes_at_once(self, group: Group, deadline: float | None, now: float) -> bool:
        """Whether an image that comes now has nothing beside it, and is so soon done that the
        event loop can wait for it.
        """
        if self._queues or self._running or self._limits.max_wait_s:
            return False
        takes_s = self._cost(group, alone=True).cost.batch_s(1)
        return 0 < takes_s <= _SOON_S and (deadline is None or now + takes_s <= deadline)

    def taken_at_once(self, group: Group, seconds: float) -> None:
        """Take in how long such an image took."""
        self._cost(group, alone=True).learn(Measured(1, seconds))

    def push(self, group: Group, sender: Sender, *jobs: Job) -> None:
        """Put images behind their sender's others."""
        queue = self._queues.get(group)
        if queue is None:
            model = self._cost(group, alone=self._limits.lanes == 1)
            queue = self._queues[group] = FairQueue(_turn_of(self._most(model)))
        queue.push(sender, *jobs)

    def take(self, lane: int, now: float) -> Batch | float:
        """The next batch of a free lane, or the seconds until there may be one."""
        if any(running.alone for running in self._running.values()):
            return math.inf
        limits, soonest = self._limits, math.inf
        alone = limits.lanes == 1 or (not self._running and len(self) == 1)
        share = limits.lanes - len(self._running)
        for group, queue in self._queues.items():
            model = self._cost(group, alone=alone)
            most = self._most(model)
            size = min(most, -(-len(queue) // share))
            begins = start_at(queue, max_batch=most, max_wait_s=limits.max_wait_s, cost=model.cost)
            if begins <= now:
                queue.set_turn(_turn_of(most))
                return self._taken(lane, group, queue, size=size, alone=alone, now=now)
            soonest = min(soonest, begins - now)
        return soonest

    def _taken(
        self, lane: int, group: Group, queue: FairQueue[Job], *, size: int, alone: bool, now: float
    ) -> Batch:
        model = self._cost(group, alone=alone)
        self._at_risk = list(queue)  # until each is in a plan or back
        plan: Plan[Job] = next_batch(queue, max_batch=size, cost=model.cost, now=now)
        self._at_risk = []
        if len(queue):
            self._queues.move_to_end(group)
        else:
            del self._queues[group]
        if plan.too_late and not plan.batch:
            model.doubt()
        if plan.batch:
            until = now + model.cost.batch_s(len(plan.batch))
            self._running[lane] = _Running(until, alone)
        crowded = len(self._running) >= self._limits.lanes
        return Batch(group, plan.batch, plan.too_late, alone, crowded)

    def ended(self, lane: int, batch: Batch, seconds: float | None) -> None:
        """Take a lane's batch off, and how long it took; None: it did not go through."""
        self._running.pop(lane, None)
        if seconds is not None:
            self._cost(batch.group, alone=batch.alone).learn(Measured(len(batch.jobs), seconds))

    def clear(self) -> list[Job]:
        """Everything that waits, which waits no more."""
        left = [job for queue in self._queues.values() for job in queue]
        left += [job for job in self._at_risk if not any(job is other for other in left)]
        self._queues.clear()
        self._at_risk = []
        return left

    def _cost(self, group: Group, *, alone: bool) -> CostModel:
        costs = self._costs.get(group.tail)
        if costs is None:
            costs = self._costs[group.tail] = {}
        model = costs.get((group.timesteps, alone))
        if model is None:
            model = costs[group.timesteps, alone] = CostModel()
        return model
