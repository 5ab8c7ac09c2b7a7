"""Two processes by `accelerate launch` follow the same losses as one."""

import sys
from pathlib import Path

import pytest
import torch

from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.workers import Workers
from tests.free_port import free_port
from tests.lab_run import command, lines_of, run, write_config, write_data

LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
LAUNCH += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]


def launched(words: list[str]) -> list[str]:
    """`python -m MODULE ...` in two processes."""
    port = free_port().rpartition(":")[2]
    return [*LAUNCH, "--main_process_port", port, "--module", *words[2:]]


def test_two_processes_find_the_gradients_of_one(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.worker_gradients"]
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    for command_line in ([*words, str(one)], launched([*words, str(two)])):
        done = run(command_line, tmp_path)
        assert done.returncode == 0, done.stderr
    alone, together = torch.load(one), torch.load(two)
    assert set(alone) == set(together)
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-5, atol=1e-7, msg=name)


def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    data, cache = write_data(tmp_path / "data"), tmp_path / "cache"
    slow = {"batch": 16, "muon_lr": 0.002, "sgd_lr": 0.01, "mixup": 0.2}
    slow["phases"] = [{"epochs": 2, "side": 8, "pad": 1}]
    config = write_config(tmp_path / "tiny.yaml", uncut=slow, cut=slow, precision="float32")
    one = run(command(config, data, tmp_path / "one"), cache)
    assert one.returncode == 0, one.stderr
    two = run(launched(command(config, data, tmp_path / "two")), cache)
    assert two.returncode == 0, two.stderr
    assert "2 process(es)" in two.stderr
    # Sums in another order let spikes near the threshold differ, so the cut one is not as close.
    for log, near in (("uncut.jsonl", 1e-3), ("cut.jsonl", 5e-2)):
        alone, together = lines_of(tmp_path / "one" / log), lines_of(tmp_path / "two" / log)
        assert [line["epoch"] for line in together] == [1, 2]
        for line, other in zip(alone, together, strict=True):
            assert set(line) == set(other)
            assert other["loss"] == pytest.approx(line["loss"], rel=near), log
    assert (tmp_path / "two" / "bundle" / "manifest.yaml").exists()


def test_a_batch_is_divided_or_refused() -> None:
    second = Workers(1, 2, torch.device("cpu"))
    assert second.share(16) == slice(8, 16)
    with pytest.raises(ConfigError, match=r"found batch 15 for 2 processes.*set it to 14"):
        second.share(15)
