"""From a folder of an event camera's recordings to two daemons that say what moved which way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from spikebottlenet.bundle import Half, open_bundle
from spikebottlenet.cli.__main__ import app
from spikebottlenet.lab.compose import read_config
from spikebottlenet.lab.config_files import config_file
from tests.conftest import Start
from tests.made_images import made_pixels, write_images
from tests.made_recordings import moving_bar, write_bin

CLASSES = ("left", "right")
# The shipped config made tiny: every part of it as it is, but sizes and epochs.
TINY = (
    *("data.side=16", "network.width=8", "bottleneck.after_stage=1", "bottleneck.channels=8"),
    *("edge_exit.hidden=16", "edge_exit.epochs=5", "uncut.batch=16", "cut.batch=16"),
    "uncut.phases=[{epochs: 3, side: 16, pad: 1}]",
    "cut.phases=[{epochs: 8, side: 16, pad: 1}]",
)


def test_recordings_become_a_bundle_that_daemons_serve(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, out = tmp_path / "bars", tmp_path / "run"
    for rightwards, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(60):
            made = moving_bar(rightwards=bool(rightwards), seed=1000 * rightwards + number)
            write_bin(folder / name / f"{number:03d}.bin", made)
    config = tmp_path / "tiny.yaml"
    config.write_text(read_config(config_file("small-events"), TINY).text)
    command = ["train", str(config), "--data", str(folder), "--out", str(out)]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    manifest = open_bundle(out / "bundle", Half.LAB).manifest
    assert manifest.class_names == CLASSES
    assert manifest.preprocess.shape == (16, 16, 8)
    # Both directions give the same counts, so only the order of frames can tell.
    assert manifest.measured is not None
    assert manifest.measured.top1 > 80
    kept = yaml.safe_load((out / "bundle" / "training.yaml").read_text())
    assert kept["data"]["input"] == "events"

    command = ["evaluate", str(out / "bundle"), "--data", str(folder), "--json"]
    found = json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)
    assert found["top1"] == manifest.measured.top1

    cloud = start("cloud_node", "--bundle", str(out / "bundle"))
    arguments = ("--bundle", str(out / "bundle"), "--deadline-ms", "30000")
    edge = start("edge_node", "--cloud", cloud.address, *arguments)
    new = tmp_path / "new"
    new.mkdir()
    for number in range(6):
        write_bin(new / f"{number}.bin", moving_bar(rightwards=True, seed=5000 + number))
    write_images(new, made_pixels("red", 1, side=20, seed=9), "png")
    send = [sys.executable, "-m", "spikebottlenet.cli", "send", "--edge", edge.address, "--json"]
    done = subprocess.run([*send, str(new)], capture_output=True, check=False, timeout=120)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["source"] for record in records] == ["cloud"] * 6
    assert sum(record["label"] == "right" for record in records) >= 5
    assert done.returncode == 1
    assert b"which is a picture" in done.stderr
