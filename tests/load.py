"""A steady load on an edge-node, from this process."""

import asyncio
import time

from spikebottlenet.cli.daemons import Daemon
from spikebottlenet.rpc.v1.edge_pb2 import ClassifyRequest
from spikebottlenet.rpc.v1.edge_pb2 import InferenceRecord as RecordMessage
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub
from tests.clients import ANSWER_WITHIN_S, channel


class Load:
    """Clients that ask again and again; every answer, in order. A call that fails ends it."""

    def __init__(self, edge: Daemon, image: bytes, *, clients: int, deadline_ms: int = 0) -> None:
        self.answers: list[RecordMessage] = []
        self._clients = clients
        self._request = ClassifyRequest(image=image, deadline_ms=deadline_ms)
        self._stop = False
        self._task = asyncio.create_task(self._run(edge))

    async def _run(self, edge: Daemon) -> None:
        async with channel(edge) as line:
            stub = EdgeInferenceStub(line)

            async def ask() -> None:
                while not self._stop:
                    self.answers.append(await stub.Classify(self._request, timeout=ANSWER_WITHIN_S))

            await asyncio.gather(*(ask() for _ in range(self._clients)))

    async def until(self, source: int) -> float:
        """Wait for the next answer from a source; returns the seconds that took."""
        seen, started = len(self.answers), time.monotonic()
        while not any(answer.source == source for answer in self.answers[seen:]):
            await self._a_moment(started)
        return time.monotonic() - started

    async def some_more(self) -> None:
        """Until every client has an answer to something asked after this call."""
        wanted, started = len(self.answers) + 2 * self._clients, time.monotonic()
        while len(self.answers) < wanted:
            await self._a_moment(started)

    async def stop(self) -> None:
        self._stop = True
        await self._task

    async def _a_moment(self, started: float) -> None:
        if self._task.done():
            await self._task
        assert time.monotonic() - started < ANSWER_WITHIN_S
        await asyncio.sleep(0.01)
