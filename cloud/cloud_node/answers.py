"""Answers by request, kept for an edge that lost its connection and asks again."""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from spikebottlenet.rpc.v1.coinference_pb2 import StreamResponse


class RequestKey(NamedTuple):
    """What a request is known by, across connections."""

    stream_id: bytes
    sequence: int


class AnswerCache:
    """The last ``size`` requests, answered or being answered; the oldest are forgotten first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: OrderedDict[RequestKey, asyncio.Future[StreamResponse]] = OrderedDict()

    def get(self, key: RequestKey) -> "asyncio.Future[StreamResponse] | None":
        """The answer to come or already there, if this request is known."""
        return self._answers.get(key)

    def put(self, key: RequestKey, answer: "asyncio.Future[StreamResponse]") -> None:
        """Remember a request that is being answered."""
        self._answers[key] = answer
        while len(self._answers) > self._size:
            self._answers.popitem(last=False)

    def forget(self, key: RequestKey, answer: "asyncio.Future[StreamResponse]") -> None:
        """Let a request whose answer this would have been be tried afresh."""
        if self._answers.get(key) is answer:
            del self._answers[key]
