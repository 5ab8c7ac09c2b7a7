"""profile and plan as commands, on this machine and with real files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spikebottlenet.bundle import Bundle
from spikebottlenet.plan.edge_side import cpu_session, expected_accumulates
from spikebottlenet.plan.networks import cut_architectures
from spikebottlenet.plan.profile import read_profile
from spikebottlenet.plan.uncut import PARTS, WHOLE, input_shape, on_onnx, on_torch, uncut_network


def spikebottlenet(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "spikebottlenet.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "profile.json"
    done = spikebottlenet("profile", "--quick", "--out", path)
    assert done.returncode == 0, done.stderr
    assert f"written: {path}" in done.stdout
    return path


def test_a_machine_is_profiled_and_planned_for(profiled: Path, tmp_path: Path) -> None:
    profile = read_profile(profiled)
    assert profile.edge is not None
    assert profile.cloud is not None
    assert profile.loopback is not None
    assert [head.weights for head in profile.edge.heads] == ["random", "bundle", "random", "random"]
    assert [head.spike_bits for head in profile.edge.heads] == [4096, 2048, 1024, 512]
    assert all(0 < rate < 1 for rate in profile.edge.firing_rates.values())
    plot = tmp_path / "plan.png"
    wanted = ["--edge-profile", profiled, "--bandwidth", "100kbit/s", "--rtt", "20ms"]
    done = spikebottlenet("plan", "--bundle", "default", *wanted, "--json", "--plot", plot)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    by_key = {each["key"]: each for each in plan["placements"]}
    own = by_key["cut-2"]
    # 20 ms of round trip, and every byte that the daemons write at 12.5 bytes a millisecond.
    link_ms = 20 + (own["up_bytes"] + own["down_bytes"]) / 12.5
    parts_ms = own["edge_ms"] + own["cloud_ms"] + own["overhead_ms"]
    assert own["latency_ms"] == pytest.approx(parts_ms + link_ms, abs=0.01)
    assert by_key["cloud-only"]["up_bytes"] > own["up_bytes"]
    assert plan["best"]["bytes"]["cut"] == "cut-4"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_plan_in_words_names_the_best_cut(profiled: Path) -> None:
    done = spikebottlenet("plan", "--edge-profile", profiled, "--bandwidth", "10kbit/s")
    assert done.returncode == 0, done.stderr
    assert "best cut at 10 kbit/s for latency: cut after stage" in done.stdout
    assert "needs training" in done.stdout
    assert "Energy is an estimate" in done.stdout


def test_a_plan_without_a_profile_says_how_to_make_one(tmp_path: Path) -> None:
    done = spikebottlenet("plan", "--edge-profile", tmp_path / "no", "--bandwidth", "1Mbit/s")
    assert done.returncode == 1
    assert "make one with `spikebottlenet profile`" in done.stderr


def test_the_uncut_network_gives_the_same_in_parts_and_on_both_engines(bundle: Bundle) -> None:
    architecture = bundle.manifest.architecture.model_copy(update={"width": 8})
    network = uncut_network(architecture)
    x = np.random.default_rng(0).random((1, *input_shape(architecture, WHOLE)), dtype=np.float32)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(x)).numpy()
    for part in PARTS:
        session = cpu_session(on_onnx(network, architecture, part).SerializeToString(), threads=1)
        with torch.inference_mode():
            y = on_torch(network, part)(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(session.run(None, {"features": x})[0], y, atol=1e-4)
        x = y
    np.testing.assert_allclose(x, wanted, atol=1e-4)


def test_every_cut_has_the_bundles_bit_compression(bundle: Bundle) -> None:
    own = bundle.manifest.architecture
    cuts = cut_architectures(own)
    assert {cut.bit_compression for cut in cuts} == {own.bit_compression}
    assert own in cuts


def test_expected_accumulates_are_the_evaluations(bundle: Bundle) -> None:
    """With every layer at one rate they are that part of the dense count."""
    own = bundle.manifest.architecture
    dense = sum(layer.dense_accumulates for layer in bundle.manifest.operations.head_layers)
    assert expected_accumulates(own, {}, 0.25) == pytest.approx(dense / 4)
