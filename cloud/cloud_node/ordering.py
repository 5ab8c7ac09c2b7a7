"""Turns of a stream's answers: as they are ready, or in the order of their requests."""

import asyncio

import grpc

from spikebottlenet.rpc.v1.coinference_pb2 import StreamResponse

# Failures that another try may mend: on an ordered stream nothing after one is answered.
_FOR_NOW = frozenset(
    code.value[0]
    for code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.DATA_LOSS,
    )
)


def fails_for_now(response: StreamResponse) -> bool:
    """Whether this is a failure that another try may mend."""
    return response.HasField("failure") and response.failure.code in _FOR_NOW


class Turn:
    """One request's place among the answers."""

    def __init__(
        self,
        order: "Order",
        before: "asyncio.Future[None] | None" = None,
        over: "asyncio.Future[None] | None" = None,
    ) -> None:
        self._order = order
        self._before = before  # set once the turn before has ended, where there is one to wait for
        self._over = over  # to set once this one has

    async def begins(self) -> bool:
        """Wait for every turn before; false if one of them ended the stream."""
        if self._before is not None:
            await asyncio.shield(self._before)
        return not self._order.ended

    def ends(self, response: StreamResponse) -> None:
        """Let the next turn begin, knowing what this one answered."""
        self._order.answered(response)
        if self._over is not None:
            self._over.set_result(None)


class Order:
    """Gives turns; ``ordered`` ones wait for each other."""

    def __init__(self, *, ordered: bool) -> None:
        self.ordered = ordered
        self.ended = False  # by a failure for now, on an ordered stream
        self._last: asyncio.Future[None] | None = None

    def turn(self) -> Turn:
        """The next place."""
        if not self.ordered:
            return Turn(self)
        before, self._last = self._last, asyncio.get_running_loop().create_future()
        return Turn(self, before, self._last)

    def answered(self, response: StreamResponse) -> None:
        """Note what went out."""
        if self.ordered and fails_for_now(response):
            self.ended = True
