"""Requests that wait together share a message, and so do answers; damage loses none of them."""

import asyncio
import copy
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.outgoing import Outgoing
from edge_node.cloud_stream import CloudStream, Connection, bound_request, open_stream
from spikebottlenet.accounting.wire import KernelCounters, Side, WireLedger, framed_bytes, shares
from spikebottlenet.bundle import Bundle
from spikebottlenet.errors import CorruptFrameError, SpikeBottleNetError, UnavailableError
from spikebottlenet.rpc.brief import fill_in, fill_in_repeated, leave_out, leave_out_repeated
from spikebottlenet.rpc.checks import verify_check, with_check
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Accepted,
    AnswerBatch,
    Failure,
    Open,
    Prediction,
    RequestBatch,
    StreamRequest,
    StreamResponse,
)
from tests.clients import (
    STREAM,
    channel,
    code_of,
    converse,
    iter_requests,
    no_traceback,
    opened,
)
from tests.conftest import Start, log_lines
from tests.door import echo_server

DATA_LOSS = grpc.StatusCode.DATA_LOSS.value[0]


@pytest.fixture(scope="module")
def frame(bundle: Bundle, spikes: np.ndarray) -> bytes:
    return bundle.codec().encode_spikes(spikes)


def in_order(sequences: list[int], frame: bytes) -> list[StreamRequest]:
    before = [0, *sequences]
    return [
        bound_request(STREAM, s, frame, previous=p) for s, p in zip(sequences, before, strict=False)
    ]


def together(requests: list[StreamRequest]) -> StreamRequest:
    return StreamRequest(batch=with_check(RequestBatch(requests=requests), STREAM))


def apart(responses: list[StreamResponse]) -> list[StreamResponse]:
    """The answers, out of their batches."""
    found = []
    for response in responses:
        found += response.batch.answers if response.HasField("batch") else [response]
    return found


def kinds(responses: list[StreamResponse]) -> list[tuple[str, int]]:
    found = []
    for response in apart(responses):
        kind = response.WhichOneof("response")
        found.append((kind, getattr(response, kind).sequence))
    return found


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(0, 300))
def test_shares_are_together_what_the_message_takes(parts: list[int], beside: int) -> None:
    found = shares(sum(parts) + beside, parts)
    assert sum(found) == framed_bytes(sum(parts) + beside)
    over = [share - size for share, size in zip(found, parts, strict=True)]
    assert max(over) - min(over) <= 1


async def test_a_batch_is_answered_as_its_requests_would_be_alone(
    start: Start, bundle: Bundle, frame: bytes
) -> None:
    cloud = start("cloud_node")
    requests = [bound_request(STREAM, sequence, frame) for sequence in range(1, 21)]
    accepted, *answers = await converse(
        cloud, [opened(bundle), together(requests[:15]), *requests[15:]]
    )
    assert accepted.accepted.batch_bytes >= 4096
    # One that did not ask for batches of answers gets none.
    assert sorted(kinds(answers)) == [("prediction", sequence) for sequence in range(1, 21)]
    assert len(answers) == 20
    assert cloud.stop() == 0
    totals = log_lines(cloud)[-1]
    assert totals["images"] == 20
    assert totals["message_bytes"] == sum(request.ByteSize() for request in requests)
    messages = [together(requests[:15]), *requests[15:]]
    assert totals["wire_bytes_up"] == sum(framed_bytes(m.ByteSize()) for m in messages)


@pytest.mark.parametrize("ordered", [False, True])
async def test_answers_that_are_ready_together_come_in_one_message(
    start: Start, bundle: Bundle, frame: bytes, ordered: bool
) -> None:
    cloud = start("cloud_node")
    requests = in_order([*range(1, 21)], frame)
    if not ordered:
        requests = [bound_request(STREAM, sequence, frame) for sequence in range(1, 21)]
    opening = opened(bundle, ordered=ordered, batches=True)
    _, *answers = await converse(cloud, [opening, together(requests)])
    assert sorted(kinds(answers)) == [("prediction", sequence) for sequence in range(1, 21)]
    if ordered:
        assert kinds(answers) == sorted(kinds(answers))
    assert len(answers) < 10
    assert cloud.stop() == 0
    totals = log_lines(cloud)[-1]
    assert totals["wire_bytes_down"] == sum(framed_bytes(a.ByteSize()) for a in answers)


async def test_a_failure_for_now_ends_an_ordered_stream_of_batches_too(
    start: Start, bundle: Bundle, frame: bytes
) -> None:
    cloud = start("cloud_node")
    requests = in_order([1, 2, 3, 4, 5], frame)
    del requests[2]
    opening = opened(bundle, ordered=True, batches=True)
    _, *answers = await converse(cloud, [opening, together(requests)])
    assert kinds(answers) == [("prediction", 1), ("prediction", 2), ("failure", 4)]


async def test_a_batch_of_something_else_is_refused(start: Start, bundle: Bundle) -> None:
    cloud = start("cloud_node")
    async with channel(cloud) as line:
        requests = iter_requests([opened(bundle), together([opened(bundle)])])
        call = CloudCall(line).Stream(requests)
        assert await code_of(call) == grpc.StatusCode.INVALID_ARGUMENT
    no_traceback(cloud)


class CloudCall:
    """The stream of a cloud, for messages and for bytes that are none."""

    def __init__(self, line: grpc.aio.Channel) -> None:
        self.Stream = line.stream_stream(
            "/spikebottlenet.rpc.v1.CoInference/Stream",
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=StreamResponse.FromString,
        )


async def test_no_flipped_bit_of_a_batch_loses_a_request_without_a_word(
    start: Start, bundle: Bundle, frame: bytes
) -> None:
    cloud = start("cloud_node")
    requests = [bound_request(STREAM, sequence, frame) for sequence in (1, 2, 3)]
    whole = together(requests).SerializeToString()
    draw = random.Random(5)
    # The framing of the batch and of its first request, every bit; of the rest a few.
    bits = [*range(8 * 12), *(draw.randrange(8 * len(whole)) for _ in range(60))]
    async with channel(cloud) as line:
        for bit in bits:
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            call = CloudCall(line).Stream(iter_requests([opened(bundle), bytes(damaged)]))
            answered, told = set(), False
            try:
                async for response in call:
                    if response.HasField("prediction"):
                        answered.add(response.prediction.sequence)
                    told |= response.failure.code == DATA_LOSS
            except grpc.aio.AioRpcError:
                told = True
            assert answered <= {1, 2, 3}, bit
            assert told, bit
    no_traceback(cloud)


class Recorder:
    """A cloud that keeps what it is sent; its answers are scripted."""

    def __init__(self, accepted: Accepted, answers: list[StreamResponse]) -> None:
        self.messages: list[StreamRequest] = []
        self._accepted = accepted
        self._answers = answers

    async def Stream(self, requests, context):  # noqa: N802
        async for request in requests:
            if request.HasField("open"):
                yield StreamResponse(accepted=self._accepted)
            else:
                self.messages.append(request)
        for answer in self._answers:
            yield answer

    async def Infer(self, request, context):  # noqa: N802
        raise NotImplementedError

    GetModel = Infer


async def answers_of(stream: CloudStream) -> tuple[list[int], SpikeBottleNetError | None]:
    """The sequences of what is read, and what it ended with."""
    found: list[int] = []
    try:
        while (received := await stream.read()) is not None:
            found.append(received[0].prediction.sequence)
    except SpikeBottleNetError as error:
        return found, error
    return found, None


async def write_all(cloud: Recorder, requests: list[StreamRequest]) -> tuple:
    """Shares of what an edge writes to this cloud, and what it reads."""
    ledger = WireLedger(KernelCounters(port=1, side=Side.REMOTE))
    found: list[int] = []
    async with echo_server(service=cloud) as serving:

        def connect() -> Connection:
            return Connection(grpc.aio.insecure_channel(f"127.0.0.1:{serving.port}"), ())

        async with open_stream(connect, Open(stream_id=STREAM), ledger) as stream:
            left = list(requests)
            while left:
                message, parts = stream.together(left)
                await stream.send(message)
                found += parts
                del left[: len(parts)]
            await stream.done_writing()
            return found, *await answers_of(stream)


async def test_a_cloud_that_knows_no_batches_gets_none() -> None:
    cloud = Recorder(Accepted(max_in_flight=32), [])
    requests = [bound_request(STREAM, sequence, bytes(250)) for sequence in range(1, 10)]
    found, *_ = await write_all(cloud, requests)
    assert cloud.messages == requests
    assert found == [framed_bytes(request.ByteSize()) for request in requests]


async def test_a_batch_is_no_larger_than_the_cloud_takes() -> None:
    cloud = Recorder(Accepted(max_in_flight=32, batch_bytes=1000), [])
    requests = [bound_request(STREAM, sequence, bytes(250)) for sequence in range(1, 12)]
    requests.append(bound_request(STREAM, 12, bytes(5000)))
    found, *_ = await write_all(cloud, requests)
    assert [len(message.batch.requests) for message in cloud.messages] == [3, 3, 3, 2, 0]
    assert [message.batch.ByteSize() <= 1000 for message in cloud.messages] == [True] * 5
    unpacked = [r for m in cloud.messages for r in (m.batch.requests or [m])]
    assert unpacked == requests
    assert sum(found) == sum(framed_bytes(message.ByteSize()) for message in cloud.messages)


def answer_batch(sequences: list[int]) -> AnswerBatch:
    answers = [
        StreamResponse(
            prediction=with_check(
                Prediction(sequence=sequence, classes=[1], chances=[16_383]), STREAM
            )
        )
        for sequence in sequences
    ]
    return with_check(AnswerBatch(answers=answers), STREAM)


def plain(prediction: Prediction) -> Prediction:
    """Without its check and times."""
    found = Prediction()
    found.CopyFrom(prediction)
    found.check = found.queue_us = found.tail_us = 0
    return found


async def test_brief_answers_say_the_same_in_fewer_bytes(
    start: Start, bundle: Bundle, frame: bytes
) -> None:
    cloud = start("cloud_node")
    requests = [bound_request(STREAM, sequence, frame) for sequence in range(1, 21)]
    _, *answers = await converse(cloud, [opened(bundle, batches=True), together(requests)])
    whole = {each.prediction.sequence: plain(each.prediction) for each in apart(answers)}
    later = [bound_request(STREAM, sequence + 100, frame) for sequence in range(1, 21)]
    opening = opened(bundle, batches=True, brief=True)
    accepted, *brief = await converse(cloud, [opening, together(later)])
    assert sorted(kinds(brief)) == [("prediction", sequence + 100) for sequence in range(1, 21)]
    assert len(brief) <= 15
    for message in brief:
        alone = not message.HasField("batch")
        verify_check(message.prediction if alone else message.batch, STREAM)
        fill_in_repeated([] if alone else message.batch.answers)
    assert [a.prediction.check != 0 for a in apart(brief)] == [
        not message.HasField("batch") for message in brief for _ in apart([message])
    ]
    for answer in apart(brief):
        prediction = answer.prediction
        assert not prediction.timesteps
        assert not prediction.cloud_compute_uj
        assert prediction.tail_us > 0
        fill_in(prediction, accepted.accepted.usual)
        prediction.sequence -= 100
        assert plain(prediction) == whole[prediction.sequence]
    # A kept answer is as the stream wants it that asks again.
    accepted, *again = await converse(cloud, [opened(bundle, batches=True), together(later)])
    assert not accepted.accepted.HasField("usual")
    assert all(each.prediction.timesteps for each in apart(again))
    for each in apart(again):
        verify_check(each.prediction, STREAM)


async def test_a_brief_failure_alone_has_its_check(
    start: Start, bundle: Bundle, frame: bytes
) -> None:
    cloud = start("cloud_node")
    damaged = bound_request(STREAM, 2, frame)
    damaged.frame = damaged.frame[:-1] + bytes([damaged.frame[-1] ^ 1])
    opening = opened(bundle, batches=True, brief=True)
    _, *answers = await converse(cloud, [opening, damaged])
    assert kinds(answers) == [("failure", 2)]
    verify_check(answers[0].failure, STREAM)


@pytest.mark.parametrize("count", [1, 2])
async def test_what_is_kept_of_a_brief_answer_stays_whole(count: int) -> None:
    usual = Prediction(timesteps=2, cloud_compute_uj=1.5)
    kept = StreamResponse(prediction=Prediction(timesteps=2, cloud_compute_uj=1.5, tail_us=7))
    ledger = WireLedger(KernelCounters(port=1, side=Side.LOCAL))
    out = Outgoing(Open(stream_id=STREAM, batches=True, brief=True, checked=True), ledger, usual)
    told: list[int] = []
    for _ in range(count):
        out.put(kept, told.append)
    departure = out.take()
    assert departure is not None
    written = list(departure.message.batch.answers) or [departure.message]
    assert [answer.prediction.timesteps for answer in written] == [0] * count
    assert (kept.prediction.timesteps, kept.prediction.tail_us) == (2, 7)
    await asyncio.sleep(0)
    assert sum(told) == ledger.framed_down == framed_bytes(departure.message.ByteSize())


def test_what_is_left_out_of_a_batch_is_put_back_across_a_failure() -> None:
    usual = Prediction(timesteps=2, cloud_compute_uj=1.5)
    whole = [
        StreamResponse(
            prediction=Prediction(sequence=s, timesteps=t, cloud_compute_uj=uj, tail_us=us)
        )
        for s, t, uj, us in ((1, 2, 1.5, 700), (3, 1, 0.75, 700), (4, 2, 1.5, 900))
    ]
    whole.insert(1, StreamResponse(failure=with_check(Failure(sequence=2, code=8), STREAM)))
    brief = copy.deepcopy(whole)
    for each in brief:
        leave_out(each, usual)
    leave_out_repeated(brief)
    assert [each.prediction.tail_us for each in brief] == [700, 0, 0, 900]
    assert not brief[1].failure.check
    fill_in_repeated(brief)
    for each in brief:
        if each.HasField("prediction"):
            fill_in(each.prediction, usual)
    whole[1].failure.check = 0
    assert brief == whole


USUAL = with_check(Prediction(timesteps=2, cloud_compute_uj=1.5), STREAM)


def brief_batch(sequences: list[int], **more: object) -> AnswerBatch:
    answers = [
        StreamResponse(
            prediction=Prediction(
                sequence=sequence,
                classes=[1],
                chances=[16_383],
                tail_us=0 if index else 7000,
                **more,
            )
        )
        for index, sequence in enumerate(sequences)
    ]
    return with_check(AnswerBatch(answers=answers), STREAM)


async def test_an_edge_puts_back_what_brief_answers_leave_out() -> None:
    batch = brief_batch([1, 2])
    batch.answers.add(prediction=Prediction(sequence=3, classes=[1], chances=[9], timesteps=1))
    alone = with_check(Prediction(sequence=4, classes=[1], chances=[9], tail_us=50), STREAM)
    cloud = Recorder(
        Accepted(max_in_flight=32, usual=USUAL),
        [StreamResponse(batch=with_check(batch, STREAM)), StreamResponse(prediction=alone)],
    )
    ledger = WireLedger(KernelCounters(port=1, side=Side.REMOTE))
    async with echo_server(service=cloud) as serving:

        def connect() -> Connection:
            return Connection(grpc.aio.insecure_channel(f"127.0.0.1:{serving.port}"), ())

        async with open_stream(connect, Open(stream_id=STREAM), ledger) as stream:
            await stream.done_writing()
            found = [(await stream.read())[0].prediction for _ in range(4)]
    told = [(each.timesteps, each.cloud_compute_uj, each.tail_us) for each in found]
    assert told == [(2, 1.5, 7000), (2, 1.5, 7000), (1, 0, 7000), (2, 1.5, 50)]


def flipped(whole: bytes, kind: type) -> Iterator[tuple[int, Any]]:
    """The message with each bit flipped in turn; where it is none any more, gRPC says so."""
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        with suppress(DecodeError):
            yield bit, kind.FromString(bytes(damaged))


async def test_no_flipped_bit_changes_what_brief_answers_leave_out() -> None:
    whole = USUAL.SerializeToString()
    ledger = WireLedger(KernelCounters(port=1, side=Side.REMOTE))
    for _, usual in flipped(whole, Prediction):
        async with echo_server(service=Recorder(Accepted(usual=usual), [])) as serving:
            connection = Connection(grpc.aio.insecure_channel(f"127.0.0.1:{serving.port}"), ())
            with pytest.raises(CorruptFrameError):
                async with open_stream(lambda at=connection: at, Open(stream_id=STREAM), ledger):
                    pass


async def test_no_flipped_bit_of_a_brief_batch_changes_an_answer() -> None:
    whole = StreamResponse(batch=brief_batch([1, 2, 3])).SerializeToString()
    for bit, response in flipped(whole, StreamResponse):
        cloud = CloudStream(None, WireLedger(KernelCounters(port=1, side=Side.REMOTE)), STREAM)
        cloud._usual = USUAL
        with suppress(CorruptFrameError, UnavailableError):
            cloud._unpack(response)
        # A Drain costs no answer: all that has none is sent again elsewhere.
        assert {answer.WhichOneof("response") for answer, _ in cloud._answers} <= {"drain"}, bit


async def test_what_is_whole_of_a_damaged_batch_of_answers_is_taken() -> None:
    batch = answer_batch([1, 2, 3, 4])
    batch.answers[2].prediction.classes[0] = 2
    cloud = Recorder(Accepted(max_in_flight=32), [StreamResponse(batch=batch)])
    _, found, error = await write_all(cloud, [])
    assert found == [1, 2]
    assert isinstance(error, CorruptFrameError)


async def test_a_batch_of_answers_that_lost_one_is_damaged() -> None:
    batch = answer_batch([1, 2, 3])
    del batch.answers[1]
    cloud = Recorder(Accepted(max_in_flight=32), [StreamResponse(batch=batch)])
    _, found, error = await write_all(cloud, [])
    assert found == [1, 3]
    assert isinstance(error, CorruptFrameError)
