"""What an edge's link to its cloud writes, when, and what it counts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edge_node.begun import Begun
from edge_node.cloud_link import CloudLink, _State
from edge_node.cloud_stream import bound_request
from edge_node.link_writer import Exchange, LinkWriter
from spikebottlenet.accounting.wire import KernelCounters, Side, WireLedger
from spikebottlenet.errors import DeadlineError
from spikebottlenet.rpc.v1.coinference_pb2 import Prediction, StreamRequest, StreamResponse

STREAM_ID = bytes(16)


class Stream:
    """Keeps what it is sent; a message goes through once ``open`` is set."""

    def __init__(self) -> None:
        self.sent: list[int] = []  # requests of each message
        self.ended = False
        self.open = asyncio.Event()

    def together(self, requests: list[StreamRequest]) -> tuple[StreamRequest, list[int]]:
        """All in one message, each of 77 bytes."""
        return StreamRequest(sequence=len(requests)), [77] * len(requests)

    async def send(self, message: StreamRequest) -> None:
        """As the real one."""
        self.sent.append(message.sequence)
        await self.open.wait()

    async def done_writing(self) -> None:
        """As the real one."""
        self.ended = True


def exchanges(count: int) -> dict[int, Exchange]:
    """Requests by sequence, due in ten seconds."""
    until = time.monotonic() + 10
    return {
        sequence: Exchange(sequence, "", bound_request(STREAM_ID, sequence, b"frame"), until)
        for sequence in range(1, count + 1)
    }


def writer_to(stream: Any, due: dict[int, Exchange]) -> LinkWriter:
    """A writer that finds these due."""
    return LinkWriter(stream, due.get, deadline_ms=10_000)


@asynccontextmanager
async def idle_writer(stream: Stream, due: dict[int, Exchange]) -> AsyncIterator[LinkWriter]:
    """One that runs and has nothing to do; at the end all goes through."""
    writer = writer_to(stream, due)
    running = asyncio.create_task(writer.run())
    await turns()
    yield writer
    stream.open.set()
    writer.end()
    await running


async def turns(count: int = 3) -> None:
    """Let all tasks go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_lone_request_is_written_before_its_task_waits() -> None:
    stream, due = Stream(), exchanges(1)
    async with idle_writer(stream, due) as writer:
        writer.put(1, alone=True)
        assert stream.sent == [1]
        assert (due[1].wire_bytes_up, due[1].sends) == (77, 1)  # it may be answered any time now
    assert stream.sent == [1]
    assert stream.ended


async def test_requests_that_come_while_one_is_written_leave_together_behind_it() -> None:
    stream, due = Stream(), exchanges(4)
    async with idle_writer(stream, due) as writer:
        writer.put(1, alone=True)
        await turns()
        for sequence in (2, 3, 4, 3):
            writer.put(sequence, alone=True)
        await turns()
        assert stream.sent == [1]
        stream.open.set()
        await turns(6)
        assert stream.sent == [1, 3]


async def test_requests_that_come_in_one_turn_of_the_loop_leave_together() -> None:
    stream, due = Stream(), exchanges(3)
    async with idle_writer(stream, due) as writer:
        for sequence in due:
            writer.put(sequence)
    assert stream.sent == [3]


async def test_what_waits_at_the_end_is_written_and_what_is_not_due_is_not() -> None:
    stream, due = Stream(), exchanges(1)
    stream.open.set()
    writer = writer_to(stream, due)
    writer.put(1)
    writer.put(2)
    writer.end()
    await writer.run()
    assert stream.sent == [1]
    assert stream.ended


async def test_a_stream_that_breaks_under_a_begun_write_ends_the_writer_and_not_the_request() -> (
    None
):
    class Broken(Stream):
        async def send(self, _: StreamRequest) -> None:
            raise asyncio.InvalidStateError

    stream, due = Broken(), exchanges(1)
    writer = writer_to(stream, due)
    running = asyncio.create_task(writer.run())
    await turns()
    writer.put(1, alone=True)
    await running
    assert not stream.ended


async def test_begun_runs_up_to_its_first_wait_and_whoever_awaits_it_runs_the_rest() -> None:
    said, go_on = [], asyncio.Event()

    async def work() -> None:
        said.append(1)
        await go_on.wait()
        said.append(2)
        await asyncio.sleep(0)
        said.append(3)

    begun = Begun(work())
    assert said == [1]
    go_on.set()  # before anybody awaits it
    await begun
    assert said == [1, 2, 3]


async def test_begun_tells_whoever_awaits_it_what_went_wrong_and_is_cancelled_with_them() -> None:
    async def fails() -> None:
        raise ValueError("at once")

    begun = Begun(fails())
    with pytest.raises(ValueError, match="at once"):
        await begun

    ended = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def awaits(begun: Begun) -> None:
        await begun

    task = asyncio.create_task(awaits(Begun(waits())))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


@pytest.fixture
def link() -> CloudLink:
    """One that is up, with a place for one request, to a stream that somebody else writes."""
    connect: Any = None
    link = CloudLink(
        connect,
        WireLedger(KernelCounters(port=1, side=Side.REMOTE)),
        fingerprint="ab" * 32,
        deadline_ms=1000,
        max_in_flight=1,
        reconnected=lambda: None,
    )
    link._state = _State.UP
    return link


def answer_to(link: CloudLink, sequence: int) -> None:
    """Have the cloud answer."""
    link._take(StreamResponse(prediction=Prediction(sequence=sequence, classes=[3])), 40)


def nothing() -> None:
    """Done meanwhile."""


async def test_a_request_whose_time_is_over_is_not_sent(link: CloudLink) -> None:
    put: list[int] = []
    link._put = lambda sequence, **_: put.append(sequence)  # type: ignore[method-assign]
    exchange = link.new_exchange(b"frame", deadline=time.monotonic())
    with pytest.raises(DeadlineError):
        await link.infer(exchange, meanwhile=nothing)
    assert put == []
    assert link.pending == 0


async def test_a_request_ends_by_its_deadline_whatever_it_waits_for(link: CloudLink) -> None:
    until = time.monotonic() + 0.05
    first, second, third = [link.new_exchange(b"frame", deadline=until) for _ in range(3)]
    for exchange in (second, third):
        exchange.deadline += 0.05
    ended = await asyncio.gather(
        link.infer(first, meanwhile=nothing),  # without an answer
        link.infer(second, meanwhile=nothing),  # so too, once it has the first one's place
        link.infer(third, meanwhile=nothing),  # without a place
        return_exceptions=True,
    )
    assert [type(each) for each in ended] == [DeadlineError] * 3
    assert link.pending == 0
    later = link.new_exchange(b"frame", deadline=time.monotonic() + 10)
    asking = asyncio.create_task(link.infer(later, meanwhile=nothing))
    await turns()
    answer_to(link, later.sequence)
    assert (await asking).classes == [3]
    assert later.wire_bytes_down == 40


async def test_a_request_that_is_cancelled_gives_its_place_back(link: CloudLink) -> None:
    until = time.monotonic() + 10
    gone, next_one = [link.new_exchange(b"frame", deadline=until) for _ in range(2)]
    asking = asyncio.create_task(link.infer(gone, meanwhile=nothing))
    waiting = asyncio.create_task(link.infer(next_one, meanwhile=nothing))
    await turns()
    asking.cancel()
    await turns()
    answer_to(link, gone.sequence)  # too late for anybody
    answer_to(link, next_one.sequence)
    assert (await waiting).classes == [3]
    assert asking.cancelled()
    assert link.pending == 0


async def test_what_fails_meanwhile_fails_the_request_and_leaves_nothing(link: CloudLink) -> None:
    def fails() -> None:
        raise ValueError("meanwhile")

    exchange = link.new_exchange(b"frame", deadline=time.monotonic() + 10)
    with pytest.raises(ValueError, match="meanwhile"):
        await link.infer(exchange, meanwhile=fails)
    assert link.pending == 0
    assert not link._credit.locked()
