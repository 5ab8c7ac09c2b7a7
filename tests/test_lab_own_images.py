"""From a folder of one's own images to two daemons that say what a photo shows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from spikebottlenet.bundle import Half, open_bundle
from spikebottlenet.cli.__main__ import app
from spikebottlenet.errors import DataError
from spikebottlenet.lab.config_files import config_file
from tests.conftest import Start
from tests.made_images import CLASSES, made_pixels, write_classes, write_images

# The shipped config made tiny: every part of it as it is, but sizes and epochs.
TINY = {
    "data": {"side": 16},
    "network": {"width": 8},
    "bottleneck": {"after_stage": 1, "channels": 8},
    "edge_exit": {"hidden": 16, "epochs": 10},
    "uncut": {"batch": 16, "phases": [{"epochs": 3, "side": 16, "pad": 1}]},
    "cut": {"batch": 16, "phases": [{"epochs": 5, "side": 16, "pad": 1}]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos") / "mine"
    write_classes(root, dict.fromkeys(CLASSES, 40), side=24, suffix="jpg")
    (root / CLASSES[1] / "0007.jpg").write_bytes(b"\xff\xd8 not a photo")
    return root


def test_a_folder_of_photos_becomes_a_bundle_that_daemons_serve(
    folder: Path, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small = yaml.safe_load(config_file("small").read_text())
    tiny = {k: v | TINY.get(k, {}) if isinstance(v, dict) else v for k, v in small.items()}
    config, out = tmp_path / "tiny.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(tiny))
    command = ["train", str(config), "--data", str(folder), "--out", str(out)]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    manifest = open_bundle(out / "bundle", Half.LAB).manifest
    assert manifest.class_names == CLASSES
    assert manifest.measured is not None
    assert manifest.measured.data == "mine"
    assert manifest.measured.images == 31  # a fifth, without the one that is no photo
    assert manifest.measured.top1 > 60
    mean = manifest.preprocess.mean_colour
    assert all(80 < channel < 200 for channel in mean)
    assert mean[2] < mean[0]  # one class of four is strong in blue, two in red

    command = ["evaluate", str(out / "bundle"), "--data", str(folder), "--json"]
    found = json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)
    assert found["top1"] == manifest.measured.top1  # the same part of the images

    cloud = start("cloud_node", "--bundle", str(out / "bundle"))
    arguments = ("--bundle", str(out / "bundle"), "--deadline-ms", "30000")
    edge = start("edge_node", "--cloud", cloud.address, *arguments)
    write_images(tmp_path / "new", made_pixels("red", 6, side=50, seed=9), "png")
    send = [sys.executable, "-m", "spikebottlenet.cli", "send", "--edge", edge.address, "--json"]
    done = subprocess.run(
        [*send, str(tmp_path / "new")], capture_output=True, check=True, timeout=120
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == 6
    assert {record["source"] for record in records} == {"cloud"}
    assert {record["label"] for record in records} <= set(CLASSES)


def test_a_config_without_data_asks_for_it(tmp_path: Path) -> None:
    command = ["train", "small", "--out", str(tmp_path / "run")]
    with pytest.raises(DataError, match="give --data, a public name or a folder"):
        CliRunner().invoke(app, command, catch_exceptions=False)
