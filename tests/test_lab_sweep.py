"""A sweep on tiny data: one un-cut network, a run that fails, and nothing done twice."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from spikebottlenet.cli.__main__ import app
from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.sweep import Axis, grid, parse_axis
from tests.lab_run import CONFIG, environment, lines_of, write_config, write_data


def test_a_sweep_shares_the_uncut_network_and_survives_a_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    short = {"batch": 16, "phases": [{"epochs": 1, "side": 8, "pad": 1}]}
    config = write_config(tmp_path / "tiny.yaml", uncut=short, cut=short)
    # The held-out part leaves 48 images: a batch of 64 cannot be filled.
    words = ["sweep", "--config", str(config), "--grid", "cut.batch=16,64", "--out", str(out)]
    words += ["--data", str(data)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "batch=64: exit status 1" in done.output
    rows = json.loads((out / "sweep.json").read_text())
    assert [row["state"] for row in rows] == ["done", "failed"]
    assert rows[0]["images"] == 64
    shared = list(out.glob("uncut-*"))
    assert len(shared) == 1
    assert lines_of(shared[0] / "uncut.jsonl") == lines_of(out / "batch=16" / "uncut.jsonl")
    before = (out / "batch=16" / "train.log").read_text()
    assert CliRunner().invoke(app, words).exit_code == 1
    assert (out / "batch=16" / "train.log").read_text() == before
    assert "| batch=16 |" in (out / "sweep.md").read_text()
    other = write_data(tmp_path / "other", 80)
    asked = CliRunner().invoke(app, [*words[:-1], str(other)])
    assert asked.exit_code == 1
    said = " ".join(asked.output.split())
    assert "batch=16: exit status 1" in said
    assert "was trained on other images" in (out / "batch=16" / "train.log").read_text()
    again = CliRunner().invoke(app, words)  # and the first images' row is still there
    assert json.loads((out / "sweep.json").read_text())[0] == rows[0], again.output


def test_a_grid_is_checked_before_anything_runs(tmp_path: Path) -> None:
    assert parse_axis("loss.lambda_bits=0,0.5") == Axis("loss.lambda_bits", ("0", "0.5"))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    axes = [parse_axis("loss.lambda_bits=0,0.5"), parse_axis("bottleneck.after_stage=2,3")]
    names = [point.name for point in grid(config, axes, ["seed=3"])]
    assert names[0] == "lambda_bits=0_after_stage=2"
    assert len(set(names)) == 4
    for bad in ("loss.lambda_bits", "=1", "seed=[1"):
        with pytest.raises(ConfigError, match=r"wanted KEY=V1,V2"):
            parse_axis(bad)
    with pytest.raises(ConfigError, match=r"did you mean 'lambda_bits'"):
        grid(config, [parse_axis("loss.lamda_bits=1,2")], [])
    with pytest.raises(ConfigError, match=r"found --grid seed twice"):
        grid(config, [parse_axis("seed=1"), parse_axis("seed=2")], [])
