"""Turns of a stream's answers: as they are ready, or in the order of their requests."""

from collections import deque
from collections.abc import Callable

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

# Answers a request, given whether the stream goes on; returns what it was answered.
Finish = Callable[[bool], StreamResponse]


def fails_for_now(response: StreamResponse) -> bool:
    """Whether this is a failure that another try may mend."""
    return response.HasField("failure") and response.failure.code in _FOR_NOW


class Turn:
    """One request's place among the answers."""

    def __init__(self, order: "Order") -> None:
        self._order = order
        self.finish: Finish | None = None  # from when it may end until it has

    def ends(self, finish: Finish) -> None:
        """Have it answered by ``finish``: at once, or on an ordered stream after those before."""
        if self._order.ordered:
            self.finish = finish
            self._order.go_on()
        else:
            finish(True)


class Order:
    """Gives turns; ``ordered`` ones wait for each other."""

    def __init__(self, *, ordered: bool) -> None:
        self.ordered = ordered
        self.ended = False  # by a failure for now, on an ordered stream
        self._turns: deque[Turn] = deque()  # that have not ended, where they are ordered
        self._any = Turn(self)  # of all that are not

    def turn(self) -> Turn:
        """The next place."""
        if not self.ordered:
            return self._any
        turn = Turn(self)
        self._turns.append(turn)
        return turn

    def go_on(self) -> None:
        """End the turns that are next and may end."""
        while self._turns and (finish := self._turns[0].finish) is not None:
            self._turns.popleft().finish = None  # it holds the request, which holds the turn
            self.ended |= fails_for_now(finish(not self.ended))
