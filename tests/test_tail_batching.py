"""The worker that follows turns, batches and their cost: who waits, who is refused, who is lost."""

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

from cloud_node import waiting as waiting_module
from cloud_node.batching import FairQueue, Sender
from cloud_node.cost import Measured
from cloud_node.job import Awaited, Job
from cloud_node.tail_worker import TailWorker
from cloud_node.waiting import Batch, BatchLimits, Group, WaitingRoom
from spikebottlenet.errors import (
    CorruptFrameError,
    DeadlineError,
    OverloadedError,
    UnavailableError,
)

SPIKES = np.zeros((2, 1, 2, 2), np.uint8)


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
    job = Awaited(Image(spikes, broken), deadline_s)
    worker.ask(tail, [job], sender=Sender(client))
    return await job.answer


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


async def ask_one(
    worker: TailWorker, tail: QuickTail, deadline_s: float | None = None, *, alone: bool = True
) -> object:
    job = Awaited(Image(SPIKES), deadline_s)
    worker.ask(tail, [job], alone=alone)
    return await job.answer


async def test_a_lone_image_runs_on_the_loop_once_it_is_known_to_be_soon_done() -> None:
    tail, here = QuickTail(), threading.current_thread().name
    async with TailWorker(BatchLimits(max_batch=4)).running() as worker:
        await ask_one(worker, tail)  # how long it takes is not known yet
        for _ in range(100):  # nor is it in the books at once
            if worker._room.takes_at_once(Group(tail, 2, 8), None, 0.0):  # type: ignore[arg-type]
                break
            await asyncio.sleep(0.01)
        await ask_one(worker, tail)
        await ask_one(worker, tail, alone=False)
        assert tail.threads == ["tail", here, "tail"]
        assert worker.batches == {1: 3}
        with pytest.raises(DeadlineError):
            await ask_one(worker, tail, deadline_s=0.0001)
        tail.fails = True
        with pytest.raises(OverloadedError, match="no such luck"):
            await ask_one(worker, tail)
        assert tail.threads[-1] == here


async def test_a_slow_tail_never_runs_on_the_loop() -> None:
    tail = QuickTail()
    async with TailWorker(BatchLimits(max_batch=4)).running() as worker:
        worker._room.taken_at_once(Group(tail, 2, 8), 0.1)  # type: ignore[arg-type]
        for _ in range(3):
            await ask_one(worker, tail)
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


@pytest.mark.parametrize("timesteps", [[2] * 7, [2, 2, 2, 1, 2, 2, 2]])
async def test_of_images_that_come_together_as_many_wait_as_may(timesteps: list[int]) -> None:
    tail = GatedTail()
    limits = BatchLimits(max_batch=2, max_waiting=4, max_queue_s=60, min_waiting=8)
    async with TailWorker(limits).running() as worker:
        first = await begin(worker, tail)
        jobs = [Awaited(Image(SPIKES[:count]), None) for count in timesteps]
        worker.ask(tail, jobs)
        tail.gate.set()
        told = await asyncio.gather(*(job.answer for job in jobs), return_exceptions=True)
        await first
    assert [isinstance(each, OverloadedError) for each in told] == [False] * 4 + [True] * 3


async def test_one_that_cannot_be_told_keeps_no_other_from_it() -> None:
    class Deaf(Awaited):
        def _told(self, outcome: object) -> None:
            raise ZeroDivisionError

    tail = GatedTail()
    async with TailWorker(BatchLimits(max_batch=4)).running() as worker:
        first = await begin(worker, tail)
        jobs = [Deaf(Image(SPIKES), None), Awaited(Image(SPIKES), None)]
        worker.ask(tail, jobs)
        tail.gate.set()
        await asyncio.gather(first, jobs[1].answer)
    assert tail.batches == [1, 2]


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


async def test_what_waits_at_the_end_is_told_so() -> None:
    tail = GatedTail()
    async with TailWorker(BatchLimits(max_batch=1)).running() as worker:
        first = await begin(worker, tail)
        left = asyncio.create_task(send(worker, tail))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, tail.gate.set)
    with pytest.raises(UnavailableError, match="has stopped"):
        await left
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
    room, group = WaitingRoom(BatchLimits(max_batch=8, lanes=2)), Group(GatedTail(), 2, 8)
    whose: dict[Job, str] = {}
    for name in "abcd" * 4:
        waiting = Awaited(Image(SPIKES), None)
        whose[waiting] = name
        room.push(group, Sender("edge", name.encode()), waiting)
    taken: list[str] = []
    while len(room):
        both = [room.take(lane, now=0.0) for lane in range(2)]
        for lane, batch in enumerate(both):
            assert isinstance(batch, Batch)
            taken.append("".join(whose[job] for job in batch.jobs))
            room.ended(lane, batch, None)
    assert taken == ["aaaabbbb", "ccccdddd"]  # a turn is half a batch


@pytest.mark.parametrize(("image_s", "then"), [(0.001, 8), (0.025, 4), (5.0, 1)])
async def test_a_batch_takes_no_longer_than_is_wanted_but_for_a_single_image(
    image_s: float, then: int
) -> None:
    room = WaitingRoom(BatchLimits(max_batch=8, max_batch_s=0.1))
    group = Group(GatedTail(), 2, 8)
    room.push(group, Sender("edge"), *[Awaited(Image(SPIKES), None) for _ in range(24)])
    sizes: list[int] = []
    for _ in range(2):  # what an image takes is not known before the first
        batch = room.take(0, now=0.0)
        assert isinstance(batch, Batch)
        sizes.append(len(batch.jobs))
        room.ended(0, batch, image_s * len(batch.jobs))
    assert sizes == [8, then]


@pytest.mark.parametrize(
    ("measured", "then"),
    [
        ([(4, 0.072), (8, 0.092)], 9),  # 52 ms, and 5 ms an image
        ([(9, 0.095), (10, 0.094), (11, 0.093)], 11),  # which tells nothing of larger ones
        ([(9, 0.010), (10, 0.009), (11, 0.008)], 32),
    ],
)
async def test_as_many_images_as_are_known_to_take_no_longer_are_a_batch(
    measured: list[tuple[int, float]], then: int
) -> None:
    room = WaitingRoom(BatchLimits(max_batch=32, max_batch_s=0.1))
    group = Group(GatedTail(), 2, 8)
    for images, seconds in measured:
        room._cost(group, alone=True).learn(Measured(images, seconds))
    room.push(group, Sender("edge"), *[Awaited(Image(SPIKES), None) for _ in range(64)])
    batch = room.take(0, now=0.0)
    assert isinstance(batch, Batch)
    assert len(batch.jobs) == then


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
