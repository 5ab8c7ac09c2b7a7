"""What should never happen, and must cost one request and no more when it does."""

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cloud_node.job import Awaited, TailAnswer
from cloud_node.received import Received
from cloud_node.tail_worker import TailWorker
from cloud_node.waiting import BatchLimits
from edge_node.head_worker import HeadWorker
from edge_node.queue_ops import QueueOps
from spikebottlenet.bundle import Bundle
from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.errors import OverloadedError, StoreError
from spikebottlenet.model.shape import SpikeShape
from spikebottlenet.rpc.v1.coinference_pb2 import StreamRequest
from spikebottlenet.rpc.v1.edge_pb2 import SOURCE_CLOUD, SOURCE_EDGE_EXIT, ClassifyRequest
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub
from tests.clients import ANSWER_WITHIN_S, channel, converse, no_traceback, opening
from tests.conftest import Start, log_lines
from tests.fault_proxy import proxy_thread
from tests.link_faults import HEALTHY, Faults
from tests.queue_driver import MODEL, Driver
from tests.test_store import results


class BrokenOnce:
    """A tail that fails the first time."""

    def __init__(self) -> None:
        self.calls = 0

    def classify(self, spikes: np.ndarray, *, threads: int = 0) -> np.ndarray:
        self.calls += 1
        if self.calls == 1:
            raise ValueError("no such luck")
        return np.full((spikes.shape[1], 3), 1 / 3, np.float32)


async def ask(worker: TailWorker, tail: BrokenOnce, image: Received) -> TailAnswer:
    job = Awaited(image, None)
    worker.ask(tail, [job])
    return await job.answer


async def test_a_tail_that_fails_costs_its_batch_and_no_other() -> None:
    shape = SpikeShape(timesteps=2, channels=1, height=2, width=2)
    codec = SpikeCodec(shape, np.full(tuple(shape), 1 << 15, np.uint16))
    image = Received(codec)
    image.add(codec.encode_spikes(np.zeros(tuple(shape), np.uint8)))
    tail = BrokenOnce()
    async with TailWorker(BatchLimits(max_batch=4, max_waiting=8)).running() as worker:
        with pytest.raises(OverloadedError, match="no such luck"):
            await ask(worker, tail, image)
        answer = await ask(worker, tail, image)
        assert len(answer.classes) == 3
        await worker.alive()


class SlowHead:
    """A head that takes its time."""

    def encode(self, image: bytes, **_: object) -> None:
        time.sleep(0.05)


async def test_a_busy_head_is_a_living_one() -> None:
    with HeadWorker(max_waiting=64, max_waiting_bytes=2**30).running() as worker:
        deadline = time.monotonic() + 60
        waiting = [
            asyncio.create_task(worker.encode(SlowHead(), b"", deadline=deadline))  # type: ignore[arg-type]
            for _ in range(40)
        ]
        await asyncio.sleep(0)
        await worker.alive()
        assert sum(task.done() for task in waiting) < 20
        await asyncio.gather(*waiting)
        await worker.alive()


def test_a_file_that_fails_while_it_is_looked_at_costs_that_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(tmp_path / "queue.sqlite")
    looked = threading.Event()

    def fails(*_: object) -> None:
        looked.set()
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(QueueOps, "expire", fails)
        patch.setattr(QueueOps, "reload", fails)
        assert driver.run(asyncio.to_thread(looked.wait, ANSWER_WITHIN_S))
    assert driver.accept(b"after it") == 1
    assert driver.frames() == {1: b"after it"}
    driver.queue.check()
    driver.end()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_queue_whose_thread_has_ended_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(tmp_path / "queue.sqlite")

    def ends(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(QueueOps, "counts", ends)
    with pytest.raises(StoreError):
        driver.run(driver.queue.counts())
    with pytest.raises(StoreError):
        driver.accept(b"too late")
    with pytest.raises(StoreError):
        driver.queue.check()
    driver.end()


def test_what_is_stored_for_a_client_that_went_away_is_delivered_too(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "queue.sqlite")

    async def go_away() -> None:
        delivering = asyncio.create_task(driver.queue.wait_for_waiting(after=0))
        await driver.queue.counts()  # it has looked, and waits
        accepting = asyncio.create_task(driver.queue.accept(b"", b"frame", **MODEL))
        await asyncio.sleep(0)
        accepting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await accepting
        # Either nothing was stored, or delivery hears of it.
        if await driver.queue.waiting(after=0, limit=1):
            await asyncio.wait_for(delivering, ANSWER_WITHIN_S)
        delivering.cancel()

    for _ in range(20):
        driver.run(go_away())
    driver.end()


async def test_impatient_requests_do_not_cut_a_sound_link(start: Start, photo: Path) -> None:
    cloud = await asyncio.to_thread(start, "cloud_node")
    with proxy_thread(cloud.address) as proxy:
        edge = await asyncio.to_thread(start, "edge_node", "--cloud", proxy.address)
        async with channel(edge) as line:
            stub = EdgeInferenceStub(line)
            patient = ClassifyRequest(image=photo.read_bytes(), deadline_ms=30_000)
            assert (await stub.Classify(patient)).source == SOURCE_CLOUD
            proxy.faults = Faults.both(latency_ms=400)
            impatient = ClassifyRequest(image=photo.read_bytes(), deadline_ms=350)
            asked = [stub.Classify(impatient) for _ in range(4)]
            late = stub.Classify(patient)
            await asyncio.gather(*asked, return_exceptions=True)
            assert (await late).source == SOURCE_CLOUD
            proxy.faults = HEALTHY
        assert [line["event"] for line in log_lines(edge)].count("cloud connected") == 1
        no_traceback(edge, cloud)


async def test_images_that_were_sure_early_hold_no_place(
    start: Start, bundle: Bundle, spikes: np.ndarray
) -> None:
    cloud = start("cloud_node", "--enough-confidence", "0.001", "--max-in-flight", "4")
    first = bundle.codec().encode_spikes(spikes[:1])
    requests = [StreamRequest(sequence=n, frame=first, more=True) for n in range(1, 21)]
    _, *answers = await converse(cloud, [opening(bundle), *requests])
    assert sorted(a.prediction.sequence for a in answers) == list(range(1, 21))
    assert all(answer.prediction.enough for answer in answers)


async def test_an_edge_whose_token_was_removed_answers_by_itself(
    start: Start, photo: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "spikebottlenet.cli", "token"]
    tokens, token = tmp_path / "tokens.txt", tmp_path / "edge.token"
    new = [*command, "new", "edge", "--file", str(tokens)]
    token.write_bytes(subprocess.run(new, capture_output=True, check=True).stdout)
    cloud = start("cloud_node", "--tokens", str(tokens))
    options = ("--cloud-token-file", str(token), "--deadline-ms", "30000")
    store = ("--store", "on_failure", "--store-path", str(tmp_path / "queue.sqlite"))
    edge = start("edge_node", "--cloud", cloud.address, *options, *store)
    request = ClassifyRequest(image=photo.read_bytes())
    async with channel(edge) as line:
        stub = EdgeInferenceStub(line)
        assert (await stub.Classify(request)).source == SOURCE_CLOUD
        subprocess.run([*command, "remove", "edge", "--file", str(tokens)], check=True)
        reply = await stub.Classify(request)
        assert reply.source == SOURCE_EDGE_EXIT
        assert reply.stored
        assert (await stub.Classify(request)).source == SOURCE_EDGE_EXIT
    new = [*command, "new", "again", "--file", str(tokens)]
    token.write_bytes(subprocess.run(new, capture_output=True, check=True).stdout)
    found = await asyncio.to_thread(results, edge)
    assert [result["state"] for result in found] == ["answered"] * 2
    no_traceback(edge, cloud)


def test_results_of_a_request_that_is_not_known_are_no_success(
    start: Start, photo: Path, tmp_path: Path
) -> None:
    edge = start("edge_node", "--store-path", str(tmp_path / "queue.sqlite"))
    command = [sys.executable, "-m", "spikebottlenet.cli", "results", "--edge", edge.address]
    name = "01a212f7-d070-74e5-813f-5a88d28ed3cc/1"
    done = subprocess.run([*command, name], capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert b"no request of this queue" in done.stderr
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0


def test_sighup_before_the_start_kills_nobody(tmp_path: Path) -> None:
    options = ("--listen", "127.0.0.1:0", "--bundle-from-cloud", "--cloud", "192.0.2.1:1")
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_node", *options, "--bundle-store", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        while not _handles_hup(process.pid):
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=ANSWER_WITHIN_S)
    assert process.returncode == 0


def _handles_hup(pid: int) -> bool:
    """Whether a process has a handler for SIGHUP (signal 1)."""
    status = Path(f"/proc/{pid}/status").read_text()
    [caught] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) & 1)
