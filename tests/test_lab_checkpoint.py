"""Checkpoints: damage, a full disk, and logs that say what the checkpoint knows."""

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from spikebottlenet.errors import StoreError
from spikebottlenet.lab import checkpoint
from spikebottlenet.lab.checkpoint import load_checkpoint, previous_of, save_checkpoint
from spikebottlenet.lab.epoch_log import read_log, write_log


def state(value: float) -> dict[str, Any]:
    return {"network": {"weight": torch.full((64,), value)}, "epochs_done": int(value)}


def value_of(path: Path) -> float:
    found = load_checkpoint(path)
    assert found is not None
    return float(found["network"]["weight"][0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cut.pt"


def test_the_newest_is_read_and_the_one_before_is_kept(path: Path) -> None:
    assert load_checkpoint(path) is None
    for epoch in (1.0, 2.0, 3.0):
        save_checkpoint(path, state(epoch))
    assert value_of(path) == 3.0
    assert value_of(previous_of(path)) == 2.0
    assert sorted(each.name for each in path.parent.iterdir()) == ["cut.previous.pt", "cut.pt"]
    # Plain torch reads it, hash and all.
    assert torch.load(path, weights_only=True)["epochs_done"] == 3


def test_a_checkpoint_of_an_older_version_is_read(path: Path) -> None:
    torch.save(state(7.0), path)
    assert value_of(path) == 7.0


@pytest.mark.parametrize("damage", ["a byte in a weight", "cut short", "empty", "another file"])
def test_a_damaged_one_gives_way_to_the_one_before(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(path, state(1.0))
    save_checkpoint(path, state(2.0))
    data = bytearray(path.read_bytes())
    if damage == "a byte in a weight":
        data[data.index(torch.full((64,), 2.0).numpy().tobytes())] ^= 1
    elif damage == "cut short":
        del data[len(data) // 2 :]
    else:
        data[:] = b"" if damage == "empty" else b"not a checkpoint"
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert value_of(path) == 1.0
    assert str(path) in caplog.text
    assert "the one before" in caplog.text
    previous_of(path).unlink()
    with pytest.raises(StoreError, match=r"no checkpoint can be used.*move them away"):
        load_checkpoint(path)


def test_a_full_disk_keeps_the_old_one_and_says_what_to_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(path, state(1.0))
    save_checkpoint(path, state(2.0))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(
        StoreError, match=r"No space left.*MB free, wanted 0\.0 MB.*as it was"
    ) as full:
        save_checkpoint(path, state(3.0))
    assert str(path) in str(full.value)
    assert value_of(path) == 2.0
    assert value_of(previous_of(path)) == 1.0
    assert sorted(each.name for each in path.parent.iterdir()) == ["cut.previous.pt", "cut.pt"]


def test_a_log_has_each_epoch_once(tmp_path: Path) -> None:
    log = tmp_path / "cut.jsonl"
    lines = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.5}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 3, "lo')
    assert read_log(log, 9) == lines
    assert read_log(log, 1) == lines[:1]
    write_log(log, lines[:1])
    assert log.read_text() == json.dumps(lines[0]) + "\n"
