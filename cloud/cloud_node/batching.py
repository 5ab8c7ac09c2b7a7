"""Which images go through the tail next, and how long one would wait: policy without a clock.

Who waits takes turns on three levels: batches of different groups (a model and a number of
timesteps), in a group the clients, of a client its streams. So one that has 500 waiting delays one
that has a single image by a turn, not by 500.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, Protocol, TypeVar

from cloud_node.cost import Cost


class Sender(NamedTuple):
    """Whose turn an image takes."""

    client: str
    stream: bytes = b""


class Waiting(Protocol):
    """What the policy knows of an image."""

    @property
    def arrived(self) -> float:
        """Since when it waits, on the caller's clock."""

    @property
    def deadline(self) -> float | None:
        """When its answer is worth nothing any more, on the caller's clock."""

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""


J = TypeVar("J", bound=Waiting)


class _Turns:
    """How many of several queues have a first image, a second one, and so on.

    So what others have before somebody's n-th turn is a sum over n turns, not over all others.
    """

    def __init__(self) -> None:
        self._having: list[int] = []  # by turn, from the first on

    def added(self, length: int) -> None:
        """A queue has grown to this length."""
        if length > len(self._having):
            self._having.append(0)
        self._having[length - 1] += 1

    def taken(self, length: int) -> None:
        """A queue has shrunk from this length."""
        self._having[length - 1] -= 1
        while self._having and not self._having[-1]:
            self._having.pop()

    @property
    def longest(self) -> int:
        """Of the queues."""
        return len(self._having)

    def before(self, turn: int) -> int:
        """Images of the first so many turns."""
        return sum(islice(self._having, turn))


class FairQueue(Generic[J]):
    """Images of one group; clients take turns, and so do the streams of each.

    A turn, of a client as of a stream, is one image, or several while everybody's turns still fit
    into ``room`` images, those of the batches that run side by side: what goes through together of
    one stream is answered in one message.
    """

    def __init__(self, room: int = 1) -> None:
        self._room = room
        self._turn = 1  # images
        self._of_turn = 0  # that the first client has had of its turn
        self._of_stream: dict[str, int] = {}  # the first stream of each client, of its turn
        self._streams = _Turns()  # clients by how many streams they have here
        self._clients: OrderedDict[str, OrderedDict[bytes, deque[J]]] = OrderedDict()
        self._held: dict[str, int] = {}
        self._by_client = _Turns()
        self._by_stream: dict[str, _Turns] = {}  # of each client
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def held(self, client: str) -> int:
        """Images of this client that wait."""
        return self._held.get(client, 0)

    def push(self, sender: Sender, job: J) -> None:
        """Put an image behind its sender's others."""
        streams = self._clients.setdefault(sender.client, OrderedDict())
        jobs = streams.get(sender.stream)
        if jobs is None:
            jobs = streams[sender.stream] = deque()
            self._streams.added(len(streams))
        jobs.append(job)
        held = self._held[sender.client] = self._held.get(sender.client, 0) + 1
        self._by_stream.setdefault(sender.client, _Turns()).added(len(jobs))
        self._by_client.added(held)
        self._size += 1

    def deal(self) -> None:
        """Fit the length of a turn to who waits now."""
        self._turn = self._fitting(len(self._clients), self._streams.longest)

    def _fitting(self, clients: int, streams: int) -> int:
        """Images of a turn with so many clients, and so many streams of the one that has most."""
        return max(1, self._room // max(1, clients * streams))

    def pop(self) -> J:
        """Take the image whose turn it is.

        Raises:
            StopIteration: none waits.
        """
        client, streams = next(iter(self._clients.items()))
        stream, jobs = next(iter(streams.items()))
        self._by_stream[client].taken(len(jobs))
        self._by_client.taken(self._held[client])
        job = jobs.popleft()
        self._size -= 1
        self._held[client] -= 1
        self._end_turns(client, stream)
        return job

    def _end_turns(self, client: str, stream: bytes) -> None:
        """Whoever has had its turn is the last now, and whoever has nothing more is gone."""
        streams = self._clients[client]
        of_stream = self._of_stream.get(client, 0) + 1
        self._of_turn += 1
        if not streams[stream]:
            self._streams.taken(len(streams))
            del streams[stream]
            of_stream = 0
        elif of_stream >= self._turn:
            streams.move_to_end(stream)
            of_stream = 0
        self._of_stream[client] = of_stream
        if not streams:
            del self._clients[client], self._held[client]
            del self._by_stream[client], self._of_stream[client]
            self._of_turn = 0
        elif self._of_turn >= self._turn:
            self._clients.move_to_end(client)
            self._of_turn = 0

    def ahead_of(self, sender: Sender) -> int:
        """Images that would go before one more of this sender's, or with the same turn."""
        queues = self._clients.get(sender.client)
        mine = len(queues.get(sender.stream, ())) if queues else 0
        held = self._held.get(sender.client, 0)
        own_streams = len(queues or ()) + (mine == 0)
        clients = len(self._clients) + (queues is None)
        turn = self._fitting(clients, max(self._streams.longest, own_streams))
        # What is this sender's own is in the sums as well.
        streams = self._by_stream.get(sender.client)
        own = streams.before(_whole(mine + 1, turn)) if streams else 0
        until = _whole(own + 1, turn)
        return own + self._by_client.before(until) - min(held, until)

    def __iter__(self) -> Iterator[J]:
        """All that wait, in no order."""
        return (
            job for streams in self._clients.values() for jobs in streams.values() for job in jobs
        )


def _whole(images: int, turn: int) -> int:
    """Images of the turns that it takes until so many have gone."""
    return -(-images // turn) * turn


@dataclass(frozen=True)
class Plan(Generic[J]):
    """The next batch, and what need not be computed."""

    batch: list[J]
    too_late: list[J]  # cannot be answered before their deadlines


def next_batch(queue: FairQueue[J], *, max_batch: int, cost: Cost, now: float) -> Plan[J]:
    """Take the next batch off a queue.

    A batch gets smaller, down to half of what could go, to meet its earliest deadline. An image
    that cannot be met even so is given up before it is computed, unless so many others are given up
    that it can be met after all.
    """
    plan: Plan[J] = Plan([], [])
    tight: list[J] = []  # would need a batch of less than half
    live = sum(not job.abandoned for job in queue)
    soonest = float("inf")
    while queue and len(plan.batch) < max_batch:
        size = len(plan.batch) + 1
        least = (min(max_batch, len(plan.batch) + live) + 1) // 2
        if size > least and now + cost.batch_s(size) > soonest:
            break
        job = queue.pop()
        if job.abandoned:
            continue
        live -= 1
        if job.deadline is not None:
            if now + cost.batch_s(max(least, size)) > job.deadline:
                tight.append(job)
                continue
            soonest = min(soonest, job.deadline)
        plan.batch.append(job)
    for job in tight:
        end = now + cost.batch_s(len(plan.batch) + 1)
        if job.deadline is not None and end <= min(soonest, job.deadline):
            soonest = min(soonest, job.deadline)
            plan.batch.append(job)
        else:
            plan.too_late.append(job)
    return plan


def start_at(queue: FairQueue[J], *, max_batch: int, max_wait_s: float, cost: Cost) -> float:
    """When the next batch of a queue that is not empty is to begin, on the clock of its images.

    At once when it is full or nothing is to be waited for; else when its oldest image has waited
    ``max_wait_s``, or sooner where an earliest deadline could else not be met.
    """
    if not max_wait_s or len(queue) >= max_batch:
        return -math.inf
    live = [job for job in queue if not job.abandoned]
    latest = min((job.arrived for job in live), default=-math.inf) + max_wait_s
    due = min((job.deadline for job in live if job.deadline is not None), default=math.inf)
    return min(latest, due - cost.batch_s(len(live) + 1))
