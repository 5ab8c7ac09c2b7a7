"""What a real deployment meets: damaged images, restarts, wrong models, clients that go away."""

import asyncio
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc.aio
import numpy as np

from spikebottlenet.bundle import HEAD_ONNX, Bundle, default_bundle, file_digest
from spikebottlenet.rpc.v1.coinference_pb2 import (
    StreamRequest,
)
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub
from spikebottlenet.rpc.v1.edge_pb2 import SOURCE_CLOUD, SOURCE_EDGE_EXIT, ClassifyRequest
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub
from tests.clients import (
    ANSWER_WITHIN_S,
    channel,
    no_traceback,
    opening,
    serves,
)
from tests.conftest import Start, log_lines
from tests.load import Load
from tests.test_loopback import records, send


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
        edge = start("edge_node", "--cloud", f"127.0.0.1:{port}", "--deadline-ms", "3000")
        async with channel(edge) as line:
            request = ClassifyRequest(image=photo.read_bytes())
            reply = await EdgeInferenceStub(line).Classify(request, timeout=ANSWER_WITHIN_S)
    assert reply.source == SOURCE_EDGE_EXIT


async def test_killed_and_restarted_cloud_is_used_again_within_five_seconds(
    start: Start, photo: Path
) -> None:
    cloud = start("cloud_node")
    edge = start("edge_node", "--cloud", cloud.address)
    load = Load(edge, photo.read_bytes(), clients=8)
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
    load = Load(edge, photo.read_bytes(), clients=8)
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
    assert totals["images"] == len(load.answers)
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
    assert (status, "host:port" in said) == (2, True)
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
