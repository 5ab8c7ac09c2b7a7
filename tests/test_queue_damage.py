"""Damaged files and full disks: nothing that the queue accepted is lost unseen."""

import contextlib
import logging
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_node import queue_files
from edge_node.queue_files import QueueFiles
from edge_node.queue_paths import copy_path
from spikebottlenet.errors import StoreError
from tests.queue_driver import Driver, answer

COUNT = 200


@pytest.fixture(scope="module")
def at_rest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A queue at rest: requests of about 250 bytes, some answered, some dead."""
    folder = tmp_path_factory.mktemp("queue")
    driver = Driver(folder / "queue.sqlite")
    draw = random.Random(0)
    requests = [(n.to_bytes(16, "big"), draw.randbytes(250)) for n in range(1, COUNT + 1)]
    assert driver.accept_all(requests) == list(range(1, COUNT + 1))
    for number in range(1, 21):
        driver.run(driver.queue.complete(number, answer(number)))
    driver.run(driver.queue.bury(range(21, 31), "refused"))
    driver.end()
    return folder


@pytest.fixture
def path(at_rest: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(at_rest, tmp_path, dirs_exist_ok=True)
    return tmp_path / "queue.sqlite"


def everything(driver: Driver) -> tuple[dict[int, str], dict[int, bytes], bytes]:
    return driver.states(), driver.frames(), driver.queue.stream_id


def flip(path: Path, seed: int) -> None:
    data = bytearray(path.read_bytes())
    draw = random.Random(seed)
    for _ in range(20):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def garbage_pages(path: Path, seed: int) -> None:
    draw = random.Random(seed)
    with path.open("r+b") as file:
        pages = path.stat().st_size // 4096
        for page in draw.sample(range(pages), 3):
            file.seek(page * 4096)
            file.write(draw.randbytes(4096))


def truncate(path: Path, seed: int) -> None:
    with path.open("r+b") as file:
        file.truncate(random.Random(seed).randrange(1, path.stat().st_size))


def replace(path: Path, seed: int) -> None:
    path.write_bytes(random.Random(seed).randbytes(10_000))


def zero(path: Path, seed: int) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def remove(path: Path, seed: int) -> None:
    path.unlink()


def empty(path: Path, seed: int) -> None:
    path.write_bytes(b"")


DAMAGES = (flip, garbage_pages, truncate, replace, zero, remove, empty)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("which", ["first", "copy"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_one_damaged_file_costs_nothing(
    path: Path, damage: Callable[[Path, int], None], which: str, seed: int
) -> None:
    driver = Driver(path)
    before = everything(driver)
    driver.end()
    victim = path if which == "first" else copy_path(path)
    damage(victim, seed)
    kept = victim.read_bytes() if victim.exists() else b""
    driver = Driver(path)
    assert everything(driver) == before
    assert driver.run(driver.queue.counts()).mirrored
    assert driver.accept(b"next") == COUNT + 1
    driver.end()
    if kept and damage is not flip:  # a flipped bit in a free place is none
        [aside] = path.parent.glob("*.damaged-?")
        assert aside.stat().st_size == len(kept)
    for one in (path, copy_path(path)):
        with contextlib.closing(sqlite3.connect(one)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("damage", [flip, garbage_pages, truncate])
def test_of_two_damaged_files_every_readable_row_is_kept_and_the_rest_counted(
    path: Path,
    damage: Callable[[Path, int], None],
    seed: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = Driver(path)
    states, frames, stream_id = everything(driver)
    driver.end()
    damage(path, seed)
    damage(copy_path(path), seed + 100)
    with caplog.at_level(logging.ERROR):
        driver = Driver(path)
    after_states, after_frames, after_id = everything(driver)
    assert after_states.items() <= states.items()
    assert after_frames.items() <= frames.items()
    [event] = [r for r in caplog.records if r.message.startswith("queue was damaged")]
    salvaged = event.__dict__.get("fields", {}).get("salvaged", COUNT)
    assert salvaged == len(after_states)
    if after_id == stream_id:
        assert driver.accept(b"next") > COUNT
    else:
        assert after_states == {}
    driver.end()


def test_rows_lost_in_both_files_are_counted(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for one in (path, copy_path(path)):
        with contextlib.closing(sqlite3.connect(one)) as connection, connection:
            connection.execute("UPDATE requests SET frame = x'00' WHERE sequence IN (40, 41, 42)")
            if one == path:
                connection.execute("UPDATE requests SET frame = x'00' WHERE sequence = 50")
            else:
                connection.execute("UPDATE requests SET frame = x'00' WHERE sequence = 60")
    with caplog.at_level(logging.ERROR):
        driver = Driver(path)
    assert set(range(1, COUNT + 1)) - set(driver.states()) == {40, 41, 42}
    [event] = [r for r in caplog.records if r.message.startswith("queue was damaged")]
    assert "'salvaged': 197" in str(event.__dict__)
    assert "'lost': 3" in str(event.__dict__)
    assert driver.accept(b"next") > COUNT
    driver.end()


def test_a_log_damaged_after_a_crash_costs_nothing(tmp_path: Path) -> None:
    for seed in range(5):
        folder = tmp_path / str(seed)
        folder.mkdir()
        driver = Driver(folder / "queue.sqlite")
        for _ in range(4):
            driver.accept_all([(b"", bytes([seed]) * 2000) for _ in range(10)])
        before = everything(driver)
        at_once = folder / "crash"
        at_once.mkdir()
        for part in folder.glob("queue.sqlite*"):
            if not part.name.endswith((".lock", "-shm")):
                shutil.copy(part, at_once / part.name)
        driver.end()
        log = at_once / "queue.sqlite-wal"
        assert log.stat().st_size > 4096
        garbage_pages(log, seed)
        driver = Driver(at_once / "queue.sqlite")
        assert everything(driver) == before
        driver.end()


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    before = path.read_bytes()
    reserve = path.with_name(f"{path.name}.reserve")
    with pytest.raises(StoreError, match="upgrade"):
        Driver(path)
    assert path.read_bytes() == before
    assert reserve.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.5 MiB; without the right to mount one, a limit on the files' pages."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("may not mount a file system; the limit on pages is tested instead")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(driver: Driver) -> int:
    """Accept until the disk is full; how many there are then."""
    with contextlib.suppress(StoreError):
        for _ in range(10_000):
            driver.accept(bytes(1000))
    return len(driver.states())


def test_a_full_disk_loses_nothing_and_heals(small_disk: Path) -> None:
    ballast = small_disk / "others"
    ballast.write_bytes(bytes(300_000))
    driver = Driver(small_disk / "queue.sqlite")
    accepted = fill(driver)
    assert accepted > 100
    assert driver.run(driver.queue.counts()).mirrored
    others = small_disk / "more"
    with contextlib.suppress(OSError), others.open("wb") as file:  # to the last byte
        while True:
            file.write(bytes(1024))
            file.flush()
    assert len(driver.frames()) == accepted
    with pytest.raises(StoreError, match="free space"):
        driver.accept(bytes(1000))
    for number in range(1, accepted + 1):  # or it would never drain
        assert driver.run(driver.queue.complete(number, answer(number)))
    ballast.unlink()
    others.unlink()
    number = driver.accept(b"there is room again")
    assert driver.frames()[number] == b"there is room again"
    assert len(driver.states()) == accepted + 1
    driver.close()
    driver.open()
    assert len(driver.states()) == accepted + 1
    driver.end()


def test_files_that_cannot_grow_lose_nothing_and_heal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(path)
    before = driver.frames()
    write = QueueFiles.write

    def full(self: QueueFiles, statement: str, values: tuple[object, ...] = ()) -> None:
        write(self, statement, values)
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(QueueFiles, "write", full)
        with pytest.raises(StoreError, match="free space"):
            driver.accept(b"no room")
        assert driver.frames() == before
    assert driver.accept(b"room") == COUNT + 1
    driver.end()


def test_without_its_copy_the_queue_goes_on_and_makes_another(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_path(path).unlink()

    def refused(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(queue_files, "open_copy", refused)
        driver = Driver(path)
    assert "no copy" in caplog.text
    assert driver.accept(b"one file") == COUNT + 1
    assert not driver.run(driver.queue.counts()).mirrored
    driver.close()
    driver.open()
    assert driver.run(driver.queue.counts()).mirrored
    driver.end()
