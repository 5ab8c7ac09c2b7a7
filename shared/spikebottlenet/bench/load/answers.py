"""Answers that a stream still owes, by sequence."""

import asyncio
from typing import Any

import grpc

_UNAVAILABLE = int(grpc.StatusCode.UNAVAILABLE.value[0])


class Answers:
    """Status codes to come; once the stream has ended every one is how it ended."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self.ended = 0  # status code of the stream; 0: it is open

    def expect(self, sequence: int, answer: "asyncio.Future[int]") -> None:
        """Whoever sends a request waits for this."""
        self._waiting[sequence] = answer

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
