"""The contract: timesteps apart or together, repeated requests, foreign bytes, what is refused."""

import random

import grpc.aio
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from spikebottlenet.bundle import HEAD_ONNX, Bundle
from spikebottlenet.rpc.v1.coinference_pb2 import (
    GetModelRequest,
    InferRequest,
    Open,
    StreamRequest,
)
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub
from tests.clients import (
    channel,
    code_of,
    converse,
    no_traceback,
    opening,
    serves,
)
from tests.conftest import Start, log_lines


async def test_timesteps_sent_apart_or_together_get_the_same_answer(
    start: Start, bundle: Bundle, spikes: np.ndarray
) -> None:
    cloud, codec = start("cloud_node"), bundle.codec()
    parts = [
        StreamRequest(
            sequence=2,
            frame=codec.encode_spikes(spikes[t : t + 1], first_timestep=t),
            more=t + 1 < len(spikes),
        )
        for t in range(len(spikes))
    ]
    whole = StreamRequest(sequence=1, frame=codec.encode_spikes(spikes))
    early = StreamRequest(sequence=3, frame=codec.encode_spikes(spikes[:1]))
    accepted, *answers = await converse(cloud, [opening(bundle), whole, *parts, early])
    assert accepted.accepted.max_in_flight > 0
    by_sequence = {answer.prediction.sequence: answer.prediction for answer in answers}
    assert sorted(by_sequence) == [1, 2, 3]
    assert by_sequence[1].classes == by_sequence[2].classes
    assert by_sequence[1].chances == pytest.approx(by_sequence[2].chances, abs=1)
    assert by_sequence[1].timesteps == by_sequence[2].timesteps == len(spikes)
    assert by_sequence[3].timesteps == 1
    assert not by_sequence[1].enough


async def test_a_sure_cloud_says_enough_and_ignores_the_rest(
    start: Start, bundle: Bundle, spikes: np.ndarray
) -> None:
    cloud, codec = start("cloud_node", "--enough-confidence", "0.001"), bundle.codec()
    first = codec.encode_spikes(spikes[:1])
    rest = codec.encode_spikes(spikes[1:], first_timestep=1)
    requests = [
        opening(bundle),
        StreamRequest(sequence=7, frame=first, more=True),
        StreamRequest(sequence=7, frame=rest),
        StreamRequest(sequence=8, frame=codec.encode_spikes(spikes)),
    ]
    _, *answers = await converse(cloud, requests)
    found = [(a.prediction.sequence, a.prediction.enough, a.prediction.timesteps) for a in answers]
    assert sorted(found) == [(7, True, 1), (8, False, len(spikes))]


async def test_a_repeated_request_gets_its_first_answer_across_connections(
    start: Start, bundle: Bundle, spikes: np.ndarray
) -> None:
    cloud = start("cloud_node")
    request = StreamRequest(sequence=5, frame=bundle.codec().encode_spikes(spikes))
    _, first = await converse(cloud, [opening(bundle), request])
    _, again = await converse(cloud, [opening(bundle), request])
    _, other = await converse(cloud, [opening(bundle, bytes(16)), request])
    assert again == first
    assert other.prediction.classes == first.prediction.classes
    cloud.stop()
    assert log_lines(cloud)[-1]["images"] == 2


async def test_infer_model_health_and_reflection(
    start: Start, bundle: Bundle, spikes: np.ndarray
) -> None:
    cloud = start("cloud_node")
    edge = start("edge_node", "--cloud", cloud.address)
    async with channel(cloud) as line:
        stub = CoInferenceStub(line)
        fingerprint = bytes.fromhex(bundle.fingerprint)
        frame = bundle.codec().encode_spikes(spikes)
        answer = await stub.Infer(InferRequest(fingerprint=fingerprint, frames=[frame]))
        assert len(answer.classes) == 5
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Infer(InferRequest(fingerprint=bytes(32), frames=[frame]))
        assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert bundle.fingerprint in refused.value.details()
        assert "00" * 32 in refused.value.details()
        parts = [part async for part in stub.GetModel(GetModelRequest(files=[HEAD_ONNX]))]
        assert bundle.manifest.name in parts[0].manifest_json
        data = b"".join(part.chunk.data for part in parts[1:])
        assert data == bundle.path(HEAD_ONNX).read_bytes()
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            _ = [p async for p in stub.GetModel(GetModelRequest(files=["../../etc/passwd"]))]
        assert missing.value.code() == grpc.StatusCode.NOT_FOUND
    for daemon, service in ((cloud, "CoInference"), (edge, "EdgeInference")):
        name = f"spikebottlenet.rpc.v1.{service}"
        assert await serves(daemon, name)
        async with channel(daemon) as line:
            ask = reflection_pb2.ServerReflectionRequest(list_services="")
            call = reflection_pb2_grpc.ServerReflectionStub(line).ServerReflectionInfo(iter([ask]))
            listed = [s.name async for r in call for s in r.list_services_response.service]
        assert name in listed


async def test_a_thousand_mutated_frames_each_get_an_answer(
    start: Start, bundle: Bundle, spikes: np.ndarray
) -> None:
    cloud, draw = start("cloud_node"), random.Random(0)
    codec = bundle.codec()
    frames = [codec.encode_spikes(spikes, scheme=s) for s in ("dense", "zstd", "sparse", "entropy")]
    requests = []
    for sequence in range(1, 1001):
        frame = bytearray(draw.choice(frames))
        match draw.randrange(4):
            case 0:
                frame[draw.randrange(len(frame))] ^= 1 << draw.randrange(8)
            case 1:
                del frame[draw.randrange(len(frame)) :]
            case 2:
                frame = bytearray(draw.randbytes(draw.randrange(300)))
            case 3:
                frame += draw.randbytes(draw.randrange(1, 50))
        requests.append(StreamRequest(sequence=sequence, frame=bytes(frame)))
    _, *answers = await converse(cloud, [opening(bundle), *requests])
    sequences = [getattr(answer, answer.WhichOneof("response")).sequence for answer in answers]
    assert sorted(sequences) == list(range(1, 1001))
    failures = [a.failure for a in answers if a.WhichOneof("response") == "failure"]
    assert len(failures) >= 999  # a mutation that changes nothing cannot be told
    assert {f.code for f in failures} == {grpc.StatusCode.DATA_LOSS.value[0]}
    assert await serves(cloud, "")
    no_traceback(cloud)


async def test_foreign_messages_are_refused_by_name(start: Start, bundle: Bundle) -> None:
    cloud = start("cloud_node")
    edge = start("edge_node", "--cloud", cloud.address)
    paths = {
        cloud: ("spikebottlenet.rpc.v1.CoInference", ("Stream", "Infer", "GetModel")),
        edge: ("spikebottlenet.rpc.v1.EdgeInference", ("Classify", "ClassifyStream")),
    }
    for daemon, (service, methods) in paths.items():
        async with channel(daemon) as line:
            for method in methods:
                call = line.stream_stream(f"/{service}/{method}")(iter([b"\xff\xff\xff"]))
                if method == "ClassifyStream":  # a failure is an answer, and the stream goes on
                    assert [b"not a ClassifyRequest" in reply async for reply in call] == [True]
                else:
                    assert await code_of(call) == grpc.StatusCode.INVALID_ARGUMENT
            call = line.stream_stream(f"/{service}/{methods[0]}")(iter([bytes(17 << 20)]))
            assert await code_of(call) == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await serves(daemon, service)
    no_traceback(cloud, edge)


async def test_protocol_errors_name_what_was_wrong(
    start: Start, bundle: Bundle, spikes: np.ndarray
) -> None:
    cloud = start("cloud_node")
    frame = bundle.codec().encode_spikes(spikes)
    late = bundle.codec().encode_spikes(spikes[1:], first_timestep=1)

    async def refusal(requests: list[StreamRequest]) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await converse(cloud, requests)
        return error.value.code(), str(error.value.details())

    code, reason = await refusal([StreamRequest(sequence=1, frame=frame)])
    assert (code, "Open" in reason) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    wrong = StreamRequest(open=Open(fingerprint=bytes(32), stream_id=bytes(16)))
    code, reason = await refusal([wrong])
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert bundle.fingerprint in reason
    code, reason = await refusal([opening(bundle, b"short")])
    assert (code, "16" in reason) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    _, answer = await converse(cloud, [opening(bundle), StreamRequest(sequence=1, frame=late)])
    assert answer.failure.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "wanted 0" in answer.failure.message
