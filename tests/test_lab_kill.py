"""Trainings in processes of their own: killed, told to stop, out of disk, and gone on with."""

import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from spikebottlenet.lab.checkpoint import load_checkpoint
from tests.lab_run import command, environment, lines_of, run, weights_of, write_config, write_data

_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trainings")
    write_data(folder / "data")
    long = {"batch": 16, "phases": [{"epochs": 12, "side": 8, "pad": 1}]}
    write_config(folder / "tiny.yaml", uncut=long)
    return folder


def words(place: Path, out: str) -> list[str]:
    return command(place / "tiny.yaml", place / "data", place / out, "--only-uncut")


def begun(place: Path, out: str) -> subprocess.Popen[str]:
    """A training that has left its first checkpoint."""
    process = subprocess.Popen(
        words(place, out),
        env=environment(place / "cache"),
        stderr=subprocess.PIPE,
        text=True,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + _WITHIN_S
    while not (place / out / "uncut.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return process


def test_killed_and_stopped_at_any_moment_it_ends_as_if_it_had_not_been(place: Path) -> None:
    whole = run(words(place, "whole"), place / "cache")
    assert whole.returncode == 0, whole.stderr
    assert [line["epoch"] for line in lines_of(place / "whole/uncut.jsonl")] == list(range(1, 13))
    random.seed(os.urandom(8))
    for number in (signal.SIGKILL, signal.SIGTERM):
        with begun(place, "killed") as process:
            before = time.monotonic() + random.uniform(0, 0.2)
            while process.poll() is None and time.monotonic() < before:
                time.sleep(0.001)
            process.send_signal(number)
            said = process.communicate()[1]
        if number == signal.SIGTERM and process.returncode not in (0, -number):
            assert process.returncode == 128 + number
            assert f"{place / 'killed/uncut.pt'} holds" in said
        state = load_checkpoint(place / "killed/uncut.pt")
        assert state is not None
        epochs = [line["epoch"] for line in lines_of(place / "killed/uncut.jsonl")]
        assert epochs == list(range(1, len(epochs) + 1))
        assert state["epochs_done"] - len(epochs) in (0, 1)
    last = run(words(place, "killed"), place / "cache")
    assert last.returncode == 0, last.stderr
    assert lines_of(place / "killed/uncut.jsonl") == lines_of(place / "whole/uncut.jsonl")
    one, two = weights_of(place / "whole/uncut.pt"), weights_of(place / "killed/uncut.pt")
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_out_of_room_it_ends_and_goes_on_when_there_is_some(place: Path) -> None:
    size = (place / "whole/uncut.pt").stat().st_size
    first = command(
        place / "tiny.yaml",
        place / "data",
        place / "full",
        "--only-uncut",
        "--set",
        "uncut.phases.0.epochs=2",
    )

    def little_room() -> None:
        """No file may grow past half a checkpoint, as on a full disk; an error, not a signal."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    failed = subprocess.run(
        first,
        env=environment(place / "cache"),
        capture_output=True,
        text=True,
        preexec_fn=little_room,
        timeout=100,
        check=False,
    )
    assert failed.returncode == 1
    assert f"cannot write {place / 'full/uncut.pt'}" in failed.stderr
    assert "same command again" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert list((place / "full").glob("*.partial")) == []
    again = run(first, place / "cache")
    assert again.returncode == 0, again.stderr
    assert [line["epoch"] for line in lines_of(place / "full/uncut.jsonl")] == [1, 2]
