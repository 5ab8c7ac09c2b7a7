"""A client as an edge-node sees it: one stream of image files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from spikebottlenet.bench.load.answers import Answers
from spikebottlenet.bench.load.plan import Aim
from spikebottlenet.bench.load.samples import EDGE_EXIT, OK
from spikebottlenet.rpc.channel import MAX_IMAGE_BYTES, make_channel
from spikebottlenet.rpc.security import call_metadata
from spikebottlenet.rpc.v1.edge_pb2 import SOURCE_CLOUD, ClassifyRequest
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub

_ROOM_BYTES = 64 * 1024


class EdgeLine:
    """An open stream; answers are matched by sequence."""

    def __init__(self, call: Any, aim: Aim) -> None:
        self._call = call
        self._aim = aim
        self._writing = asyncio.Lock()
        self._sequence = 0
        self._answers = Answers()

    @property
    def retry_after_s(self) -> float:
        """When the edge wants to be sent again what it refused last."""
        return self._answers.retry_after_s

    async def ask(self, index: int) -> int:
        """Send payload ``index``; the status code of its answer, EDGE_EXIT if no cloud gave it."""
        if self._answers.ended:
            return self._answers.ended
        self._sequence += 1
        request = ClassifyRequest(
            image=self._aim.payloads[index % len(self._aim.payloads)],
            sequence=self._sequence,
            deadline_ms=self._aim.deadline_ms,
        )
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._answers.expect(self._sequence, answer)
        try:
            async with self._writing:
                await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader says how it ended
        return await answer

    async def read(self) -> None:
        """Match answers to requests until the stream ends; then all that wait learn how."""
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                if response.WhichOneof("result") == "failure":
                    self._answers.refuse(response.sequence, response.failure)
                else:
                    by_cloud = response.record.source == SOURCE_CLOUD
                    self._answers.settle(response.sequence, OK if by_cloud else EDGE_EXIT)
        except grpc.aio.AioRpcError:
            pass
        finally:
            await self._answers.end(self._call)


@asynccontextmanager
async def edge_line(aim: Aim) -> AsyncIterator[EdgeLine]:
    """Connect and open a stream; both end with the block."""
    largest = MAX_IMAGE_BYTES + _ROOM_BYTES
    async with make_channel(
        aim.address, max_message_bytes=largest, security=aim.security
    ) as channel:
        call: Any = EdgeInferenceStub(channel).ClassifyStream(metadata=call_metadata(aim.security))
        line = EdgeLine(call, aim)
        reading = asyncio.create_task(line.read())
        try:
            yield line
        finally:
            call.cancel()
            await asyncio.gather(reading, return_exceptions=True)
