"""Stored requests, by real processes: what an edge-node accepted reaches the cloud."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import grpc.aio
import pytest
import uuid_utils

from spikebottlenet.cli.daemons import Daemon
from spikebottlenet.errors import UnavailableError
from spikebottlenet.rpc.v1.edge_pb2 import SOURCE_CLOUD, SOURCE_EDGE_EXIT, ClassifyRequest
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub
from tests.clients import ANSWER_WITHIN_S, channel, no_traceback
from tests.conftest import Start, log_lines
from tests.free_port import free_port
from tests.test_loopback import records, send

COUNT = 40


@pytest.fixture
def images(crop_folder: Path) -> list[str]:
    return [str(crop_folder / f"{index:04}.png") for index in range(COUNT)]


@pytest.fixture
def store(tmp_path: Path) -> tuple[str, ...]:
    return ("--store-path", str(tmp_path / "queue.sqlite"), "--stall-s", "2")


def results(edge: Daemon, *arguments: str, wait_s: int = ANSWER_WITHIN_S) -> list[dict]:
    command = [sys.executable, "-m", "spikebottlenet.cli", "results", "--edge", edge.address]
    command += ["--json", "--wait-s", str(wait_s), *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=300)
    assert b"Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def queue_command(store: tuple[str, ...], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "edge_node", "queue", *arguments, *store[:2]]
    return subprocess.run(command, capture_output=True, check=False, timeout=60, text=True)


def test_what_is_stored_while_the_cloud_is_away_is_answered_later_and_in_order(
    start: Start, images: list[str], store: tuple[str, ...]
) -> None:
    address = free_port()
    edge = start("edge_node", "--cloud", address, *store)
    done = send(edge, "--store", "--json", *images)
    assert done.returncode == 0, done.stderr
    stored = records(done)
    assert {record["source"] for record in stored} == {"edge_exit"}
    assert all(record["stored"] for record in stored)
    assert [r["state"] for r in results(edge, wait_s=0)] == ["waiting"] * COUNT
    edge.process.kill()
    edge.process.wait()
    edge = start("edge_node", "--cloud", address, *store)
    cloud = start("cloud_node", listen=address)
    found = results(edge)
    assert [r["state"] for r in found] == ["answered"] * COUNT
    assert [r["position"] for r in found] == sorted(r["position"] for r in found)
    assert {r["request_id"] for r in found} == {r["request_id"] for r in stored}
    one = results(edge, stored[7]["request_id"])
    assert [r["request_id"] for r in one] == [stored[7]["request_id"]]
    answers = records(send(edge, "--json", "--deadline-ms", "60000", *images))
    assert {r["source"] for r in answers} == {"cloud"}
    live = {r["image"]: r["label"] for r in answers}
    labels = {r["request_id"]: r["label"] for r in found}
    delivered = [line for line in log_lines(edge) if line["event"] == "delivered"]
    assert [line["request_id"] for line in delivered] == [r["request_id"] for r in found]
    assert all(line["wire_bytes_up"] > 0 and line["edge_radio_uj"] > 0 for line in delivered)
    assert [labels[r["request_id"]] for r in stored] == [live[r["image"]] for r in stored]
    no_traceback(edge, cloud)
    assert edge.stop() == 0


async def test_the_same_key_is_stored_once(
    start: Start, photo: Path, store: tuple[str, ...]
) -> None:
    edge = start("edge_node", "--cloud", free_port(), *store)
    key = uuid_utils.uuid7().bytes
    async with channel(edge) as line:
        stub = EdgeInferenceStub(line)
        request = ClassifyRequest(image=photo.read_bytes(), store=True, request_key=key)
        first = await stub.Classify(request, timeout=ANSWER_WITHIN_S)
        again = await stub.Classify(request, timeout=ANSWER_WITHIN_S)
        other = await stub.Classify(
            ClassifyRequest(image=photo.read_bytes(), store=True), timeout=ANSWER_WITHIN_S
        )
    assert first.request_id == again.request_id != other.request_id
    assert first.stored
    assert first.source == SOURCE_EDGE_EXIT


async def test_a_full_queue_refuses_and_keeps_what_it_has(
    start: Start, photo: Path, store: tuple[str, ...]
) -> None:
    edge = start("edge_node", "--cloud", free_port(), *store, "--store-max-count", "3")
    async with channel(edge) as line:
        stub = EdgeInferenceStub(line)
        request = ClassifyRequest(image=photo.read_bytes(), store=True)
        for _ in range(3):
            await stub.Classify(request, timeout=ANSWER_WITHIN_S)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Classify(request, timeout=ANSWER_WITHIN_S)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "store_max_count" in (refused.value.details() or "")
    assert len(results(edge, wait_s=0)) == 3


@pytest.mark.parametrize("policy", ["on_failure", "always"])
async def test_an_edge_told_to_store_does_so_without_being_asked(
    start: Start, photo: Path, store: tuple[str, ...], policy: str
) -> None:
    address = free_port()
    edge = start(
        "edge_node", "--cloud", address, *store, "--store", policy, "--deadline-ms", "3000"
    )
    request = ClassifyRequest(image=photo.read_bytes())
    async with channel(edge) as line:
        stub = EdgeInferenceStub(line)
        away = await stub.Classify(request, timeout=ANSWER_WITHIN_S)
        assert away.source == SOURCE_EDGE_EXIT
        assert away.stored
        start("cloud_node", listen=address)
        [late] = results(edge)
        assert late["state"] == "answered"
        assert late["label"] == "motorcycle"
        async with asyncio.timeout(ANSWER_WITHIN_S):  # the live link connects by itself
            while (there := await stub.Classify(request)).source != SOURCE_CLOUD:
                pass
        assert there.stored == (policy == "always")


def test_spikes_of_a_model_that_the_cloud_lost_are_kept_and_delivered_on_demand(
    start: Start, images: list[str], store: tuple[str, ...], other_bundle: Path, tmp_path: Path
) -> None:
    address = free_port()
    edge = start("edge_node", "--cloud", address, *store, "--bundle", f"default,{other_bundle}")
    assert send(edge, "--store", "--model", "other", *images[:3]).returncode == 0
    assert send(edge, "--store", *images[3:6]).returncode == 0
    config = tmp_path / "cloud.yaml"
    config.write_text("bundle: default\n")
    cloud = start("cloud_node", "--config", str(config), listen=address)
    found = results(edge)
    assert [r["state"] for r in found] == ["dead"] * 3 + ["answered"] * 3
    assert all("give both the same bundle" in r["reason"] for r in found[:3])
    listed = json.loads(queue_command(store, "list", "--json").stdout)
    assert (listed["dead"], listed["answered"]) == (3, 3)
    export = tmp_path / "dead.jsonl"
    assert queue_command(store, "export", str(export)).returncode == 0
    assert len(export.read_text().splitlines()) == 3
    config.write_text(f"bundle: default,{other_bundle}\n")
    cloud.process.send_signal(signal.SIGHUP)
    wait_for_log(cloud, "reloaded")
    done = queue_command(store, "retry")
    assert done.returncode == 0, done.stderr
    assert "3 requests" in done.stdout
    again = results(edge)
    assert [r["state"] for r in again] == ["answered"] * 6
    assert [r["request_id"] for r in again] == [r["request_id"] for r in found]
    no_traceback(edge, cloud)


def wait_for_log(daemon: Daemon, event: str, times: int = 1) -> None:
    """Until the daemon has said something so many times."""
    with daemon.log.open() as lines:
        while times:
            line = lines.readline()
            times -= bool(line) and json.loads(line)["event"] == event
            assert line or daemon.process.poll() is None


def test_a_disk_that_is_not_there_is_said_at_start(tmp_path: Path, start: Start) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UnavailableError, match="cannot open the queue"):
        start("edge_node", "--store-path", str(blocked / "queue.sqlite"))


def test_two_edges_do_not_share_a_queue(start: Start, store: tuple[str, ...]) -> None:
    edge = start("edge_node", *store)
    with pytest.raises(UnavailableError, match=str(edge.process.pid)):
        start("edge_node", *store)
    assert edge.stop() == 0
