"""Which images go through the tail next, and how long one would wait: policy without a clock.

Who waits takes turns on three levels: batches of different groups (a model and a number of
timesteps), in a group the clients, of a client its streams. So one that has 500 waiting delays one
that has a single image by a turn, not by 500.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import partial
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


@dataclass
class _Turn:
    """What a turn is; it changes with what an image takes."""

    images: int


class _Turns(Generic[K]):
    """Whose turn it is among some queues: one that comes goes before those that had theirs, and
    then is one of them.

    A turn is of so many images, but what a queue gives as a whole is not parted: its next turn is
    shorter by what that was above. What is left of its turn to a queue that was emptied in it is
    for its next images, which go before the others' too, until its place among those has passed. So
    one that sends an image at a time waits no longer than one that sends many, and has no more than
    they. Between two turns of the others new ones have so many and no more: those that come without
    end hold up nobody so.

    Source: the two lists and the deficits of FQ-CoDel (RFC 8290, section 4.2).
    """

    def __init__(self, turn: _Turn) -> None:
        self._turn = turn
        self._new: OrderedDict[K, int] = OrderedDict()  # images left of its turn; none is empty
        self._old: OrderedDict[K, int] = OrderedDict()  # the same, 0 or less where it has had it
        self._now: K | None = None  # whose turn has begun
        self._passed = 0  # images of new ones since a turn of the others

    @property
    def _most_passed(self) -> int:
        return _NEW_TURNS * self._turn.images

    def shorten(self) -> None:
        """Have no queue more left of its turn than one, nor more to make up for."""
        turn = self._turn.images
        for among in (self._new, self._old):
            for key, left in among.items():
                among[key] = min(turn, max(1 - turn, left))

    def joins(self, key: K) -> None:
        """A queue has an image and had none."""
        if self.goes_before(key):
            self._new[key] = self._old.pop(key, self._turn.images)

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
        self._now = now = next(iter(among))
        if among[now] <= 0:
            among[now] += self._turn.images
        return now

    def gives(self, key: K, images: int) -> None:
        """The one whose turn it is gives so many as a whole."""
        if key in self._new:
            self._new[key] -= images
            self._passed += images
        else:
            self._old[key] -= images
            self._passed = 0

    def gave(self, key: K, *, empty: bool) -> None:
        """It has given them."""
        among = self._new if key in self._new else self._old
        if among[key] > 0 and not empty:
            return  # its turn goes on
        self._old[key] = among.pop(key)
        self._now = None

    def goes_before(self, key: K) -> bool:
        """Whether an image of this empty queue would go before those that had their turn."""
        return self._old.get(key, self._turn.images) > 0

    def others(self, key: K) -> int:
        """How many have had a turn of late or wait for one, but this."""
        return len(self._new) + len(self._old) - (key in self._new or key in self._old)

    def before_new(self, may_give: Callable[[K, int], int], giving: int) -> int:
        """Images before such a one, at most: those that are being given, and what each queue may
        give where so many of its turn are left.
        """
        before = giving + sum(may_give(key, left) for key, left in self._new.items() if left > 0)
        now = self._now
        if now is not None and self._old.get(now, 0) > 0:
            before += may_give(now, self._old[now])
        most = self._most_passed
        turns = (min(self._passed, most) + before) // most  # of the others, between theirs
        return before + turns * (2 * self._turn.images - 1)


@dataclass
class _Client(Generic[J]):
    """One client's images."""

    turns: _Turns[bytes]
    streams: dict[bytes, deque[J]] = field(default_factory=dict)  # none is empty
    held: int = 0

    def of_stream(self, stream: bytes) -> int:
        """Images of one of its streams."""
        return len(self.streams.get(stream, ()))


@dataclass
class _Whole(Generic[J]):
    """Images that are given as a whole."""

    name: str
    client: _Client[J]
    stream: bytes
    images: deque[J]  # of the stream
    left: int  # of them, to be given


class _Others(NamedTuple, Generic[K]):
    """All queues but one."""

    waiting: int  # queues that are not empty
    images: int  # in them
    giving: int  # of them that are being given
    may_give: Callable[[K, int], int]  # each, where so many images of its turn are left, at most


class FairQueue(Generic[J]):
    """Images of one group; clients take turns of ``turn`` images, and so do the streams of each.

    What goes through together of one stream is answered in one message. So a turn may be
    of many, and what a stream has waiting when its turn comes is given as a whole, up to a turn's
    images: one that waits for its next turn has had a turn's images of late.
    """

    def __init__(self, turn: int = 1) -> None:
        self._turn = _Turn(turn)
        self._clients: dict[str, _Client[J]] = {}  # none is empty
        self._turns: _Turns[str] = _Turns(self._turn)
        self._size = 0
        self._giving: _Whole[J] | None = None

    def __len__(self) -> int:
        return self._size

    def set_turn(self, images: int) -> None:
        """Have turns of so many images from now on."""
        shorter = images < self._turn.images
        self._turn.images = images
        if not shorter:
            return
        if self._giving:
            self._giving.left = min(self._giving.left, images)
        self._turns.shorten()
        for client in self._clients.values():
            client.turns.shorten()

    def held(self, client: str) -> int:
        """Images of this client that wait."""
        of = self._clients.get(client)
        return of.held if of else 0

    def push(self, sender: Sender, *images: J) -> None:
        """Put images behind their sender's others."""
        client = self._clients.get(sender.client)
        if client is None:
            client = self._clients[sender.client] = _Client(_Turns(self._turn))
            self._turns.joins(sender.client)
        jobs = client.streams.get(sender.stream)
        if jobs is None:
            jobs = client.streams[sender.stream] = deque()
            client.turns.joins(sender.stream)
        jobs.extend(images)
        client.held += len(images)
        self._size += len(images)

    def pop(self) -> J:
        """Take the image whose turn it is.

        Raises:
            StopIteration: none waits.
        """
        whole = self._given()
        job = whole.images.popleft()
        whole.left -= 1
        whole.client.held -= 1
        self._size -= 1
        if not whole.left:
            self._gave(whole)
        return job

    def _given(self) -> _Whole[J]:
        if self._giving is None:
            name = self._turns.next(self._clients.__contains__)
            client = self._clients[name]
            stream = client.turns.next(client.streams.__contains__)
            images = client.streams[stream]
            self._giving = _Whole(name, client, stream, images, min(len(images), self._turn.images))
            client.turns.gives(stream, self._giving.left)
            self._turns.gives(name, self._giving.left)
        return self._giving

    def _gave(self, whole: _Whole[J]) -> None:
        self._giving = None
        if not whole.images:
            del whole.client.streams[whole.stream]
        whole.client.turns.gave(whole.stream, empty=not whole.images)
        if not whole.client.held:
            del self._clients[whole.name]
        self._turns.gave(whole.name, empty=not whole.client.held)

    def ahead_of(self, sender: Sender, images: int = 1) -> int:
        """Images that go before the last of so many more of this sender's, at most: of those that
        wait, and of those that others will go on sending.
        """
        client, own, held, more = self._clients.get(sender.client), images - 1, 0, images - 1
        giving = self._giving.left if self._giving else 0
        if client is not None:
            held, mine = client.held, client.of_stream(sender.stream)
            streams = _Others(
                len(client.streams) - (mine > 0),
                held - mine,
                giving if self._giving and self._giving.client is client else 0,
                partial(self._may_give, client),
            )
            own += mine
            own += self._before(client.turns, sender.stream, own, own + 1, streams)
        others, waiting = len(self._clients) - (held > 0), self._size - held
        clients = _Others(others, waiting, giving, self._client_may_give)
        return own + self._before(self._turns, sender.client, held + more, own + 1, clients)

    def _may_give(self, client: _Client[J], stream: bytes, left: int) -> int:
        """Images of a stream in a turn of which so many are left, at most."""
        return min(client.of_stream(stream), max(left, self._turn.images))

    def _client_may_give(self, name: str, left: int) -> int:
        """Images of a client in a turn of which so many are left, at most."""
        client = self._clients[name]
        more = self._turn.images - 1 if len(client.streams) > 1 else 0
        return min(client.held, max(left + more, self._turn.images))

    def _before(self, turns: _Turns[K], key: K, mine: int, place: int, others: _Others[K]) -> int:
        """Images of others before one's image at that place (from 1), at most; it has ``mine``.

        All that had a turn of late are taken to go on sending: until the end of a long queue has
        its turn they have as many more.
        """
        if not mine and turns.goes_before(key):
            return min(others.images, turns.before_new(others.may_give, others.giving))
        # A turn may be shorter by what it has had of it, or by what the last one was longer.
        turn, longer = self._turn.images, self._turn.images - 1
        most = -(-(place + longer) // turn) + 1
        there = min(others.images, others.waiting * (most * turn + longer))
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
