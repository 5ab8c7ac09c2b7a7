"""Whole requests of a stream: whatever becomes of one, nothing of it is left behind."""

import asyncio
import gc
import uuid
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from cloud_node.answers import AnswerCache, RequestKey
from cloud_node.job import Job, TailAnswer
from cloud_node.received import Received
from cloud_node.requests import Requests
from spikebottlenet.accounting.wire import KernelCounters, Side, WireLedger
from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.errors import OverloadedError, UnavailableError
from spikebottlenet.model.shape import SpikeShape
from spikebottlenet.rpc.limits import Client, ServerLimits, set_current_client
from spikebottlenet.rpc.v1.coinference_pb2 import Failure, Open, Prediction, StreamResponse

STREAM = uuid.uuid4().bytes
PLACES = 4
SHAPE = SpikeShape(timesteps=2, channels=1, height=2, width=2)
CODEC = SpikeCodec(SHAPE, np.full(tuple(SHAPE), 1 << 15, np.uint16))
ANSWER = TailAnswer([3], [8192], 10, 20, 1)
CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class Inference:
    """Tails that answer when told so."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(max_in_flight=PLACES)
        self.under_way = 0
        self.asked: list[Job] = []
        self.refuses: Exception | None = None
        self.logged = 0
        self.fails_to_answer = False

    def usual(self, _: object) -> Prediction:
        return Prediction()

    def ask(self, _: object, jobs: Sequence[Job], **__: object) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.asked += jobs

    def write(
        self, prediction: Prediction, _: object, __: object, answer: TailAnswer, *, arrived: float
    ) -> None:
        prediction.classes.extend(answer.classes)

    def refuse(self, _: str, sequence: int, error: Exception) -> Failure:
        if self.fails_to_answer:
            raise ZeroDivisionError
        code = 8 if isinstance(error, OverloadedError) else 14
        return Failure(sequence=sequence, code=code, message=str(error))

    def log_answer(self, *_: object, **__: object) -> None:
        self.logged += 1


class Stream:
    """A stream's requests, and what is known of them from outside."""

    def __init__(self, *, ordered: bool, in_flight: int = 0) -> None:
        self.inference = Inference()
        self.client = Client("edge", ServerLimits(client_in_flight=in_flight))
        set_current_client(self.client)
        self.cache = AnswerCache(16)
        opening = Open(stream_id=STREAM, ordered=ordered)
        ledger = WireLedger(KernelCounters(port=1, side=Side.LOCAL))
        model = SimpleNamespace(bundle=None)
        self.requests = Requests(opening, model, self.inference, self.cache, ledger)  # type: ignore[arg-type]

    async def send(self, sequence: int) -> Received:
        received = Received(CODEC)
        await self.requests.room()
        self.requests.start(sequence, received, None)
        await asyncio.sleep(0)
        return received

    async def said(self) -> StreamResponse:
        """What is written next."""
        async with asyncio.timeout(5):
            await self.requests.out.some()
        departure = self.requests.out.take()
        assert departure is not None
        self.requests.written(departure)
        return departure.message

    async def code(self) -> str:
        return CODES[(await self.said()).failure.code]

    async def is_as_before(self) -> None:
        """Nothing is under way, and every place is free."""
        async with asyncio.timeout(5):
            await self.requests.all_answered()
            for _ in range(PLACES):
                await self.requests.room()
        assert (self.requests.under_way, self.inference.under_way) == (0, 0)
        assert self.client.in_flight == 0


@asynccontextmanager
async def stream(*, ordered: bool = False, in_flight: int = 0) -> AsyncIterator[Stream]:
    """A stream that leaves nothing behind."""
    one = Stream(ordered=ordered, in_flight=in_flight)
    yield one
    await one.is_as_before()


both = pytest.mark.parametrize("ordered", [False, True])


@both
async def test_what_is_answered_is_gone_without_a_collector_of_cycles(*, ordered: bool) -> None:
    async with stream(ordered=ordered) as s:
        gone = weakref.ref(await s.send(1))
        s.inference.asked.pop().settle(ANSWER)
        gc.disable()
        try:
            assert list((await s.said()).prediction.classes) == [3]
            for _ in range(3):
                await asyncio.sleep(0)
            assert gone() is None
        finally:
            gc.enable()
        assert s.inference.logged == 1


@both
async def test_a_request_above_its_clients_limit_is_refused(*, ordered: bool) -> None:
    async with stream(ordered=ordered, in_flight=1) as s:
        await s.send(1)
        await s.send(2)
        s.inference.asked[0].settle(ANSWER)
        said = [await s.said(), await s.said()]
        assert sorted(each.WhichOneof("response") for each in said) == ["failure", "prediction"]


@both
@pytest.mark.parametrize("error", [OverloadedError("full"), ValueError("a mistake of ours")])
async def test_a_tail_that_refuses_or_fails_costs_the_request_a_try(
    error: Exception, *, ordered: bool
) -> None:
    async with stream(ordered=ordered) as s:
        s.inference.refuses = error
        await s.send(1)
        wanted = "RESOURCE_EXHAUSTED" if isinstance(error, OverloadedError) else "UNAVAILABLE"
        assert await s.code() == wanted
        assert s.cache.get(RequestKey(STREAM, 1)) is None
    async with stream(ordered=ordered) as s:
        await s.send(1)
        s.inference.asked[0].settle(error)
        assert await s.code() == wanted
        assert s.cache.get(RequestKey(STREAM, 1)) is None


@both
async def test_a_tail_that_stops_costs_the_request_a_try(*, ordered: bool) -> None:
    async with stream(ordered=ordered) as s:
        await s.send(1)
        s.inference.asked[0].settle(UnavailableError("the tail has stopped"))
        assert await s.code() == "UNAVAILABLE"


async def test_a_failure_that_cannot_even_be_said_holds_up_nobody() -> None:
    async with stream() as s:
        await s.send(1)
        await s.send(2)
        known = s.cache.get(RequestKey(STREAM, 1))
        assert known is not None
        await s.requests.room()
        s.requests.repeat(1, known)
        s.inference.fails_to_answer = True
        s.inference.asked[0].settle(UnavailableError("away"))
        s.inference.fails_to_answer = False
        s.inference.asked[1].settle(ANSWER)
        said = [await s.said(), await s.said()]
        assert {each.WhichOneof("response") for each in said} == {"failure", "prediction"}
        assert s.cache.get(RequestKey(STREAM, 1)) is None


@both
async def test_a_request_that_is_repeated_is_computed_once_and_answered_twice(
    *, ordered: bool
) -> None:
    async with stream(ordered=ordered) as s:
        await s.send(1)
        known = s.cache.get(RequestKey(STREAM, 1))
        assert known is not None
        await s.requests.room()
        s.requests.repeat(1, known)
        s.inference.asked[0].settle(ANSWER)
        said = [await s.said(), await s.said()]
        assert [each.prediction.sequence for each in said] == [1, 1]
        await s.requests.room()
        s.requests.repeat(1, known)
        assert (await s.said()).prediction.sequence == 1
        assert (len(s.inference.asked), s.inference.logged) == (1, 1)


async def test_what_an_ordered_stream_leaves_unanswered_may_be_sent_again() -> None:
    async with stream(ordered=True) as s:
        for sequence in (1, 2, 3):
            await s.send(sequence)
        for number in (2, 1):
            s.inference.asked[number].settle(ANSWER)
        s.inference.asked[0].settle(OverloadedError("full"))
        assert await s.code() == "RESOURCE_EXHAUSTED"
        assert [s.cache.get(RequestKey(STREAM, n)) for n in (1, 2, 3)] == [None] * 3


async def test_a_stream_that_was_closed_is_answered_into_the_cache_and_accounted() -> None:
    one = Stream(ordered=False)
    await one.send(1)
    one.requests.out.close()
    one.inference.asked[0].settle(ANSWER)
    async with asyncio.timeout(5):
        await one.requests.all_answered()
    known = one.cache.get(RequestKey(STREAM, 1))
    assert known is not None
    assert known.result().prediction.sequence == 1
    assert (one.inference.logged, one.inference.under_way, one.client.in_flight) == (1, 0, 0)


@both
async def test_a_mistake_before_one_is_asked_for_costs_no_other(
    ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stream(ordered=ordered) as one:
        begin, come = one.client.begin_request, iter([ZeroDivisionError, None])

        def fails_once() -> None:
            if next(come):
                raise ZeroDivisionError
            begin()

        monkeypatch.setattr(one.client, "begin_request", fails_once)
        for sequence in (1, 2):
            await one.requests.room()
            one.requests.start(sequence, Received(CODEC), None)
        await asyncio.sleep(0)
        assert len(one.inference.asked) == 1
        one.inference.asked[0].settle(ANSWER)
        assert await one.code() == "UNAVAILABLE"
        if not ordered:  # there the stream ends with a failure for now
            assert (await one.said()).prediction.sequence == 2
