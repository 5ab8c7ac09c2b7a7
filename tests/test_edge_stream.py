"""A client's stream to an edge-node, as the edge-node stops."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

from edge_node.metrics import EdgeMetrics
from edge_node.service import _STREAM_WINDOW, EdgeService
from edge_node.settings import EdgeSettings
from spikebottlenet.errors import OverloadedError
from spikebottlenet.rpc.v1.edge_pb2 import ClassifyRequest, ClassifyResponse
from spikebottlenet.tracing import NO_TRACES


class Slow:
    """Answers nothing until it is let go."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.asked = 0

    async def answer(self, _: object) -> None:
        self.asked += 1
        await self.go_on.wait()
        raise OverloadedError("no room")


class Context:
    """A call's, whose client reads so many answers."""

    def __init__(self, reads: float = math.inf) -> None:
        self.written: list[int] = []
        self._reads = reads

    def time_remaining(self) -> None:
        return None

    async def write(self, answer: ClassifyResponse) -> None:
        if len(self.written) >= self._reads:
            await asyncio.Event().wait()
        self.written.append(answer.sequence)


class Client:
    """Sends so many requests, and then keeps its stream open."""

    def __init__(self, count: int) -> None:
        self.taken = 0
        self._count = count

    async def requests(self) -> AsyncIterator[ClassifyRequest]:
        while self.taken < self._count:
            self.taken += 1
            yield ClassifyRequest(image=b"x", sequence=self.taken)
        await asyncio.Event().wait()


async def sequences(service: EdgeService, client: Client) -> list[int]:
    context: Any = Context()
    await service.ClassifyStream(client.requests(), context)
    return list(context.written)


async def settled() -> None:
    for _ in range(2 * _STREAM_WINDOW):
        await asyncio.sleep(0)


async def test_what_was_taken_of_a_stream_is_answered_and_no_more_is_taken() -> None:
    for count in (0, 1, 3, _STREAM_WINDOW, _STREAM_WINDOW + 2):
        slow, client = Slow(), Client(count)
        service = EdgeService(slow, EdgeSettings(), None, EdgeMetrics(), NO_TRACES)  # type: ignore[arg-type]
        answered = asyncio.create_task(sequences(service, client))
        await settled()
        assert client.taken == slow.asked == min(count, _STREAM_WINDOW)
        service.drain()
        await settled()
        slow.go_on.set()
        async with asyncio.timeout(10):
            assert sorted(await answered) == list(range(1, client.taken + 1))
        assert client.taken == slow.asked
        # One that opens a stream after all is not read from.
        late = Client(1)
        async with asyncio.timeout(10):
            assert await sequences(service, late) == []
        assert not service._reading


async def test_a_client_that_never_reads_and_goes_leaves_nothing_behind() -> None:
    slow, client = Slow(), Client(3 * _STREAM_WINDOW)
    slow.go_on.set()
    service = EdgeService(slow, EdgeSettings(), None, EdgeMetrics(), NO_TRACES)  # type: ignore[arg-type]
    context: Any = Context(reads=1)
    call = asyncio.create_task(service.ClassifyStream(client.requests(), context))
    await settled()
    assert context.written == [1]
    # No more is read than may wait to be written.
    assert client.taken == len(context.written) + _STREAM_WINDOW
    call.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([call])
    assert call.cancelled()
    assert not service._reading
