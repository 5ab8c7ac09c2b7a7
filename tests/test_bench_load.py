"""The load generator against real daemons, and against servers that stall."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from spikebottlenet.bench.load.generator import run_and_keep, run_load
from spikebottlenet.bench.load.payloads import frames_to_send, write_frames
from spikebottlenet.bench.load.plan import Aim, Pace, Target
from spikebottlenet.bench.load.samples import EDGE_EXIT, NO_ROOM, OK, latencies
from spikebottlenet.bench.load.schedule import Schedule
from spikebottlenet.bench.load.worker import _closed_loop, _Log, _open_loop
from spikebottlenet.bench.peers.plain_server import CALL, SERVICE
from spikebottlenet.bundle import Bundle
from spikebottlenet.cli.__main__ import app
from spikebottlenet.errors import DataError, ModelMismatchError, SpikeBottleNetError
from tests.conftest import Start, altered_bundle

STALL_S = 1.0
SERVICE_S = 0.02


@pytest.fixture
def stalling() -> Iterator[str]:
    """A server with one worker that stands still once for a second."""
    served = 0

    def answer(request: bytes, _: grpc.ServicerContext) -> bytes:
        nonlocal served
        served += 1
        if served == 20:
            time.sleep(STALL_S)
        return request

    server = grpc.server(ThreadPoolExecutor(1))
    methods = {CALL: grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_stall_is_seen_by_every_request_that_was_due_in_it(stalling: str) -> None:
    pace = Pace(seconds=3, rate=60, warm_s=0, edges=2)
    report, kept = run_and_keep(Aim(Target.UNARY, stalling, (b"x",)), pace)
    assert report.codes == {"OK": len(kept.due_s)}
    took = latencies(kept, accepted=True)
    # A closed loop would have one slow request. Due in the stall's first three quarters: late by a
    # quarter of it or more, 45 of them on average; by chance fewer than 20 once in 10^5 runs.
    assert (took >= STALL_S / 4).sum() >= 20
    assert took.max() >= STALL_S * 0.9


async def test_waiting_for_credit_counts_as_latency() -> None:
    class OneAtATime:
        def __init__(self) -> None:
            self.free = asyncio.Lock()

        async def ask(self, index: int) -> int:
            async with self.free:
                await asyncio.sleep(SERVICE_S)
            return OK

    log, start = _Log(), time.monotonic()
    schedule = Schedule(np.zeros(5), np.zeros(5, dtype=np.int64))
    await _open_loop({0: OneAtATime()}, schedule, log, start, Pace(seconds=1, rate=5))
    took = latencies(log.samples(), accepted=True)
    assert len(took) == 5
    assert all(late >= (n + 1) * SERVICE_S * 0.9 for n, late in enumerate(sorted(took)))


async def test_a_closed_loop_asks_again_when_the_server_wants_it() -> None:
    class Full:
        retry_after_s = 0.2

        async def ask(self, index: int) -> int:
            return NO_ROOM

    log = _Log()
    await _closed_loop({0: Full()}, log, time.monotonic(), Pace(seconds=1, in_flight=2, warm_s=0))
    samples = log.samples()
    assert set(samples.code) == {NO_ROOM}
    assert 2 < len(samples.code) <= 2 * 6


async def test_what_a_closed_loop_was_told_once_does_not_delay_what_is_answered() -> None:
    class Told:
        retry_after_s = 60.0

        async def ask(self, index: int) -> int:
            return EDGE_EXIT

    log = _Log()
    await _closed_loop({0: Told()}, log, time.monotonic(), Pace(seconds=1, warm_s=0))
    assert len(log.samples().code) > 2


def test_a_cloud_node_answers_every_edge(start: Start, bundle: Bundle) -> None:
    cloud = start("cloud_node")
    frames = frames_to_send(bundle, None, [])
    aim = Aim(Target.CLOUD, cloud.address, frames, fingerprint=bytes.fromhex(bundle.fingerprint))
    report = run_load(aim, Pace(seconds=2, rate=20, edges=6, processes=2, warm_s=0.5))
    assert report.codes == {"OK": report.requests}
    assert 0 < report.requests <= report.answered
    assert report.wire_up / report.answered > np.mean([len(frame) for frame in frames])


def test_an_edge_node_answers_in_closed_loop(start: Start, bundle: Bundle, photo: Path) -> None:
    edge = start("edge_node", "--cloud", "127.0.0.1:1")
    aim = Aim(Target.EDGE, edge.address, (photo.read_bytes(),))
    report = run_load(aim, Pace(seconds=1.5, edges=2, warm_s=0.5))
    # There is no cloud: what the edge answers by itself is not counted as served.
    assert set(report.codes) == {"EDGE_EXIT"}
    assert report.goodput == 0


def test_who_refuses_the_stream_says_why(start: Start, bundle: Bundle) -> None:
    cloud = start("cloud_node")
    aim = Aim(Target.CLOUD, cloud.address, (b"x" * 20,), fingerprint=bytes(32))
    with pytest.raises(SpikeBottleNetError, match=r"bundle|model"):
        run_load(aim, Pace(seconds=1))


def test_bad_frames_are_counted_by_their_code(start: Start, bundle: Bundle) -> None:
    cloud = start("cloud_node")
    fingerprint = bytes.fromhex(bundle.fingerprint)
    aim = Aim(Target.CLOUD, cloud.address, (b"\x10" + bytes(30),), fingerprint=fingerprint)
    report = run_load(aim, Pace(seconds=1, rate=20, warm_s=0))
    assert report.codes == {"DATA_LOSS": report.requests}
    assert report.goodput == 0


def test_the_command_sends_recorded_frames(start: Start, tmp_path: Path) -> None:
    cloud, run = start("cloud_node"), CliRunner()
    done = run.invoke(app, ["bench", "record", str(tmp_path / "frames")])
    assert done.exit_code == 0, done.output
    options = ["--frames", str(tmp_path / "frames"), "--rate", "10", "--seconds", "1", "--json"]
    done = run.invoke(app, ["bench", "load", cloud.address, *options])
    assert '"OK"' in done.output


def test_frames_of_another_bundle_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    from spikebottlenet.bundle import Half, open_bundle

    write_frames((b"abc", b"de"), bundle, tmp_path)
    assert frames_to_send(bundle, tmp_path, []) == (b"abc", b"de")
    other = open_bundle(altered_bundle(tmp_path / "other", name="other"), Half.EDGE)
    with pytest.raises(ModelMismatchError, match="record again"):
        frames_to_send(other, tmp_path, [])
    (tmp_path / "frames.bin").write_bytes(b"abc")
    with pytest.raises(DataError, match="not what its index says"):
        frames_to_send(bundle, tmp_path, [])
