"""An edge as a cloud-node sees it: a checked stream, requests that wait together sent together.

Where the aim says so it holds requests back as an edge-node does, once it was refused some.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import uuid_utils

from spikebottlenet.bench.load.answers import Answers
from spikebottlenet.bench.load.plan import Aim
from spikebottlenet.bench.load.samples import NO_ROOM
from spikebottlenet.codec.frame import bind_frame
from spikebottlenet.errors import UnavailableError
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.checks import frame_context, verify_check, with_check
from spikebottlenet.rpc.refusal import error_from_call
from spikebottlenet.rpc.security import call_metadata
from spikebottlenet.rpc.throttle import Throttle
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Accepted,
    Open,
    RequestBatch,
    StreamRequest,
    StreamResponse,
)
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub

_MAX_MESSAGE_BYTES = 1024 * 1024
_ROOM_BYTES = 8  # of a batch beside its requests, and of each request in it, at most
_OPEN_WITHIN_S = 30.0


class CloudLine:
    """An open stream; a request waits while as many are in flight as the cloud takes.

    Without a task for each request: what this takes of a machine, a cloud-node there has not.
    """

    def __init__(self, call: Any, aim: Aim, stream_id: bytes, accepted: Accepted) -> None:
        self._call = call
        self._batch_bytes = accepted.batch_bytes  # 0: requests go one by one
        self._waiting: deque[tuple[int, asyncio.Future[int]]] = deque()  # for credit
        self._ready: deque[StreamRequest] = deque()  # written by whoever writes next
        self._aim = aim
        self._stream_id = stream_id
        self._credit = max(1, accepted.max_in_flight)
        self._writing: asyncio.Task[None] | None = None
        self._sequence = 0
        self._answers = Answers()
        self._throttle = Throttle() if aim.throttled else None

    @property
    def retry_after_s(self) -> float:
        """When the cloud wants to be sent again what it refused last."""
        return self._answers.retry_after_s

    def holds_back(self) -> int:
        """The status code that a request gets here and now, 0 if it is to be asked."""
        if self._throttle is not None and self._throttle.holds_back(time.monotonic()):
            return NO_ROOM
        return 0

    def ask(self, index: int) -> "asyncio.Future[int]":
        """Send payload ``index``; the status code of its answer."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._answers.ended:
            answer.set_result(self._answers.ended)
        elif self._credit:
            self._send(index, answer)
        else:
            self._waiting.append((index, answer))
        return answer

    def _send(self, index: int, answer: "asyncio.Future[int]") -> None:
        self._credit -= 1
        self._sequence += 1
        frame = self._aim.payloads[index % len(self._aim.payloads)]
        context = frame_context(self._stream_id, self._sequence, more=False)
        self._ready.append(StreamRequest(sequence=self._sequence, frame=bind_frame(frame, context)))
        self._answers.expect(self._sequence, answer)
        if self._writing is None:  # it begins in the next turn: all asked in this go together
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._ready:
                await self._call.write(self._next_message())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader says how it ended
        finally:
            self._writing = None

    def _next_message(self) -> StreamRequest:
        """The request that waits longest, with those behind it that fit the same message."""
        requests = [self._ready.popleft()]
        room = self._batch_bytes - requests[0].ByteSize() - _ROOM_BYTES
        while self._ready and (room := room - self._ready[0].ByteSize() - _ROOM_BYTES) >= 0:
            requests.append(self._ready.popleft())
        if len(requests) == 1:
            return requests[0]
        batch = RequestBatch(requests=requests)
        return StreamRequest(batch=with_check(batch, self._stream_id))

    async def read(self) -> None:
        """Match answers to requests until the stream ends; then all that wait learn how."""
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                if response.HasField("batch"):
                    verify_check(response.batch, self._stream_id)
                    for answer in response.batch.answers:
                        self._take(answer)
                else:
                    self._verify(response)
                    self._take(response)
        except grpc.aio.AioRpcError:
            pass
        finally:
            await self._answers.end(self._call)
            for _, answer in self._waiting:
                if not answer.done():
                    answer.set_result(self._answers.ended)
            self._waiting.clear()

    def _verify(self, response: StreamResponse) -> None:
        if response.HasField("prediction"):
            verify_check(response.prediction, self._stream_id)
        elif response.HasField("failure"):
            verify_check(response.failure, self._stream_id)

    def _take(self, response: StreamResponse) -> None:
        if response.HasField("prediction"):
            if self._throttle is not None:
                self._throttle.accepted(time.monotonic())
            owed = self._answers.settle(response.prediction.sequence, 0)
        elif response.HasField("failure"):
            if self._throttle is not None and response.failure.code == NO_ROOM:
                self._throttle.refused(time.monotonic())
            owed = self._answers.refuse(response.failure.sequence, response.failure)
        else:
            return
        if owed:
            self._give_back()

    def _give_back(self) -> None:
        """Send what waits for the place of a request that is answered."""
        self._credit += 1
        while self._waiting and self._credit:
            index, answer = self._waiting.popleft()
            if not answer.done():  # whoever asked has not given up
                self._send(index, answer)


@asynccontextmanager
async def cloud_line(aim: Aim) -> AsyncIterator[CloudLine]:
    """Connect and open a stream; both end with the block.

    Raises:
        SpikeBottleNetError: the cloud is away or refused the stream.
    """
    async with make_channel(
        aim.address, max_message_bytes=_MAX_MESSAGE_BYTES, security=aim.security
    ) as channel:
        call: Any = CoInferenceStub(channel).Stream(metadata=call_metadata(aim.security))
        stream_id = uuid_utils.uuid7().bytes
        opening = Open(
            fingerprint=aim.fingerprint,
            stream_id=stream_id,
            deadline_ms=aim.deadline_ms,
            checked=True,
            batches=True,  # answers that are ready together
            brief=True,
        )
        try:
            async with asyncio.timeout(_OPEN_WITHIN_S):
                await call.write(StreamRequest(open=with_check(opening, stream_id)))
                reply = await call.read()
        except TimeoutError as error:
            call.cancel()
            raise UnavailableError(
                f"{aim.address} did not accept a stream within {_OPEN_WITHIN_S:.0f} s: "
                "is it a cloud-node?"
            ) from error
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error) from error
        if reply is grpc.aio.EOF or not reply.HasField("accepted"):
            raise UnavailableError(
                f"{aim.address} ended the stream with {(await call.code()).name}: "
                f"{await call.details()}; is it a cloud-node with this bundle?"
            )
        line = CloudLine(call, aim, stream_id, reply.accepted)
        reading = asyncio.create_task(line.read())
        try:
            yield line
        finally:
            call.cancel()
            await asyncio.gather(reading, return_exceptions=True)
