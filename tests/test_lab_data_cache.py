"""The cache of decoded images: one maker at a time, kills and full disks leave nothing broken."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import DataError
from spikebottlenet.lab import data
from spikebottlenet.lab.data import GatheredImages, hold_out, load_split
from spikebottlenet.lab.data_cache import cache_root
from tests.made_images import write_classes

WANTED = Preprocess(side=16, mean_colour=(120, 120, 120))
_IMAGE_BYTES = 16 * 16 * 3
# Loads a split in a process of its own and prints how many images it has.
_LOAD = """
import sys
from spikebottlenet.bundle import Preprocess
from spikebottlenet.lab import data_decode
from spikebottlenet.lab.data import load_split
def tell(decode):
    def one(*arguments):
        print("decoding", flush=True)
        return decode(*arguments)
    return one
data_decode._decode = tell(data_decode._decode)
if sys.argv[2] == "hang":
    data_decode.read_input = lambda *_: sys.stdin.read()
print(len(load_split(sys.argv[1], "train", Preprocess(side=16, mean_colour=(120, 120, 120)))))
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_classes(tmp_path / "mine" / "train", {"red": 30, "green": 30})
    write_classes(tmp_path / "mine" / "test", {"red": 2, "green": 2})
    return tmp_path / "mine"


def kept() -> list[str]:
    return sorted(path.name for path in cache_root().iterdir() if path.is_dir())


def loading(folder: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _LOAD, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_a_kill_leaves_nothing_that_is_used_and_the_next_one_makes_it(folder: Path) -> None:
    killed = loading(folder, "hang")
    assert killed.stdout is not None
    assert killed.stdout.readline() == "decoding\n"
    waiting = loading(folder, "well")  # asks for the same while it is being made
    assert [name.endswith(".unfinished") for name in kept()] == [True]
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    out, _ = waiting.communicate(timeout=60)
    assert out.splitlines() == ["decoding", "60"]
    assert [name.endswith(".unfinished") for name in kept()] == [False]
    assert len(load_split(str(folder), "train", WANTED)) == 60


def test_no_room_is_said_before_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"0 MB free, wanted 0 MB.*XDG_CACHE_HOME") as raised:
        load_split(str(folder), "train", WANTED)
    assert str(cache_root()) in str(raised.value)
    assert kept() == []


def test_a_disk_that_fills_meanwhile_leaves_nothing(folder: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * _IMAGE_BYTES, before[1]))
    try:
        with pytest.raises(
            DataError, match=r"cannot write decoded images to .*MB are left, wanted 0 MB"
        ) as raised:
            load_split(str(folder), "train", WANTED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(cache_root()) in str(raised.value)
    assert kept() == []
    assert len(load_split(str(folder), "train", WANTED)) == 60


@pytest.mark.parametrize("name", ["images.u8", "index.npz"])
def test_a_damaged_cache_is_made_again(name: str, folder: Path) -> None:
    whole = load_split(str(folder), "train", WANTED)
    images = np.array(whole.images)
    (file,) = cache_root().glob(f"*/{name}")
    os.truncate(file, 100)
    assert (load_split(str(folder), "train", WANTED).images == images).all()


def test_what_is_written_to_a_split_stays_in_memory(folder: Path) -> None:
    split = load_split(str(folder), "train", WANTED)
    split.images[0] = 0
    assert load_split(str(folder), "train", WANTED).images[0].any()


def test_a_split_larger_than_memory_is_gathered_a_batch_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_split(str(folder), "train", WANTED)
    rest, held = hold_out(whole, 0.1, seed=3)
    assert (len(rest), len(held)) == (54, 6)
    monkeypatch.setattr(data, "_IN_MEMORY_BYTES", 10 * _IMAGE_BYTES)
    gathered, held_again = hold_out(whole, 6, seed=3)
    assert isinstance(gathered.images, GatheredImages)
    assert gathered.images.shape == rest.images.shape
    rows = np.array([5, 0, 53])
    assert (gathered.images[rows] == rest.images[rows]).all()
    assert (gathered.images[10:20] == rest.images[10:20]).all()
    assert (gathered.take(rows).images[:] == rest.images[rows]).all()
    assert (held_again.images == held.images).all()
