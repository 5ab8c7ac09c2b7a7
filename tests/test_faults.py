"""What a real deployment meets: foreign bytes, restarts, wrong models, clients that go away."""

import asyncio
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from spikebottlenet.bundle import HEAD_ONNX, Bundle, default_bundle, file_digest
from spikebottlenet.cli.daemons import Daemon
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.v1.coinference_pb2 import (
    GetModelRequest,
    InferRequest,
    Open,
    StreamRequest,
    StreamResponse,
)
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub
from spikebottlenet.rpc.v1.edge_pb2 import SOURCE_CLOUD, SOURCE_EDGE_EXIT, ClassifyRequest
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub
from tests.conftest import Start, log_lines
from tests.test_loopback import records, send

ANSWER_WITHIN_S = 60


def channel(daemon: Daemon) -> grpc.aio.Channel:
    return make_channel(daemon.address, max_message_bytes=32 * 1024 * 1024)


def opening(bundle: Bundle, stream_id: bytes = bytes(range(16))) -> StreamRequest:
    fingerprint = bytes.fromhex(bundle.fingerprint)
    return StreamRequest(open=Open(fingerprint=fingerprint, stream_id=stream_id))


@pytest.fixture(scope="module")
def spikes(bundle: Bundle) -> np.ndarray:
    shape = bundle.manifest.architecture.spike_shape
    return (np.random.default_rng(0).random(tuple(shape)) < 0.3).astype(np.uint8)


async def converse(daemon: Daemon, requests: list[StreamRequest]) -> list[StreamResponse]:
    async with channel(daemon) as line:
        call = CoInferenceStub(line).Stream(iter_requests(requests))
        return [response async for response in call]


async def iter_requests(requests: list[StreamRequest]):
    for request in requests:
        yield request


async def serves(daemon: Daemon, service: str) -> bool:
    async with channel(daemon) as line:
        request = health_pb2.HealthCheckRequest(service=service)
        reply = await health_pb2_grpc.HealthStub(line).Check(request)
    return reply.status == health_pb2.HealthCheckResponse.SERVING


async def code_of(call) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        _ = [reply async for reply in call]
    return refused.value.code()


def no_traceback(*daemons: Daemon) -> None:
    for daemon in daemons:
        assert "Traceback" not in daemon.log.read_text()


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
    assert by_sequence[1].probabilities == pytest.approx(by_sequence[2].probabilities, abs=1e-5)
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


async def test_two_hundred_mutated_images_each_get_an_answer(
    start: Start, photo_folder: Path
) -> None:
    cloud = start("cloud_node")
    edge = start("edge_node", "--cloud", cloud.address, "--deadline-ms", "30000")
    draw = random.Random(1)
    names = ("coffee.png", "rocket.jpg", "clock_motion.png", "no_time_for_that_tiny.gif")
    originals = [(photo_folder / n).read_bytes() for n in names if (photo_folder / n).exists()]
    codes = set()
    async with channel(edge) as line:
        stub = EdgeInferenceStub(line)
        for _ in range(200):
            data = bytearray(draw.choice(originals))
            match draw.randrange(3):
                case 0:
                    for _ in range(20):
                        data[draw.randrange(len(data))] = draw.randrange(256)
                case 1:
                    del data[draw.randrange(len(data)) :]
                case 2:
                    at = draw.randrange(min(len(data), 2000))
                    data[at : at + 30] = draw.randbytes(30)
            try:
                reply = await stub.Classify(
                    ClassifyRequest(image=bytes(data)), timeout=ANSWER_WITHIN_S
                )
                assert reply.source == SOURCE_CLOUD
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
    assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert await serves(edge, "")
    assert await serves(cloud, "")
    no_traceback(cloud, edge)


def test_bundles_that_differ_are_refused_with_both_fingerprints(
    start: Start, bundle: Bundle, other_bundle: Path, photo: Path
) -> None:
    cloud = start("cloud_node", "--bundle", str(other_bundle))
    edge = start("edge_node", "--cloud", cloud.address)
    done = send(edge, "--json", str(photo))
    assert done.returncode == 1
    assert bundle.fingerprint in done.stderr.decode()
    cloud_fingerprint = cloud.start_line.rpartition(" ")[2]
    assert cloud_fingerprint != bundle.fingerprint
    assert cloud_fingerprint in done.stderr.decode()
    no_traceback(cloud, edge)


def test_the_edge_exit_answers_while_the_cloud_is_away_at_start(start: Start, photo: Path) -> None:
    edge = start("edge_node", "--cloud", "127.0.0.1:9")
    done = send(edge, "--json", str(photo))
    assert done.returncode == 0, done.stderr
    (record,) = records(done)
    assert record["source"] == "edge_exit"
    assert record["wire_bytes_up"] == 0
    assert record["cloud_compute_uj"] == 0
    assert edge.stop() == 0
    no_traceback(edge)


async def test_the_edge_exit_answers_when_the_cloud_is_silent(start: Start, photo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, and never says a word
        port = silent.getsockname()[1]
        edge = start("edge_node", "--cloud", f"127.0.0.1:{port}", "--deadline-ms", "300")
        async with channel(edge) as line:
            request = ClassifyRequest(image=photo.read_bytes())
            reply = await EdgeInferenceStub(line).Classify(request, timeout=ANSWER_WITHIN_S)
    assert reply.source == SOURCE_EDGE_EXIT


class Load:
    """Eight clients that ask again and again; every answer's source, in order."""

    def __init__(self, edge: Daemon, image: bytes) -> None:
        self.sources: list[int] = []
        self._stop = False
        self._task = asyncio.create_task(self._run(edge, image))

    async def _run(self, edge: Daemon, image: bytes) -> None:
        async with channel(edge) as line:
            stub = EdgeInferenceStub(line)

            async def ask() -> None:
                while not self._stop:
                    request = ClassifyRequest(image=image)
                    reply = await stub.Classify(request, timeout=ANSWER_WITHIN_S)
                    self.sources.append(reply.source)

            await asyncio.gather(*(ask() for _ in range(8)))

    async def until(self, source: int) -> float:
        """Wait for the next answer from a source; returns the seconds that took."""
        seen, started = len(self.sources), time.monotonic()
        while source not in self.sources[seen:]:
            assert not self._task.done()
            assert time.monotonic() - started < ANSWER_WITHIN_S
            await asyncio.sleep(0.01)
        return time.monotonic() - started

    async def stop(self) -> None:
        self._stop = True
        await self._task


async def test_killed_and_restarted_cloud_is_used_again_within_five_seconds(
    start: Start, photo: Path
) -> None:
    cloud = start("cloud_node")
    edge = start("edge_node", "--cloud", cloud.address)
    load = Load(edge, photo.read_bytes())
    await load.until(SOURCE_CLOUD)
    cloud.process.kill()
    cloud.process.wait()
    await load.until(SOURCE_EDGE_EXIT)
    await asyncio.to_thread(start, "cloud_node", listen=cloud.address)
    assert await load.until(SOURCE_CLOUD) < 5
    await load.stop()
    no_traceback(edge)
    assert await asyncio.to_thread(edge.stop) == 0
    assert log_lines(edge)[-1]["refused"] == 0


async def test_sigterm_under_load_answers_what_was_accepted(
    start: Start, bundle: Bundle, spikes: np.ndarray, photo: Path
) -> None:
    cloud = start("cloud_node", "--max-batch", "2")
    edge = start("edge_node", "--cloud", cloud.address)
    load = Load(edge, photo.read_bytes())
    await load.until(SOURCE_CLOUD)
    frame = bundle.codec().encode_spikes(spikes)
    async with channel(cloud) as line:
        call = CoInferenceStub(line).Stream()
        await call.write(opening(bundle))
        await call.read()
        for sequence in range(1, 31):
            await call.write(StreamRequest(sequence=sequence, frame=frame))
        answers = [await call.read()]  # one back: the others are accepted, or on their way
        cloud.process.send_signal(signal.SIGTERM)
        while (answer := await call.read()) is not grpc.aio.EOF:
            answers.append(answer)
        assert await call.code() == grpc.StatusCode.OK
    kinds = [answer.WhichOneof("response") for answer in answers]
    assert kinds.count("prediction") == 30
    assert kinds.count("drain") == 1
    assert await asyncio.to_thread(cloud.process.wait, 30) == 0
    await load.until(SOURCE_EDGE_EXIT)
    await load.stop()
    assert await asyncio.to_thread(edge.stop) == 0
    no_traceback(cloud, edge)
    totals = log_lines(edge)[-1]
    assert totals["images"] == len(load.sources)
    assert totals["refused"] == 0


async def test_a_client_that_goes_away_disturbs_nobody(start: Start, photo: Path) -> None:
    cloud = start("cloud_node")
    edge = start("edge_node", "--cloud", cloud.address, "--deadline-ms", "30000")
    image = photo.read_bytes()
    for _ in range(5):
        async with channel(edge) as line:
            stub = EdgeInferenceStub(line)
            calls = [stub.Classify(ClassifyRequest(image=image)) for _ in range(4)]
            stream = stub.ClassifyStream()
            await stream.write(ClassifyRequest(image=image))
            await asyncio.sleep(0.02)
            for call in [*calls, stream]:
                call.cancel()
    async with channel(edge) as line:
        reply = await EdgeInferenceStub(line).Classify(
            ClassifyRequest(image=image), timeout=ANSWER_WITHIN_S
        )
    assert reply.source == SOURCE_CLOUD
    no_traceback(cloud, edge)


def refused_start(module: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_settings_and_bundles_that_cannot_work_are_said_at_start(
    start: Start, other_bundle: Path, tmp_path: Path
) -> None:
    config = tmp_path / "cloud.yaml"
    config.write_text("max_bach: 4\n")
    status, said = refused_start("cloud_node", "--config", str(config))
    assert (status, "'max_batch'" in said) == (2, True)
    config.write_text("max_batch: 4\nlog_level: warning\n")
    cloud = start("cloud_node", "--config", str(config))
    status, said = refused_start("edge_node", "--listen", cloud.address)
    assert (status, "in use" in said) == (1, True)
    status, said = refused_start("edge_node", "--deadline-ms", "soon")
    assert (status, "deadline_ms" in said) == (2, True)
    status, said = refused_start("edge_node", "--cloud", "nowhere")
    assert (status, "host:port" in said) == (1, True)
    status, said = refused_start("edge_node", "--bundle", str(tmp_path))
    assert (status, "manifest.yaml" in said) == (1, True)

    head = other_bundle / HEAD_ONNX
    kept = head.read_bytes()
    head.write_bytes(kept[:-1] + b"\0")
    try:
        status, said = refused_start("edge_node", "--bundle", str(other_bundle))
        assert status == 1
        assert file_digest(head) in said
        assert file_digest(default_bundle() / HEAD_ONNX) in said
        start("cloud_node", "--bundle", str(other_bundle))  # not its half
        head.unlink()
        status, said = refused_start("edge_node", "--bundle", str(other_bundle))
        assert (status, "missing" in said) == (1, True)
    finally:
        head.write_bytes(kept)
