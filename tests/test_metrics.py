"""``/metrics`` of real daemons: totals are the sums of the records, and any scraper reads them."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter as Count
from collections.abc import Iterable
from pathlib import Path

import grpc
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from spikebottlenet.cli.daemons import Daemon
from spikebottlenet.metrics.families import DURATION_BOUNDS, Counter, Distribution, ReadHistogram
from spikebottlenet.rpc.v1.edge_pb2 import ClassifyRequest
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub
from tests.conftest import Start, log_lines
from tests.dashboards import all_queries

EDGE, CLOUD = "spikebottlenet_edge", "spikebottlenet_cloud"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(daemon: Daemon, accept: str = "") -> str:
    request = urllib.request.Request(f"{daemon.web}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return reply.read().decode()


def samples(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0)


def total(records: Iterable[dict], key: str) -> float:
    return sum(record[key] for record in records)


def send(edge: Daemon, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "spikebottlenet.cli", "send", "--edge", edge.address]
    return subprocess.run(
        [*command, "--json", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def events(daemon: Daemon, event: str) -> list[dict]:
    return [line for line in log_lines(daemon) if line["event"] == event]


def documented_names() -> dict[str, set[str]]:
    """Metrics that docs/metrics.md lists, histograms apart."""
    found: dict[str, set[str]] = {"plain": set(), "histogram": set()}
    prefixes: tuple[str, ...] = ()
    for line in (Path(__file__).parent.parent / "docs" / "metrics.md").read_text().splitlines():
        if line.startswith("## "):
            prefixes = {"## Edge": (EDGE,), "## Cloud": (CLOUD,), "## Both": (EDGE, CLOUD)}.get(
                line, ()
            )
        elif line.startswith("| `") and prefixes:
            cells = line.split("|")
            for name in re.findall(r"`(?:\.\.\._)?([a-z_]+)`", cells[1]):
                says = "histogram" in cells[3] and name not in ("spikes_total",)
                kind = "histogram" if says else "plain"
                found[kind].update(f"{prefix}_{name}" for prefix in prefixes)
    return found


def check_edge(found: Samples, records: list[dict], refused: list[dict]) -> None:
    codes = Count((line["code"], "none") for line in refused)
    codes.update(("OK", record["source"]) for record in records)
    for (code, source), count in codes.items():
        assert value(found, f"{EDGE}_requests_total", code=code, source=source) == count
    assert sum(v for (name, _), v in found.items() if name == f"{EDGE}_requests_total") == (
        len(records) + len(refused)
    )
    for key in ("payload_bytes", "message_bytes", "spikes"):
        assert value(found, f"{EDGE}_{key}_total") == total(records, key)
    for way in ("up", "down"):
        wire = value(found, f"{EDGE}_wire_bytes_total", direction=way)
        assert wire == total(records, f"wire_bytes_{way}")
    for kind, key in (("mac", "edge_macs"), ("accumulate", "edge_accumulates")):
        assert value(found, f"{EDGE}_operations_total", kind=kind) == total(records, key)
    for part in ("edge_compute", "edge_radio", "cloud_compute"):
        joules = value(found, f"{EDGE}_energy_joules_total", part=part, method="estimated")
        assert joules == pytest.approx(total(records, f"{part}_uj") / 1e6, rel=1e-9)
    joules = value(found, f"{EDGE}_ordinary_head_energy_joules_total", method="estimated")
    assert joules == pytest.approx(total(records, "ann_head_uj") / 1e6, rel=1e-9)
    rate = total(records, "firing_rate")
    assert value(found, f"{EDGE}_firing_rate_ratio_sum") == pytest.approx(rate, rel=1e-9)
    for stage in ("preprocess", "head", "encode", "network", "queue", "tail"):
        seconds = value(found, f"{EDGE}_stage_duration_seconds_sum", stage=stage)
        wanted = sum(record["latency_ms"][stage] for record in records) / 1e3
        assert seconds == pytest.approx(wanted, rel=1e-9), stage
    whole = sum(record["latency_ms"]["total"] for record in records) / 1e3
    assert value(found, f"{EDGE}_request_duration_seconds_sum") == pytest.approx(whole, rel=1e-9)
    assert value(found, f"{EDGE}_request_duration_seconds_count") == len(records)


def check_cloud(found: Samples, answered: list[dict], refused: list[dict]) -> None:
    assert value(found, f"{CLOUD}_requests_total", code="OK") == len(answered)
    for code, count in Count(line["code"] for line in refused).items():
        assert value(found, f"{CLOUD}_requests_total", code=code) == count
    for key in ("payload_bytes", "message_bytes"):
        assert value(found, f"{CLOUD}_{key}_total") == total(answered, key)
    for way in ("up", "down"):
        wire = value(found, f"{CLOUD}_wire_bytes_total", direction=way)
        assert wire == total(answered, f"wire_bytes_{way}")
    for name, key in (("queue_wait", "queue_ms"), ("tail_duration", "tail_ms")):
        seconds = value(found, f"{CLOUD}_{name}_seconds_sum")
        assert seconds == pytest.approx(total(answered, key) / 1e3, rel=1e-9)
        assert value(found, f"{CLOUD}_{name}_seconds_count") == len(answered)
    joules = value(found, f"{CLOUD}_energy_joules_total", part="cloud_compute", method="estimated")
    logged_to_uj = 0.0005 * len(answered)  # the log rounds each to a thousandth
    assert 1e6 * joules == pytest.approx(total(answered, "cloud_compute_uj"), abs=logged_to_uj)
    assert value(found, f"{CLOUD}_inferences_total") == len(answered)
    assert value(found, f"{CLOUD}_batch_size_sum") == len(answered)
    executions = value(found, f"{CLOUD}_executions_total")
    assert 1 <= executions <= len(answered)
    assert value(found, f"{CLOUD}_batch_size_count") == executions


def test_totals_are_the_sums_of_the_records(
    start: Start, crop_folder: Path, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:5000])
    (tmp_path / "text.jpg").write_bytes(b"no image at all")
    bad = [str(tmp_path / "cut.png"), str(tmp_path / "text.jpg")]
    cloud = start("cloud_node")
    store = ("--store-path", str(tmp_path / "queue.db"), "--store", "on_failure")
    edge = start("edge_node", "--cloud", cloud.address, "--deadline-ms", "5000", *store)

    done = send(edge, str(crop_folder / "00[0-3]*.png"), *bad)
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == 40
    assert {record["source"] for record in records} == {"cloud"}
    far = samples(scrape(cloud))
    check_cloud(far, events(cloud, "answered"), events(cloud, "refused"))
    near = samples(scrape(edge))
    check_edge(near, records, events(edge, "refused"))
    for way in ("up", "down"):
        assert value(near, f"{EDGE}_wire_bytes_total", direction=way) == value(
            far, f"{CLOUD}_wire_bytes_total", direction=way
        )
    [connected] = [v for (name, _), v in near.items() if name == f"{EDGE}_cloud_connected"]
    assert connected == 1

    assert cloud.stop() == 0
    done = send(edge, str(crop_folder / "005*.png"), bad[0])
    by_exit = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record["source"] for record in by_exit} == {"edge_exit"}
    records += by_exit
    near = samples(scrape(edge))
    check_edge(near, records, events(edge, "refused"))
    assert value(near, f"{EDGE}_inferences_total") == len(records)
    assert value(near, f"{EDGE}_queue_requests", state="waiting") == len(by_exit)
    assert value(near, f"{EDGE}_queue_oldest_age_seconds") > 0
    assert value(near, f"{EDGE}_delivered_requests_total") == 0

    again = start("cloud_node", listen=cloud.address)
    command = [sys.executable, "-m", "spikebottlenet.cli", "results", "--wait", "60"]
    subprocess.run([*command, "--edge", edge.address], check=False, capture_output=True)
    give_up = time.monotonic() + 30  # each line follows its answer's commit
    while len(events(edge, "delivered")) < len(by_exit):
        assert time.monotonic() < give_up
    near = samples(scrape(edge))
    delivered = events(edge, "delivered")
    assert value(near, f"{EDGE}_delivered_requests_total") == len(delivered) == len(by_exit)
    for way in ("up", "down"):
        wire = value(near, f"{EDGE}_delivered_wire_bytes_total", direction=way)
        assert wire == total(delivered, f"wire_bytes_{way}")
    for part in ("edge_radio", "cloud_compute"):
        joules = value(near, f"{EDGE}_delivered_energy_joules_total", part=part, method="estimated")
        assert joules == pytest.approx(total(delivered, f"{part}_uj") / 1e6, rel=1e-9)
    check_edge(near, records, events(edge, "refused"))
    check_cloud(samples(scrape(again)), events(again, "answered"), events(again, "refused"))


def test_the_demo_says_where_its_metrics_are_and_they_agree_with_its_records(
    photo: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "spikebottlenet.cli", "demo", str(photo), "--out"]
    process = subprocess.Popen(
        [*command, str(tmp_path), "--stay"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = ""
        while "both serve on until Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        [urls] = re.findall(r"metrics while they run: (\S+) (\S+)", said)
        texts = []
        for url in urls:
            with urllib.request.urlopen(url, timeout=20) as reply:
                texts.append(reply.read().decode())
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        process.stdout.close()
    for url in urls:  # both daemons ended with it
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=20)
    records = [json.loads(line) for line in (tmp_path / "demo.jsonl").read_text().splitlines()]
    assert len(records) == 1
    check_edge(samples(texts[0]), records, [])
    assert value(samples(texts[1]), f"{CLOUD}_requests_total", code="OK") == 1
    for name in ("edge-node", "cloud-node"):
        assert samples((tmp_path / f"{name}.metrics.txt").read_text())


def test_every_scraper_reads_both_and_dashboards_ask_for_nothing_else(
    start: Start, photo: Path
) -> None:
    cloud = start("cloud_node")
    edge = start("edge_node", "--cloud", cloud.address)
    assert send(edge, str(photo)).returncode == 0
    exposed: set[str] = set()
    for daemon in (edge, cloud):
        plain = scrape(daemon)
        exposed |= {name for name, _ in samples(plain)}
        names = {family.name for family in text_string_to_metric_families(plain)}
        opened = scrape(daemon, "application/openmetrics-text; version=1.0.0")
        assert opened.endswith("# EOF\n")
        assert {family.name for family in open_metrics_families(opened)} == names
        assert "process_resident_memory_bytes" in names
        labels = {key for _, pairs in samples(plain) for key, _ in pairs}
        assert labels <= {
            *("code", "source", "stage", "le", "direction", "part", "method", "kind", "reason"),
            *("state", "version", "model", "fingerprint", "timesteps", "spike_bits", "status"),
        }
        if shutil.which("promtool"):
            lint = ["promtool", "check", "metrics"]
            done = subprocess.run(lint, input=plain, capture_output=True, text=True, check=False)
            said = done.stdout + done.stderr
            assert done.returncode == 0, said
    documented = documented_names()
    assert {name for name in exposed if "_bucket" not in name and "process_" not in name} == {
        *documented["plain"],
        *(f"{name}_{part}" for name in documented["histogram"] for part in ("sum", "count")),
    }
    exposed.add("up")  # by Prometheus itself
    for query in all_queries():
        assert query.metrics <= exposed, query.where
        assert query.metrics, query.where


def test_a_distribution_counts_values_below_and_at_its_bounds() -> None:
    found = Distribution((1.0, 2.0))
    for one in (0.5, 1.0, 1.5, 2.0, 9.0):
        found.observe(one)
    assert found.counts == [2, 2, 1]
    assert found.total == 14
    sizes = ReadHistogram("sizes", "", (1, 4), lambda: {1: 3, 4: 2, 5: 1}).distribution()
    assert (sizes.counts, sizes.total) == ([3, 2, 1], 16)
    assert list(DURATION_BOUNDS) == sorted(set(DURATION_BOUNDS))


def test_the_same_labels_are_the_same_sum() -> None:
    counter = Counter("calls", "", ("code",))
    counter.of("OK").add()
    counter.of("OK").add(2)
    assert counter.of("OK").value == 3
    assert counter.of("LATE").value == 0


def test_an_image_that_its_client_cancels_is_counted_and_logged(start: Start, photo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        edge = start("edge_node", "--cloud", f"127.0.0.1:{silent.getsockname()[1]}")
        with grpc.insecure_channel(edge.address) as channel:
            request = ClassifyRequest(image=photo.read_bytes())
            call = EdgeInferenceStub(channel).Classify.future(request, timeout=60)
            until = time.monotonic() + 60
            while value(samples(scrape(edge)), f"{EDGE}_cloud_pending_images") < 1:
                assert time.monotonic() < until
            call.cancel()
            cancelled = {"code": "CANCELLED", "source": "none"}
            while value(samples(scrape(edge)), f"{EDGE}_requests_total", **cancelled) < 1:
                assert time.monotonic() < until
    assert edge.stop() == 0
    assert len(events(edge, "cancelled")) == 1
    (totals,) = events(edge, "totals")
    assert (totals["images"], totals["refused"], totals["cancelled"]) == (0, 0, 1)
