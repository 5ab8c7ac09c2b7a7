"""The main job, by real processes on real sockets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spikebottlenet.bundle import Bundle
from spikebottlenet.cli.daemons import Daemon
from tests.conftest import Start, log_lines
from tests.fault_proxy import proxy_thread

RECORD_KEYS = (
    *("image", "label", "confidence", "top5", "source", "timesteps", "payload_bytes"),
    *("message_bytes", "wire_bytes_up", "wire_bytes_down", "spikes", "firing_rate", "edge_macs"),
    *("edge_accumulates", "edge_compute_uj", "edge_radio_uj", "ann_head_uj"),
    *("cloud_compute_uj", "latency_ms", "request_id", "model", "fingerprint", "stored"),
)
STAGES = ["preprocess", "head", "encode", "network", "queue", "tail", "total"]


def send(edge: Daemon, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    command = [
        sys.executable,
        "-m",
        "spikebottlenet.cli",
        "send",
        "--edge",
        edge.address,
        *arguments,
    ]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=300)


def records(done: "subprocess.CompletedProcess[bytes]") -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_photos_travel_from_client_to_cloud_and_back(
    start: Start, bundle: Bundle, photo_folder: Path
) -> None:
    cloud = start("cloud_node")
    edge = start("edge_node", "--cloud", cloud.address, "--deadline-ms", "30000")
    photos = [str(photo_folder / name) for name in ("motorcycle_left.png", "rocket.jpg")]
    done = send(edge, "--json", *photos)
    assert done.returncode == 0, done.stderr
    found = records(done)
    assert [record["image"] for record in found] == photos
    assert [record["label"] for record in found] == ["motorcycle", "rocket"]
    for record in found:
        assert tuple(record) == RECORD_KEYS
        assert list(record["latency_ms"]) == STAGES
        assert record["source"] == "cloud"
        assert record["model"] == bundle.model
        assert record["timesteps"] == bundle.manifest.architecture.timesteps
        assert record["payload_bytes"] < record["message_bytes"] < record["wire_bytes_up"]
        assert record["edge_compute_uj"] <= record["ann_head_uj"] / 5
        assert record["top5"][0] == {"label": record["label"], "probability": record["confidence"]}
    assert edge.stop() == 0
    assert cloud.stop() == 0


def test_a_thousand_images_cost_few_bytes_and_every_counter_agrees(
    start: Start, crop_folder: Path
) -> None:
    cloud = start("cloud_node")
    with proxy_thread(cloud.address) as wire:
        edge = start("edge_node", "--cloud", wire.address, "--deadline-ms", "60000")
        done = send(edge, "--json", str(crop_folder))
        assert done.returncode == 0, done.stderr
        found = records(done)
        assert len(found) == 1000
        assert {record["source"] for record in found} == {"cloud"}
        extra = [record["wire_bytes_up"] - record["payload_bytes"] for record in found]
        assert sum(extra) / len(extra) <= 48
        assert edge.stop() == 0
        assert cloud.stop() == 0
    near, far = log_lines(edge)[-1], log_lines(cloud)[-1]
    assert near["event"] == far["event"] == "totals"
    for key in ("images", "payload_bytes", "message_bytes", "wire_bytes_up", "wire_bytes_down"):
        assert near[key] == far[key], key
    assert near["wire_bytes_up"] == sum(record["wire_bytes_up"] for record in found)
    assert near["cloud_compute_uj"] == pytest.approx(far["cloud_compute_uj"], rel=1e-6)
    # The kernel's totals are the truth up to what passes while the connection closes.
    for totals in (near, far):
        assert totals["wire_bytes_source"] == "kernel"
        assert totals["connection_bytes_up"] == pytest.approx(wire.up, abs=100)
        assert totals["connection_bytes_down"] == pytest.approx(wire.down, abs=100)
        # Beside the messages: two window updates (26 bytes) an answer at most, and the opening.
        assert 0 <= totals["unframed_bytes_up"] <= 26 * 1000 + 1000
    assert wire.up <= near["payload_bytes"] + 48 * 1000


def test_standard_input_globs_csv_and_a_bad_file_beside_good_ones(
    start: Start, photo: Path, tmp_path: Path
) -> None:
    cloud = start("cloud_node")
    edge = start("edge_node", "--cloud", cloud.address, "--deadline-ms", "30000")
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "good.png").write_bytes(photo.read_bytes())
    (folder / "cut.png").write_bytes(photo.read_bytes()[:5000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_bytes(b"no image at all")
    done = send(edge, "--json", str(folder), str(tmp_path / "missing.png"))
    assert done.returncode == 1
    assert [Path(record["image"]).name for record in records(done)] == ["good.png"]
    said = done.stderr.decode()
    for name in ("cut.png", "empty.png", "text.jpg", "missing.png"):
        assert f"{name}: " in said
    assert "Traceback" not in said

    done = send(edge, "--json", "-", stdin=photo.read_bytes())
    assert done.returncode == 0
    assert records(done)[0]["image"] == "-"

    done = send(edge, "--csv", str(folder / "g*.png"))
    assert done.returncode == 0
    header, row = done.stdout.decode().splitlines()
    assert header.startswith("image,label,confidence,source")
    assert "latency_ms_total" in header
    assert ",motorcycle," in row

    done = send(edge, str(folder / "good.png"))
    assert done.returncode == 0
    assert b"1 answered (0 by the edge exit), 0 failed" in done.stdout


def test_edge_serves_without_torch_and_in_little_memory(start: Start, crop_folder: Path) -> None:
    edge = start("edge_node", "--cloud", "127.0.0.1:9")
    assert send(edge, "--json", str(crop_folder / "00*.png")).returncode == 0
    pid = edge.process.pid
    assert "torch" not in Path(f"/proc/{pid}/maps").read_text()
    status = Path(f"/proc/{pid}/status").read_text()
    resident_kb = next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line)
    assert resident_kb * 1024 < 200e6


def test_an_edge_that_is_not_there_is_named_once_an_image(photo: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.png")
    command = [sys.executable, "-m", "spikebottlenet.cli", "send", "--edge", "127.0.0.1:9"]
    done = subprocess.run(
        [*command, str(photo), missing], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    first, second, *_ = done.stderr.splitlines()
    assert first.startswith(f"{photo}: edge-node at 127.0.0.1:9: ")
    assert second == f"{missing}: cannot be read: No such file or directory; give an image file"
