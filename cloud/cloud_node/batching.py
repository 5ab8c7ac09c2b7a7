"""Which images go through the tail next, and how long one would wait: policy without a clock.

Who waits takes turns on three levels: batches of different groups (a model and a number of
timesteps), in a group the clients, of a client its streams. So one that has 500 waiting delays one
that has a single image by a turn, not by 500.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
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
K = TypeVar("K", bound=Hashable)

_NEW_TURNS = 32  # of those that come, between two turns of those that had one


class _Turns(Generic[K]):
    """Whose turn of so many images it is among some queues: one that comes goes before those that
    had theirs, and then is one of them.

    What is left of its turn to a queue that was emptied in it is for its next images, which go
    before the others' too, until its place among those has passed. So one that sends an image at a
    time waits no longer than one that sends many, and has no more than they. Between two turns of
    the others new ones have so many and no more: those that come without end hold up nobody so.

    Source: the two lists of FQ-CoDel (RFC 8290, section 4.2).
    """

    def __init__(self, turn: int) -> None:
        self._turn = turn
        self._most_passed = _NEW_TURNS * turn
        self._new: OrderedDict[K, int] = OrderedDict()  # images of its turn; none is empty
        self._old: OrderedDict[K, int] = OrderedDict()  # images left to one that is empty
        self._now: K | None = None  # whose turn has begun
        self._left = 0  # images of it
        self._passed = 0  # images of new ones since a turn of the others

    def joins(self, key: K) -> None:
        """A queue has an image and had none."""
        left = self._old.get(key, self._turn)
        if left:
            self._old.pop(key, None)
            self._new[key] = left

    def next(self, waits: Callable[[K], bool]) -> K:
        """Whose turn it is, of those for which ``waits`` is true.

        Raises:
            StopIteration: none waits.
        """
        if self._now is not None:
            return self._now
        among = self._new
        if not self._new or self._passed >= self._most_passed:
            while self._old and not waits(next(iter(self._old))):
                self._old.popitem(last=False)
            among = self._old or self._new
        self._now = next(iter(among))
        self._left = self._new.get(self._now, self._turn)
        return self._now

    def taken(self, key: K, *, empty: bool) -> None:
        """The one whose turn it is has given an image."""
        self._left -= 1
        self._passed += key in self._new
        if self._left and not empty:
            return
        if self._new.pop(key, None) is None:
            self._passed = 0
        self._old[key] = self._left
        self._old.move_to_end(key)
        self._now = None

    def goes_before(self, key: K) -> bool:
        """Whether an image of this empty queue would go before those that had their turn."""
        return self._old.get(key, self._turn) > 0

    def others(self, key: K) -> int:
        """How many have had a turn of late or wait for one, but this."""
        return len(self._new) + len(self._old) - (key in self._new or key in self._old)

    def before_new(self, held: Callable[[K], int]) -> int:
        """Images before such a one, at most, where each queue holds so many."""
        of_new = sum(
            min(self._left if key == self._now else left, held(key))
            for key, left in self._new.items()
        )
        most = self._most_passed
        turns = (min(self._passed, most) + of_new) // most  # of the others, between theirs
        begun = 0 if self._now is None or self._now in self._new else self._left
        return of_new + begun + turns * self._turn


@dataclass
class _Client(Generic[J]):
    """One client's images."""

    turns: _Turns[bytes]
    streams: dict[bytes, deque[J]] = field(default_factory=dict)  # none is empty
    held: int = 0

    def of_stream(self, stream: bytes) -> int:
        """Images of one of its streams."""
        return len(self.streams.get(stream, ()))


class _Others(NamedTuple, Generic[K]):
    """All queues but one."""

    waiting: int  # queues that are not empty
    images: int  # in them
    held: Callable[[K], int]  # of each queue


class FairQueue(Generic[J]):
    """Images of one group; clients take turns of ``turn`` images, and so do the streams of each.

    What goes through together of one stream is answered in one message. So a turn may be as long as
    a batch: one that waits for its next turn has had a turn's images of late.
    """

    def __init__(self, turn: int = 1) -> None:
        self._turn = turn
        self._clients: dict[str, _Client[J]] = {}  # none is empty
        self._turns: _Turns[str] = _Turns(turn)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def held(self, client: str) -> int:
        """Images of this client that wait."""
        of = self._clients.get(client)
        return of.held if of else 0

    def push(self, sender: Sender, job: J) -> None:
        """Put an image behind its sender's others."""
        client = self._clients.get(sender.client)
        if client is None:
            client = self._clients[sender.client] = _Client(_Turns(self._turn))
            self._turns.joins(sender.client)
        jobs = client.streams.get(sender.stream)
        if jobs is None:
            jobs = client.streams[sender.stream] = deque()
            client.turns.joins(sender.stream)
        jobs.append(job)
        client.held += 1
        self._size += 1

    def pop(self) -> J:
        """Take the image whose turn it is.

        Raises:
            StopIteration: none waits.
        """
        name = self._turns.next(self._clients.__contains__)
        client = self._clients[name]
        stream = client.turns.next(client.streams.__contains__)
        jobs = client.streams[stream]
        job = jobs.popleft()
        client.held -= 1
        self._size -= 1
        if not jobs:
            del client.streams[stream]
        client.turns.taken(stream, empty=not jobs)
        if not client.held:
            del self._clients[name]
        self._turns.taken(name, empty=not client.held)
        return job

    def ahead_of(self, sender: Sender) -> int:
        """Images that go before one more of this sender's, at most: of those that wait, and of
        those that others will go on sending.
        """
        client, own, of_client = self._clients.get(sender.client), 0, 0
        if client is not None:
            of_client, mine = client.held, client.of_stream(sender.stream)
            streams = _Others(len(client.streams) - (mine > 0), of_client - mine, client.of_stream)
            own = mine + self._before(client.turns, sender.stream, mine, mine + 1, streams)
        clients = _Others(len(self._clients) - (of_client > 0), self._size - of_client, self.held)
        return own + self._before(self._turns, sender.client, of_client, own + 1, clients)

    def _before(self, turns: _Turns[K], key: K, mine: int, place: int, others: _Others[K]) -> int:
        """Images of others before one's image at that place (from 1), at most; it has ``mine``.

        All that had a turn of late are taken to go on sending: until the end of a long queue has
        its turn they have as many more.
        """
        if not mine and turns.goes_before(key):
            return min(others.images, turns.before_new(others.held))
        most = -(-place // self._turn) + 1  # turns; one may be shorter, by what it has had of it
        there = min(others.images, others.waiting * most * self._turn)
        return max(there, others.waiting + turns.others(key) * (place - 1))

    def __iter__(self) -> Iterator[J]:
        """All that wait, in no order."""
        return (
            job
            for client in self._clients.values()
            for jobs in client.streams.values()
            for job in jobs
        )


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
    left: int | None = None  # that wait still and somebody waits for; counted for a deadline's sake
    soonest = math.inf
    while queue and len(plan.batch) < max_batch:
        size = len(plan.batch) + 1
        if left is not None:
            least = (min(max_batch, len(plan.batch) + left) + 1) // 2
            if size > least and now + cost.batch_s(size) > soonest:
                break
        job = queue.pop()
        if job.abandoned:
            continue
        if left is not None:
            left -= 1
        if job.deadline is not None:
            if left is None:
                left = sum(not other.abandoned for other in queue)
            least = (min(max_batch, size + left) + 1) // 2
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
