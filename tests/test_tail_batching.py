"""Turns, batches, the cost model and the worker that follows them."""

import asyncio
import gc
import queue
import threading
import time
import weakref
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node import waiting as waiting_module
from cloud_node.batching import FairQueue, Sender, next_batch, start_at
from cloud_node.cost import Cost, CostModel, Measured
from cloud_node.tail_worker import TailWorker
from cloud_node.waiting import Batch, BatchLimits, Group, TailAnswer, WaitingRoom
from cloud_node.waiting import Job as WaitingJob
from spikebottlenet.errors import (
    CorruptFrameError,
    DeadlineError,
    OverloadedError,
    UnavailableError,
)


@dataclass(frozen=True)
class Job:
    name: str = ""
    deadline: float | None = None
    abandoned: bool = False
    arrived: float = 0.0


def queued(*names: str, turn: int = 1) -> FairQueue[Job]:
    """A queue of jobs; ``a1.x`` is client a's stream 1."""
    queue: FairQueue[Job] = FairQueue(turn)
    for name in names:
        queue.push(Sender(name[0], name[1].encode()), Job(name))
    return queue


def test_clients_take_turns_and_so_do_their_streams() -> None:
    queue = queued("a1.x", "a1.y", "a1.z", "a2.x", "b1.x", "c1.x")
    order = [queue.pop().name for _ in range(len(queue))]
    assert order == ["a1.x", "b1.x", "c1.x", "a2.x", "a1.y", "a1.z"]


def test_one_image_waits_a_turn_and_not_five_hundred() -> None:
    queue = queued(*["a1"] * 500, turn=16)
    queue.pop()  # the turn has begun
    assert queue.ahead_of(Sender("b", b"1")) == 15
    assert queue.ahead_of(Sender("a", b"2")) == 15
    assert queue.ahead_of(Sender("a", b"1")) == 499
    queue.push(Sender("b", b"1"), Job("b"))
    assert [queue.pop().name for _ in range(16)] == ["a1"] * 15 + ["b"]


senders = st.builds(Sender, st.sampled_from("abc"), st.sampled_from([b"1", b"2"]))


def test_a_turn_is_of_several_images() -> None:
    queue = queued("a1", "a1", "a1", "a2", "a2", "b1", "b1", "b1", "b1", turn=2)
    order = ["a1", "a1", "b1", "b1", "a2", "a2", "b1", "b1", "a1"]
    assert [queue.pop().name for _ in range(len(queue))] == order


def test_a_stream_that_comes_passes_those_that_had_a_turn() -> None:
    queue = queued(*["a1"] * 6, *["b1"] * 6, turn=2)
    assert [queue.pop().name for _ in range(5)] == ["a1", "a1", "b1", "b1", "a1"]
    queue.push(Sender("c"), Job("c"))
    assert [queue.pop().name for _ in range(4)] == ["a1", "c", "b1", "b1"]


def test_one_that_sends_an_image_at_a_time_passes_others_once() -> None:
    queue = queued(*["a1"] * 4, *["b1"] * 4)
    order = []
    for _ in range(4):
        queue.push(Sender("c"), Job("c"))
        order += [queue.pop().name for _ in range(3)]
    assert order == ["a1", "b1", "c"] * 4


@given(st.lists(st.none() | senders, max_size=60), senders, st.integers(1, 24))
def test_nothing_is_lost_and_the_place_foretold_is_not_passed(
    steps: list[Sender | None], late: Sender, turn: int
) -> None:
    queue: FairQueue[Job] = FairQueue(turn)
    waiting = 0
    for step in steps:
        if step is not None:
            queue.push(step, Job())
            waiting += 1
        elif waiting:
            queue.pop()
            waiting -= 1
    assert len(queue) == len(list(queue)) == waiting
    foretold = queue.ahead_of(late)
    queue.push(late, Job("late"))
    order = [queue.pop().name for _ in range(len(queue))]
    assert len(order) == waiting + 1
    assert order.index("late") <= foretold


@given(st.lists(st.none() | senders, max_size=200), st.integers(1, 8))
def test_nobody_has_two_turns_while_another_waits(steps: list[Sender | None], turn: int) -> None:
    queue: FairQueue[Job] = FairQueue(turn)
    waits: Counter[str] = Counter()
    since: dict[str, Counter[str]] = {}  # what others have had since a client waits
    for step in steps:
        if step is not None:
            queue.push(step, Job(step.client))
            waits[step.client] += 1
            since.setdefault(step.client, Counter())
        elif waits.total():
            client = queue.pop().name
            waits[client] -= 1
            for had in since.values():
                had[client] += 1
            del since[client]
            if waits[client]:
                since[client] = Counter()
            assert all(count <= 2 * turn for had in since.values() for count in had.values())


def test_at_the_end_of_a_long_queue_others_are_taken_to_go_on_sending() -> None:
    queue = queued(*["a1"] * 9, "b1", "b1", "c1")
    # Nine of its own; of b, which has two, as many as have gone by then; of c the one there is.
    assert queue.ahead_of(Sender("a", b"1")) == 9 + 10 + 1
    assert queue.ahead_of(Sender("c", b"1")) == 1 + 2 + 2


def fitted(measured: list[Measured]) -> Cost:
    model = CostModel()
    for batch in measured:
        model.learn(batch)
    return model.cost


def test_the_cost_model_finds_the_line_that_made_its_batches() -> None:
    cost = fitted([Measured(n, 0.010 + 0.006 * n) for n in (1, 4, 16)])
    assert cost.fixed_s == pytest.approx(0.010)
    assert cost.image_s == pytest.approx(0.006)
    assert cost.queue_s(33, max_batch=16) == pytest.approx(3 * 0.010 + 33 * 0.006)


@given(st.lists(st.builds(Measured, st.integers(1, 64), st.floats(0, 10)), max_size=20))
def test_no_batch_is_thought_to_take_less_than_nothing(measured: list[Measured]) -> None:
    cost = fitted(measured)
    assert cost.fixed_s >= 0
    assert cost.image_s >= 0


def test_batches_of_one_size_are_foretold_at_that_size() -> None:
    assert fitted([Measured(16, 0.1), Measured(16, 0.3)]).batch_s(16) == pytest.approx(0.2)


def test_old_batches_are_forgotten() -> None:
    old = [Measured(n % 7 + 1, 5.0) for n in range(50)]
    new = [Measured(n % 5 + 1, 0.01 * (n % 5 + 1)) for n in range(64)]
    assert fitted(old + new) == pytest.approx(fitted(new))


def test_an_estimate_that_turns_all_away_is_forgotten_in_the_end() -> None:
    model = CostModel()
    for _ in range(3):
        model.learn(Measured(1, 100.0))
    for _ in range(3):
        model.doubt()
    assert model.cost == Cost()


def jobs_due(*deadlines: float | None) -> FairQueue[Job]:
    queue: FairQueue[Job] = FairQueue()
    for deadline in deadlines:
        queue.push(Sender("a"), Job(deadline=deadline))
    return queue


def test_a_batch_shrinks_to_meet_a_deadline() -> None:
    queue = jobs_due(3.0, None, None, None)
    plan = next_batch(queue, max_batch=4, cost=Cost(0.0, 1.0), now=0.0)
    assert len(plan.batch) == 3
    assert len(queue) == 1
    assert plan.too_late == []


def test_a_batch_shrinks_to_half_and_no_further() -> None:
    plan = next_batch(jobs_due(1.5, *[None] * 7), max_batch=8, cost=Cost(0.0, 1.0), now=0.0)
    assert [job.deadline for job in plan.too_late] == [1.5]
    assert len(plan.batch) == 7


def of_deadlines(*jobs: tuple[float | None, bool]) -> FairQueue[Job]:
    queue: FairQueue[Job] = FairQueue()
    for number, (deadline, abandoned) in enumerate(jobs):
        queue.push(Sender("a"), Job(str(number), deadline, abandoned))
    return queue


def test_those_that_are_gone_or_too_late_take_no_room_of_one_that_can_be_met() -> None:
    cost = Cost(0.01, 0.01)  # one image: 20 ms; eight: 90 ms
    gone = of_deadlines(*[(None, True)] * 15, (0.05, False))
    assert [job.name for job in next_batch(gone, max_batch=16, cost=cost, now=0.0).batch] == ["15"]
    for place in (0, 7, 15):
        jobs: list[tuple[float | None, bool]] = [(0.015, False)] * 15
        jobs.insert(place, (0.05, False))
        plan = next_batch(of_deadlines(*jobs), max_batch=16, cost=cost, now=0.0)
        assert [job.name for job in plan.batch] == [str(place)]
        assert len(plan.too_late) == 15


async def test_one_client_does_not_take_the_places_of_another() -> None:
    limits = BatchLimits(max_batch=2, max_waiting=16, max_queue_s=60, min_waiting=4)
    begun, go_on = threading.Event(), threading.Event()

    class Blocked:
        def classify(self, batch: np.ndarray, *, threads: int = 0) -> np.ndarray:
            begun.set()
            assert go_on.wait(30)
            return np.ones((batch.shape[1], 1), np.float32)

    tail = Blocked()
    async with TailWorker(limits).running() as worker:

        def ask(client: str) -> "asyncio.Task[object]":
            return asyncio.create_task(send(worker, tail, client=client))  # type: ignore[arg-type]

        first = ask("greedy")
        assert await asyncio.to_thread(begun.wait, 30)  # it runs, and waits no more
        greedy = [ask("greedy") for _ in range(40)]
        others = [ask(name) for name in "abc"]
        await asyncio.sleep(0)  # each has had its turn to ask
        go_on.set()
        await asyncio.gather(first, *others)
        answered = await asyncio.gather(*greedy, return_exceptions=True)
    # With eight of sixteen places it holds as many as are free.
    assert [isinstance(one, OverloadedError) for one in answered] == [False] * 8 + [True] * 32


def test_what_nobody_waits_for_is_not_computed() -> None:
    queue: FairQueue[Job] = FairQueue()
    queue.push(Sender("a"), Job(abandoned=True))
    queue.push(Sender("a"), Job("wanted"))
    plan = next_batch(queue, max_batch=1, cost=Cost(), now=0.0)
    assert [job.name for job in plan.batch] == ["wanted"]
    assert plan.too_late == []


@given(
    st.lists(st.none() | st.floats(0, 20), max_size=30),
    st.integers(1, 8),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_every_image_is_computed_in_time_or_given_up_or_waits(
    deadlines: list[float | None], max_batch: int, fixed: float, image: float
) -> None:
    queue, cost = jobs_due(*deadlines), Cost(fixed, image)
    plan = next_batch(queue, max_batch=max_batch, cost=cost, now=0.0)
    assert len(plan.batch) + len(plan.too_late) + len(queue) == len(deadlines)
    assert len(plan.batch) <= max_batch
    for job in plan.batch:
        assert job.deadline is None or cost.batch_s(len(plan.batch)) <= job.deadline


SPIKES = np.zeros((2, 1, 2, 2), np.uint8)


@dataclass(frozen=True)
class Image:
    """Spikes that need no decoding."""

    array: np.ndarray
    broken: bool = False

    @property
    def timesteps(self) -> int:
        return len(self.array)

    @property
    def spike_bytes(self) -> int:
        return self.array.nbytes

    def spikes(self) -> np.ndarray:
        if self.broken:
            raise CorruptFrameError("cannot be decoded")
        return self.array


class GatedTail:
    """Runs when the gate is open; notes its batches; fails on an image with a spike."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started = threading.Event()
        self.batches: list[int] = []

    def classify(self, spikes: np.ndarray, *, threads: int = 0) -> np.ndarray:
        self.started.set()
        self.gate.wait()
        if spikes.any():
            raise ValueError("a bad one")
        self.batches.append(spikes.shape[1])
        return np.full((spikes.shape[1], 3), 1 / 3, np.float32)


async def begin(worker: TailWorker, tail: GatedTail) -> "asyncio.Task[object]":
    """Send the first image, and return once the tail is at it."""
    first = asyncio.create_task(send(worker, tail))
    await asyncio.to_thread(tail.started.wait)
    return first


async def send(
    worker: TailWorker,
    tail: GatedTail,
    *,
    client: str = "a",
    spikes: np.ndarray = SPIKES,
    broken: bool = False,
    deadline_s: float | None = None,
) -> object:
    image = Image(spikes, broken)
    return await worker.ask(tail, image, deadline_s=deadline_s, sender=Sender(client))  # type: ignore[arg-type]


class QuickTail:
    """Notes which threads it runs on."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.fails = False

    def classify(self, spikes: np.ndarray, *, threads: int = 0) -> np.ndarray:
        self.threads.append(threading.current_thread().name)
        if self.fails:
            raise ValueError("no such luck")
        time.sleep(0.001)
        return np.full((spikes.shape[1], 3), 1 / 3, np.float32)


async def ask_alone(worker: TailWorker, tail: QuickTail, deadline_s: float | None = None) -> object:
    return await worker.ask(tail, Image(SPIKES), deadline_s=deadline_s, alone=True)  # type: ignore[arg-type]


async def test_a_lone_image_runs_on_the_loop_once_it_is_known_to_be_soon_done() -> None:
    tail, here = QuickTail(), threading.current_thread().name
    async with TailWorker(BatchLimits(max_batch=4)).running() as worker:
        await ask_alone(worker, tail)  # how long it takes is not known yet
        for _ in range(100):  # nor is it in the books at once
            if worker._room.takes_at_once(Group(tail, 2, 8), None, 0.0):  # type: ignore[arg-type]
                break
            await asyncio.sleep(0.01)
        await ask_alone(worker, tail)
        await worker.ask(tail, Image(SPIKES), deadline_s=None)  # type: ignore[arg-type]
        assert tail.threads == ["tail", here, "tail"]
        assert worker.batches == {1: 3}
        with pytest.raises(DeadlineError):
            await ask_alone(worker, tail, deadline_s=0.0001)
        tail.fails = True
        with pytest.raises(OverloadedError, match="no such luck"):
            await ask_alone(worker, tail)
        assert tail.threads[-1] == here


async def test_a_slow_tail_never_runs_on_the_loop() -> None:
    tail = QuickTail()
    async with TailWorker(BatchLimits(max_batch=4)).running() as worker:
        worker._room.taken_at_once(Group(tail, 2, 8), 0.1)  # type: ignore[arg-type]
        for _ in range(3):
            await ask_alone(worker, tail)
    assert tail.threads == ["tail"] * 3


async def test_one_that_cannot_be_decoded_is_refused_alone() -> None:
    tail = GatedTail()
    async with TailWorker(BatchLimits(max_batch=8)).running() as worker:
        first = await begin(worker, tail)
        batch = [asyncio.create_task(send(worker, tail, broken=n == 2)) for n in range(4)]
        await asyncio.sleep(0)
        tail.gate.set()
        outcomes = await asyncio.gather(first, *batch, return_exceptions=True)
        only = asyncio.create_task(send(worker, tail, broken=True))
        with pytest.raises(CorruptFrameError):
            await only
        await worker.alive()
    assert [isinstance(one, CorruptFrameError) for one in outcomes] == [False] * 3 + [True, False]
    assert sum(tail.batches) == 4


async def test_what_waits_while_the_tail_is_busy_goes_together() -> None:
    tail = GatedTail()
    async with TailWorker(BatchLimits(max_batch=4)).running() as worker:
        first = await begin(worker, tail)
        rest = [asyncio.create_task(send(worker, tail)) for _ in range(6)]
        await asyncio.sleep(0)
        tail.gate.set()
        await asyncio.gather(first, *rest)
    assert tail.batches == [1, 4, 2]


async def test_one_bad_image_fails_alone() -> None:
    tail = GatedTail()
    async with TailWorker(BatchLimits(max_batch=8)).running() as worker:
        first = await begin(worker, tail)
        bad = np.ones_like(SPIKES)
        rest = [
            asyncio.create_task(send(worker, tail, spikes=bad if i == 3 else SPIKES))
            for i in range(8)
        ]
        await asyncio.sleep(0)
        tail.gate.set()
        outcomes = await asyncio.gather(first, *rest, return_exceptions=True)
        await worker.alive()
    assert Counter(type(outcome).__name__ for outcome in outcomes) == {
        "TailAnswer": 8,
        "OverloadedError": 1,
    }
    assert "a bad one" in str(outcomes[4])


async def test_a_full_queue_refuses_at_once_and_says_when_to_try_again() -> None:
    tail = GatedTail()
    limits = BatchLimits(max_batch=1, max_waiting=2)
    async with TailWorker(limits).running() as worker:
        waiting = [await begin(worker, tail)]
        waiting += [asyncio.create_task(send(worker, tail)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="max_waiting") as refused:
            await send(worker, tail, client="b")
        assert refused.value.retry_after_s > 0
        tail.gate.set()
        await asyncio.gather(*waiting)
        await send(worker, tail, client="b")


async def test_a_queue_is_bounded_by_bytes_too() -> None:
    tail = GatedTail()
    limits = BatchLimits(max_batch=1, max_waiting_bytes=2 * SPIKES.nbytes)
    async with TailWorker(limits).running() as worker:
        waiting = [await begin(worker, tail)]
        waiting += [asyncio.create_task(send(worker, tail)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="max_waiting_bytes"):
            await send(worker, tail)
        tail.gate.set()
        await asyncio.gather(*waiting)
        await send(worker, tail)


async def test_a_long_wait_is_refused_to_its_cause_and_not_to_another_client() -> None:
    tail = GatedTail()
    tail.gate.set()
    limits = BatchLimits(max_batch=2, max_queue_s=0.0, min_waiting=4)
    async with TailWorker(limits).running() as worker:
        await send(worker, tail)  # so that there is an estimate
        tail.gate.clear()
        tail.started.clear()
        waiting = [await begin(worker, tail)]
        waiting += [asyncio.create_task(send(worker, tail)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="max_queue_ms"):
            await send(worker, tail)
        other = asyncio.create_task(send(worker, tail, client="b"))
        await asyncio.sleep(0)
        tail.gate.set()
        await asyncio.gather(other, *waiting)


async def test_what_is_past_its_deadline_is_counted_and_not_computed() -> None:
    tail = GatedTail()
    async with TailWorker().running() as worker:
        first = await begin(worker, tail)
        late = asyncio.create_task(send(worker, tail, deadline_s=-1.0))
        await asyncio.sleep(0)
        tail.gate.set()
        await first
        with pytest.raises(DeadlineError):
            await late
        assert worker.expired == 1
    assert tail.batches == [1]


async def test_what_waits_at_the_end_is_cancelled() -> None:
    tail = GatedTail()
    async with TailWorker(BatchLimits(max_batch=1)).running() as worker:
        first = await begin(worker, tail)
        left = asyncio.create_task(send(worker, tail))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, tail.gate.set)
    assert (await asyncio.gather(left, return_exceptions=True))[0].__class__ is (
        asyncio.CancelledError
    )
    await first
    with pytest.raises(RuntimeError):
        await worker.alive()


async def test_a_model_that_has_gone_is_not_held() -> None:
    tail = GatedTail()
    tail.gate.set()
    gone = weakref.ref(tail)
    async with TailWorker().running() as worker:
        await send(worker, tail)
        await worker.alive()
        del tail
        gc.collect()
        assert gone() is None


async def test_an_idle_tail_waits_for_a_fuller_batch_only_where_told() -> None:
    tail = GatedTail()
    tail.gate.set()
    async with TailWorker(BatchLimits(max_batch=3, max_wait_s=60.0)).running() as worker:
        await asyncio.gather(*(send(worker, tail) for _ in range(3)))
    assert tail.batches == [3]


def test_a_batch_that_may_wait_begins_in_time_for_the_earliest_deadline() -> None:
    cost = Cost(0.1, 0.1)
    waits = {"max_batch": 4, "max_wait_s": 5.0, "cost": cost}
    assert start_at(jobs_due(None, None), **waits) == 5.0  # type: ignore[arg-type]
    assert start_at(jobs_due(2.0, None), **waits) == pytest.approx(2.0 - 0.4)  # type: ignore[arg-type]
    assert start_at(jobs_due(*[None] * 4), **waits) < 0  # type: ignore[arg-type]  # full


async def test_a_group_that_waits_for_more_keeps_no_other_waiting() -> None:
    patient, full = GatedTail(), GatedTail()
    patient.gate.set()
    full.gate.set()
    async with TailWorker(BatchLimits(max_batch=2, max_wait_s=600.0)).running() as worker:
        waiting = asyncio.create_task(send(worker, patient))
        await asyncio.sleep(0)
        await asyncio.gather(*(send(worker, full) for _ in range(2)))
        assert not waiting.done()
        await asyncio.gather(waiting, send(worker, patient))
    assert (full.batches, patient.batches) == ([2], [2])


async def test_what_is_refused_is_not_decoded() -> None:
    tail = GatedTail()
    async with TailWorker(BatchLimits(max_batch=1, max_waiting=1)).running() as worker:
        waiting = [await begin(worker, tail), asyncio.create_task(send(worker, tail))]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await send(worker, tail, broken=True)
        tail.gate.set()
        await asyncio.gather(*waiting)
        with pytest.raises(CorruptFrameError):
            await send(worker, tail, broken=True)


class LaneTail:
    """Notes each batch with its thread and the threads it has; as many go on as are let."""

    def __init__(self) -> None:
        self.go_on = threading.Semaphore(0)
        self.begun: queue.Queue[tuple[int, int, int]] = queue.Queue()

    def classify(self, spikes: np.ndarray, *, threads: int = 0) -> np.ndarray:
        self.begun.put((spikes.shape[1], threading.get_ident(), threads))
        assert self.go_on.acquire(timeout=30)
        return np.full((spikes.shape[1], 3), 1 / 3, np.float32)


async def test_an_image_alone_has_every_thread_and_a_crowd_is_dealt_to_the_lanes() -> None:
    tail = LaneTail()
    worker = TailWorker(BatchLimits(max_batch=8, lanes=2), threads=2)
    async with worker.running():
        sent = [asyncio.create_task(send(worker, tail))]  # type: ignore[arg-type]
        size, _, threads = await asyncio.to_thread(tail.begun.get, timeout=30)
        assert (size, threads) == (1, 2)
        sent += [asyncio.create_task(send(worker, tail)) for _ in range(6)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        tail.go_on.release()
        one, other = [await asyncio.to_thread(tail.begun.get, timeout=30) for _ in range(2)]
        assert (one[0], one[2], other[0], other[2]) == (3, 1, 3, 1)
        assert one[1] != other[1]
        # Where one lane is free, who comes has it at once, on its one thread.
        tail.go_on.release()
        await asyncio.wait(sent[1:], return_when=asyncio.FIRST_COMPLETED)
        sent.append(asyncio.create_task(send(worker, tail)))  # type: ignore[arg-type]
        size, _, threads = await asyncio.to_thread(tail.begun.get, timeout=30)
        assert (size, threads) == (1, 1)
        for _ in range(2):
            tail.go_on.release()
        await asyncio.gather(*sent)
        await worker.alive()


async def test_a_streams_images_go_together() -> None:
    room, group = WaitingRoom(BatchLimits(max_batch=4, lanes=2)), Group(GatedTail(), 2, 8)
    whose: dict[asyncio.Future[TailAnswer], str] = {}
    for name in "abcd" * 4:
        answer: asyncio.Future[TailAnswer] = asyncio.get_running_loop().create_future()
        whose[answer] = name
        waiting = WaitingJob(Image(SPIKES), 0.0, None, answer)
        room.push(group, Sender("edge", name.encode()), waiting)
    taken: list[str] = []
    while len(room):
        both = [room.take(lane, now=0.0) for lane in range(2)]
        for lane, batch in enumerate(both):
            assert isinstance(batch, Batch)
            taken.append("".join(whose[job.answer] for job in batch.jobs))
            room.ended(lane, batch, None)
    assert taken == ["aaaa", "bbbb", "cccc", "dddd"]


async def test_a_policy_that_fails_leaves_nobody_without_an_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(queue: FairQueue[Job], **_: object) -> None:
        queue.pop()
        raise ZeroDivisionError

    monkeypatch.setattr(waiting_module, "next_batch", fails)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    async with TailWorker(BatchLimits(lanes=2)).running() as worker:
        sent = [asyncio.create_task(send(worker, GatedTail())) for _ in range(3)]
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 3
        with pytest.raises(RuntimeError):
            await worker.alive()
