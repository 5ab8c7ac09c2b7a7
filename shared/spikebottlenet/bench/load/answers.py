"""Answers that a stream still owes, by sequence."""

import asyncio
from typing import Any

import grpc

from spikebottlenet.rpc.v1.coinference_pb2 import Failure
from spikebottlenet.rpc.v1.edge_pb2 import ClassifyFailure

_UNAVAILABLE = int(grpc.StatusCode.UNAVAILABLE.value[0])


class Answers:
    """Status codes to come; once the stream has ended every one is how it ended."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self.ended = 0  # status code of the stream; 0: it is open
        self.retry_after_s = 0.0  # when to send again what was refused, as last said

    def expect(self, sequence: int, answer: "asyncio.Future[int]") -> None:
        """Whoever sends a request waits for this."""
        self._waiting[sequence] = answer

    def refuse(self, sequence: int, failure: Failure | ClassifyFailure) -> bool:
        """Hand a failure to whoever waits for it; whether it was owed."""
        self.retry_after_s = failure.retry_after_ms / 1e3
        return self.settle(sequence, failure.code)

    def settle(self, sequence: int, code: int) -> bool:
        """Hand an answer to whoever waits for it; whether it was owed."""
        answer = self._waiting.pop(sequence, None)
        if answer is None:
            return False
        if not answer.done():
            answer.set_result(int(code))
        return True

    async def end(self, call: Any) -> None:
        """Tell all that wait, and all that still ask, how the call ended."""
        status = await call.code() if call.done() else grpc.StatusCode.CANCELLED
        self.ended = int(status.value[0]) or _UNAVAILABLE
        for sequence in list(self._waiting):
            self.settle(sequence, self.ended)
