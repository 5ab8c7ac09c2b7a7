"""A stream of a cloud-node from its Open to its end, with tails that answer at once."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cloud_node import session as session_module
from cloud_node.answers import AnswerCache
from cloud_node.job import Job, TailAnswer
from cloud_node.requests import Requests
from cloud_node.session import Session
from spikebottlenet.accounting.wire import KernelCounters, Side, WireLedger
from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.model.shape import SpikeShape
from spikebottlenet.rpc.limits import Client, ServerLimits, set_current_client
from spikebottlenet.rpc.v1.coinference_pb2 import Open, Prediction, StreamRequest, StreamResponse

STREAM = uuid.uuid4().bytes
SHAPE = SpikeShape(timesteps=2, channels=1, height=2, width=2)
CODEC = SpikeCodec(SHAPE, np.full(tuple(SHAPE), 1 << 15, np.uint16))
FRAME = CODEC.encode_spikes(np.zeros(tuple(SHAPE), np.uint8))
ANSWER = TailAnswer([3], [8192], 10, 20, 1)


class Inference:
    """Tails that answer while they are asked."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(
            max_in_flight=4, max_message_bytes=1 << 20, enough_confidence=1.0
        )
        self.under_way = self.streams = 0
        self.under_way_when_asked: list[int] = []
        self.asked_as_it_came: list[bool] = []  # and not in a turn of the loop after that

    def usual(self, _: object) -> Prediction:
        return Prediction()

    def ask(self, _: object, jobs: Sequence[Job], **__: object) -> None:
        self.under_way_when_asked.append(self.under_way)
        self.asked_as_it_came.append(asyncio.current_task() is not None)
        for job in jobs:
            job.settle(ANSWER)

    def write(
        self, prediction: Prediction, _: object, __: object, answer: TailAnswer, *, arrived: float
    ) -> None:
        prediction.classes.extend(answer.classes)

    def log_answer(self, *_: object, **__: object) -> None:
        pass


class Edge:
    """What sends and reads; it reads where ``reads`` is set."""

    def __init__(self, inference: Any = None) -> None:
        set_current_client(Client("edge", ServerLimits()))
        inference = inference or Inference()
        model: Any = SimpleNamespace(bundle=None, codec=CODEC)
        opening = Open(stream_id=STREAM)
        ledger = WireLedger(KernelCounters(port=1, side=Side.LOCAL))
        requests = Requests(opening, model, inference, AnswerCache(16), ledger)
        self.session = Session(opening, model, inference, requests, ledger)
        self.sent: asyncio.Queue[StreamRequest | None] = asyncio.Queue()
        self.got: list[str | None] = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def requests(self) -> AsyncIterator[StreamRequest]:
        while (request := await self.sent.get()) is not None:
            yield request

    async def write(self, message: StreamResponse) -> None:
        await self.reads.wait()
        self.got.append(message.WhichOneof("response"))

    def send(self, sequence: int) -> None:
        self.sent.put_nowait(StreamRequest(sequence=sequence, frame=FRAME))

    async def settled(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def answering(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.session.answer(self.requests(), self.write))


@pytest.fixture
def quiet_s(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(session_module, "_DRAIN_QUIET_S", 0.05)
    return 0.05


async def test_a_stream_ends_with_its_edge_and_every_answer_is_written() -> None:
    edge = Edge()
    answering = edge.answering()
    for sequence in (1, 2, 3):
        edge.send(sequence)
        await edge.settled()
    edge.sent.put_nowait(None)
    async with asyncio.timeout(10):
        await answering
    assert edge.got == ["accepted", "prediction", "prediction", "prediction"]


async def test_what_comes_to_two_streams_at_once_is_under_way_before_the_tail_is_asked() -> None:
    inference = Inference()
    edges = [Edge(inference) for _ in range(2)]
    answering = [edge.answering() for edge in edges]
    await edges[0].settled()
    for edge in edges:
        edge.send(1)
    await edges[0].settled()
    assert inference.under_way_when_asked == [2, 1]  # each answers at once
    assert not any(inference.asked_as_it_came)
    for edge in edges:
        edge.sent.put_nowait(None)
    async with asyncio.timeout(10):
        await asyncio.gather(*answering)


async def test_the_tail_is_asked_at_once_where_no_other_stream_is_open() -> None:
    inference = Inference()
    edges = [Edge(inference) for _ in range(2)]
    first, second = [edge.answering() for edge in edges]
    await edges[0].settled()
    edges[1].sent.put_nowait(None)
    async with asyncio.timeout(10):
        await second
    edges[0].send(1)
    await edges[0].settled()
    assert inference.asked_as_it_came == [True]
    edges[0].sent.put_nowait(None)
    async with asyncio.timeout(10):
        await first
    assert inference.streams == 0


@pytest.mark.usefixtures("quiet_s")
async def test_a_drained_stream_ends_whoever_wrote_its_last_answer() -> None:
    edge = Edge()
    answering = edge.answering()
    await edge.settled()
    edge.send(1)  # its answer, and the word of the drain, leave from the task that reads
    edge.session.drain()
    async with asyncio.timeout(10):
        await answering
    assert sorted(str(kind) for kind in edge.got) == ["accepted", "drain", "prediction"]


async def test_an_edge_that_reads_late_has_its_answer_from_a_drained_stream(
    quiet_s: float,
) -> None:
    edge = Edge()
    answering = edge.answering()
    await edge.settled()
    edge.session.drain()
    await edge.settled()
    edge.reads.clear()
    edge.send(1)
    await asyncio.sleep(4 * quiet_s)
    assert not answering.done()
    edge.reads.set()
    async with asyncio.timeout(10):
        await answering
    assert edge.got == ["accepted", "drain", "prediction"]
