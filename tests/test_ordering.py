"""Turns of answers: in order where the edge asks so, and none after a failure that may pass."""

import grpc
import pytest

from cloud_node.ordering import Finish, Order
from spikebottlenet.rpc.v1.coinference_pb2 import Failure, Prediction, StreamResponse

ANSWER = StreamResponse(prediction=Prediction(sequence=1))
NOT_NOW = StreamResponse(failure=Failure(code=grpc.StatusCode.UNAVAILABLE.value[0]))
NEVER = StreamResponse(failure=Failure(code=grpc.StatusCode.INVALID_ARGUMENT.value[0]))


class Said:
    """Notes which turns are answered, and whether the stream still went on then."""

    def __init__(self) -> None:
        self.said: list[tuple[int, bool]] = []

    def finish(self, number: int, response: StreamResponse = ANSWER) -> Finish:
        def finish(in_turn: bool) -> StreamResponse:
            self.said.append((number, in_turn))
            return response

        return finish


def test_on_an_ordered_stream_a_turn_waits_for_those_before_it() -> None:
    order, said = Order(ordered=True), Said()
    turns = [order.turn() for _ in range(4)]
    turns[2].ends(said.finish(2))
    turns[1].ends(said.finish(1))
    assert said.said == []
    turns[0].ends(said.finish(0))
    assert said.said == [(0, True), (1, True), (2, True)]
    turns[3].ends(said.finish(3))
    assert said.said[3:] == [(3, True)]


def test_on_any_other_a_turn_ends_at_once() -> None:
    order, said = Order(ordered=False), Said()
    first, second = order.turn(), order.turn()
    second.ends(said.finish(2, NOT_NOW))
    first.ends(said.finish(1))
    assert said.said == [(2, True), (1, True)]
    assert not order.ended


@pytest.mark.parametrize(("response", "goes_on"), [(NOT_NOW, False), (NEVER, True)])
def test_a_failure_that_may_pass_ends_an_ordered_stream(
    response: StreamResponse, goes_on: bool
) -> None:
    order, said = Order(ordered=True), Said()
    turns = [order.turn() for _ in range(3)]
    turns[1].ends(said.finish(1))
    turns[0].ends(said.finish(0, response))
    turns[2].ends(said.finish(2))
    assert said.said == [(0, True), (1, goes_on), (2, goes_on)]
    assert order.ended is not goes_on
