"""Checked and ordered streams, several models, work that nobody waits for any more."""

import random
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError

from spikebottlenet.bundle import Bundle, Half, open_bundle
from spikebottlenet.codec.frame import bind_frame
from spikebottlenet.errors import CorruptFrameError
from spikebottlenet.rpc.checks import frame_context, verify_check, with_check
from spikebottlenet.rpc.v1.coinference_pb2 import (
    GetModelRequest,
    Prediction,
    StreamRequest,
    StreamResponse,
)
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub
from tests.clients import (
    STREAM,
    channel,
    code_of,
    converse,
    iter_requests,
    no_traceback,
    opened,
    opening,
)
from tests.conftest import Start, log_lines


@pytest.fixture(scope="module")
def frame(bundle: Bundle, spikes: np.ndarray) -> bytes:
    return bundle.codec().encode_spikes(spikes)


def request(
    sequence: int, frame: bytes, *, said: int | None = None, previous: int = 0
) -> StreamRequest:
    """A request bound to ``sequence`` that says to be ``said``."""
    context = frame_context(STREAM, sequence, more=False, previous=previous)
    bound = bind_frame(frame, context)
    return StreamRequest(sequence=said or sequence, frame=bound)


def in_order(sequences: list[int], frame: bytes) -> list[StreamRequest]:
    """Requests of an ordered stream."""
    before = [0, *sequences]
    return [request(s, frame, previous=p) for s, p in zip(sequences, before, strict=False)]


def kinds(responses: list[StreamResponse]) -> list[tuple[str, int]]:
    found = []
    for response in responses:
        kind = response.WhichOneof("response")
        found.append((kind, getattr(response, kind).sequence))
    return found


async def test_a_checked_stream_refuses_what_is_not_whole_and_answers_the_rest(
    start: Start, bundle: Bundle, frame: bytes
) -> None:
    cloud = start("cloud_node")
    damaged = request(2, frame)
    damaged.frame = damaged.frame[:-1] + bytes([damaged.frame[-1] ^ 1])
    requests = [request(1, frame), damaged, request(3, frame, said=4), request(5, frame)]
    _, *answers = await converse(cloud, [opened(bundle), *requests])
    assert sorted(kinds(answers)) == [
        ("failure", 2),
        ("failure", 4),
        ("prediction", 1),
        ("prediction", 5),
    ]
    for answer in answers:
        message = getattr(answer, answer.WhichOneof("response"))
        verify_check(message, STREAM)
        with pytest.raises(CorruptFrameError):
            verify_check(message, bytes(16))
        if answer.HasField("failure"):
            assert answer.failure.code == grpc.StatusCode.DATA_LOSS.value[0]
    no_traceback(cloud)


async def test_an_answer_kept_from_an_unchecked_stream_is_checked_on_a_checked_one(
    start: Start, bundle: Bundle, frame: bytes
) -> None:
    cloud = start("cloud_node")
    plain = StreamRequest(sequence=1, frame=frame)
    _, first = await converse(cloud, [opening(bundle, STREAM), plain])
    _, again = await converse(cloud, [opened(bundle), request(1, frame)])
    verify_check(again.prediction, STREAM)
    assert again.prediction.chances == first.prediction.chances
    assert not first.prediction.check


async def test_a_damaged_open_is_refused(start: Start, bundle: Bundle) -> None:
    cloud = start("cloud_node")
    damaged = opened(bundle)
    damaged.open.deadline_ms = 7
    async with channel(cloud) as line:
        call = CoInferenceStub(line).Stream(iter_requests([damaged]))
        assert await code_of(call) == grpc.StatusCode.DATA_LOSS


def test_no_single_flipped_bit_of_an_answer_goes_unseen() -> None:
    draw = random.Random(3)
    for _ in range(20):
        answer = Prediction(
            sequence=draw.randrange(1 << 20),
            classes=[draw.randrange(100) for _ in range(5)],
            chances=[draw.randrange(16_384) for _ in range(5)],
            timesteps=2,
        )
        sent = with_check(answer, STREAM).SerializeToString()
        for bit in range(8 * len(sent)):
            damaged = bytearray(sent)
            damaged[bit // 8] ^= 1 << bit % 8
            got = Prediction()
            try:
                got.ParseFromString(bytes(damaged))
            except DecodeError:
                continue
            if got != answer:
                with pytest.raises(CorruptFrameError):
                    verify_check(got, STREAM)


async def test_an_ordered_stream_answers_in_order(
    start: Start, bundle: Bundle, frame: bytes
) -> None:
    cloud = start("cloud_node", "--max-batch", "3")
    sequences = [1, 2, 5, 6, 7, 9, *range(20, 60)]
    requests = in_order(sequences, frame)
    _, *answers = await converse(cloud, [opened(bundle, ordered=True), *requests])
    assert kinds(answers) == [("prediction", sequence) for sequence in sequences]


async def test_an_ordered_stream_ends_at_the_first_that_failed_for_now(
    start: Start, bundle: Bundle, frame: bytes
) -> None:
    # Sent again while the first stream's work is still being done: its fate is not theirs.
    cloud = start("cloud_node")
    sequences = list(range(1, 31))
    requests = in_order(sequences, frame)
    requests[2].frame = requests[3].frame
    _, *answers = await converse(cloud, [opened(bundle, ordered=True), *requests])
    assert kinds(answers) == [("prediction", 1), ("prediction", 2), ("failure", 3)]
    mended = in_order(sequences[2:], frame)
    _, *answers = await converse(cloud, [opened(bundle, ordered=True), *mended])
    assert kinds(answers) == [("prediction", sequence) for sequence in sequences[2:]]
    no_traceback(cloud)


@pytest.mark.parametrize("lost", [0, 2])
async def test_an_ordered_stream_misses_a_request_that_got_lost(
    start: Start, bundle: Bundle, frame: bytes, lost: int
) -> None:
    cloud = start("cloud_node")
    sequences = [7, 8, 9, 10]
    requests = in_order(sequences, frame)
    del requests[lost]
    _, *answers = await converse(cloud, [opened(bundle, ordered=True), *requests])
    found = [("prediction", sequence) for sequence in sequences[:lost]]
    assert kinds(answers) == [*found, ("failure", sequences[lost + 1])]


async def test_an_ordered_stream_refuses_to_go_back(
    start: Start, bundle: Bundle, frame: bytes
) -> None:
    cloud = start("cloud_node")
    requests = [opened(bundle, ordered=True), request(2, frame), request(1, frame)]
    async with channel(cloud) as line:
        call = CoInferenceStub(line).Stream(iter_requests(requests))
        assert await code_of(call) == grpc.StatusCode.INVALID_ARGUMENT


async def test_every_bundle_is_served_by_its_fingerprint(
    start: Start, bundle: Bundle, other_bundle: Path, frame: bytes
) -> None:
    cloud = start("cloud_node", "--bundle", f"default,{other_bundle}")
    other = open_bundle(other_bundle, Half.EDGE)
    for one in (bundle, other):
        _, answer = await converse(cloud, [opened(one), request(1, frame)])
        assert answer.HasField("prediction")
        async with channel(cloud) as line:
            wanted = GetModelRequest(fingerprint=bytes.fromhex(one.fingerprint))
            [part] = [part async for part in CoInferenceStub(line).GetModel(wanted)]
            assert part.manifest_json == one.manifest.canonical_json()
    async with channel(cloud) as line:
        call = CoInferenceStub(line).GetModel(GetModelRequest(fingerprint=bytes(32)))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            _ = [part async for part in call]
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    for one in (bundle, other):
        assert one.fingerprint in (refused.value.details() or "")


async def test_work_that_nobody_waits_for_is_dropped_and_counted(
    start: Start, bundle: Bundle, frame: bytes
) -> None:
    cloud = start("cloud_node", "--max-batch", "1", "--max-in-flight", "64", "--threads", "1")
    requests = [request(sequence, frame) for sequence in range(1, 65)]
    for one in requests[1:]:
        one.deadline_ms = 1
    _, *answers = await converse(cloud, [opened(bundle), *requests])
    failed = [answer.failure for answer in answers if answer.HasField("failure")]
    assert len(answers) == 64
    assert failed
    assert {f.code for f in failed} == {grpc.StatusCode.DEADLINE_EXCEEDED.value[0]}
    cloud.stop()
    totals = log_lines(cloud)[-1]
    assert totals["expired"] == len(failed)
    assert totals["images"] == 64 - len(failed)
