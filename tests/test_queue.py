"""The durable queue against a plain model of it, under everything that may happen to it."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_node.queue_files import QueueInUseError
from edge_node.queue_rows import State
from edge_node.queue_values import QueueLimits
from spikebottlenet.errors import OverloadedError
from tests.queue_driver import MODEL, WIDE, Driver, answer

KEYS = st.sampled_from([b"", b"", *(bytes([n]) * 16 for n in range(4))])
FRAMES = st.binary(min_size=1, max_size=40)


@dataclass
class Entry:
    """What the model knows of one request."""

    key: bytes
    frame: bytes
    state: str
    age_s: float
    answer: int | None = None


class QueueMachine(RuleBasedStateMachine):
    """Rules do the same to the queue and to a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = 0.0
        self.crashes = 0
        self.entries: dict[int, Entry] = {}
        self.highest = 0
        self.dropped = {"full": 0, "age": 0}

    @initialize(
        policy=st.sampled_from(["reject", "drop_oldest"]),
        max_age_s=st.sampled_from([0.0, 50.0]),
        max_count=st.sampled_from([3, 1000]),
        max_bytes=st.sampled_from([60, 10_000]),
        keep_results=st.sampled_from([2, 1000]),
    )
    def begin(
        self, policy: str, max_age_s: float, max_count: int, max_bytes: int, keep_results: int
    ) -> None:
        self.limits = QueueLimits(max_bytes, max_count, max_age_s, policy, keep_results)  # type: ignore[arg-type]
        self.driver = Driver(self.folder / "queue.sqlite", self.limits, lambda: self.now)
        self.stream_id = self.driver.queue.stream_id

    def of(self, *states: str) -> list[int]:
        return [n for n, entry in sorted(self.entries.items()) if entry.state in states]

    def kept_bytes(self) -> int:
        return sum(len(self.entries[n].frame) for n in self.of("WAITING", "DEAD"))

    def trim(self) -> None:
        over = len(self.of("ANSWERED", "DROPPED")) - self.limits.keep_results
        for number in self.of("ANSWERED", "DROPPED")[: max(0, over)]:
            del self.entries[number]

    def drop(self, number: int, why: str) -> None:
        self.entries[number].state = "DROPPED"
        self.dropped[why] += 1
        self.trim()

    @rule(key=KEYS, frame=FRAMES)
    def accept(self, key: bytes, frame: bytes) -> None:
        known = [n for n, entry in self.entries.items() if key and entry.key == key]
        if known:
            assert self.driver.accept(frame, key) == known[0]
            return
        while (
            len(self.of("WAITING", "DEAD")) >= self.limits.max_count
            or self.kept_bytes() + len(frame) > self.limits.max_bytes
        ):
            waiting = self.of("WAITING")
            dead = self.of("DEAD")
            dead_bytes = sum(len(self.entries[n].frame) for n in dead)
            if (
                self.limits.when_full == "reject"
                or len(dead) >= self.limits.max_count
                or dead_bytes + len(frame) > self.limits.max_bytes
            ):
                with pytest.raises(OverloadedError, match="full"):
                    self.driver.accept(frame, key)
                return
            self.drop(waiting[0], "full")
        number = self.driver.accept(frame, key)
        assert number > self.highest
        self.highest = number
        self.entries[number] = Entry(key, frame, "WAITING", self.now)

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), number=st.integers(0, 99))
    def complete(self, data: st.DataObject, number: int) -> None:
        which = data.draw(st.sampled_from(sorted(self.entries)))
        entry = self.entries[which]
        first = self.driver.run(self.driver.queue.complete(which, answer(number)))
        assert first == (entry.state != "ANSWERED")
        if first:
            entry.state, entry.answer = "ANSWERED", number
            self.trim()

    @rule()
    def complete_one_that_is_not_there(self) -> None:
        assert not self.driver.run(self.driver.queue.complete(self.highest + 1, answer(0)))

    @precondition(lambda self: self.of("WAITING"))
    @rule(data=st.data())
    def bury(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(sorted(self.entries)), unique=True))
        self.driver.run(self.driver.queue.bury(some, "refused"))
        for number in some:
            if self.entries[number].state == "WAITING":
                self.entries[number].state = "DEAD"

    @rule()
    def retry(self) -> None:
        dead = self.of("DEAD")
        assert self.driver.run(self.driver.queue.retry_dead()) == len(dead)
        for number in dead:
            self.entries[number].state = "WAITING"
            self.entries[number].age_s = self.now

    @rule(states=st.sets(st.sampled_from(list(State)), max_size=2))
    def purge(self, states: set[State]) -> None:
        gone = self.of(*(state.name for state in states))
        assert self.driver.run(self.driver.queue.purge(list(states))) == len(gone)
        for number in gone:
            del self.entries[number]

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0]))
    def grow_old(self, seconds: float) -> None:
        self.now += seconds
        self.driver.run(self.driver.queue.expire())
        if self.limits.max_age_s:
            horizon = self.now - self.limits.max_age_s
            for number in self.of("WAITING"):
                if self.entries[number].age_s < horizon:
                    self.drop(number, "age")

    @rule()
    def restart(self) -> None:
        self.driver.close()
        self.driver.open()

    @rule()
    def crash(self) -> None:
        self.crashes += 1
        self.driver.run(self.driver.queue.do(lambda ops: ops.keep_age(now=True)))
        self.driver.crash(self.folder / f"crash-{self.crashes}")

    @invariant()
    def is_the_same(self) -> None:
        if not hasattr(self, "driver"):
            return
        queue = self.driver.queue
        assert queue.stream_id == self.stream_id
        assert self.driver.states() == {n: self.entries[n].state for n in sorted(self.entries)}
        assert self.driver.frames() == {n: self.entries[n].frame for n in self.of("WAITING")}
        results = self.driver.run(queue.results(after=0, sequences=None, limit=1000))
        for result in results:
            entry = self.entries[result.sequence]
            expected = None if entry.answer is None else answer(entry.answer)
            assert (result.key, result.answer) == (entry.key, expected)
        counts = self.driver.run(queue.counts())
        assert counts.waiting == len(self.of("WAITING"))
        assert counts.dead == len(self.of("DEAD"))
        assert counts.kept_bytes == self.kept_bytes()
        assert counts.dropped == self.dropped
        assert counts.mirrored

    def teardown(self) -> None:
        if hasattr(self, "driver"):
            self.driver.end()
        shutil.rmtree(self.folder)


QueueMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, derandomize=True
)
TestQueueMachine = QueueMachine.TestCase


def test_a_wall_clock_that_jumps_a_day_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    limits = WIDE._replace(max_age_s=100.0)
    driver = Driver(tmp_path / "queue.sqlite", limits, lambda: now)
    wall = time.time_ns()
    for jump_s in (0, 86_400, -86_400):
        monkeypatch.setattr(time, "time_ns", lambda jump_s=jump_s: wall + jump_s * 10**9)
        driver.accept(b"frame")
        driver.run(driver.queue.expire())
    assert list(driver.frames()) == [1, 2, 3]
    driver.close()
    driver.open()
    driver.run(driver.queue.expire())
    assert list(driver.frames()) == [1, 2, 3]
    now = 99.0
    driver.run(driver.queue.expire())
    assert list(driver.frames()) == [1, 2, 3]
    now = 101.0
    driver.run(driver.queue.expire())
    assert driver.frames() == {}
    assert set(driver.states().values()) == {"DROPPED"}
    driver.end()


def test_age_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    now = 1000.0  # of this machine's monotonic clock, which begins anew at each boot
    driver = Driver(tmp_path / "queue.sqlite", WIDE._replace(max_age_s=100.0), lambda: now)
    driver.accept(b"frame")
    now = 1060.0
    driver.close()
    now = 5.0
    driver.open()
    now = 40.0
    driver.run(driver.queue.expire())
    assert list(driver.frames()) == [1]
    now = 50.0
    driver.run(driver.queue.expire())
    assert driver.frames() == {}
    driver.end()


def test_a_queue_belongs_to_one_process(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "queue.sqlite")
    with pytest.raises(QueueInUseError, match="stop it"):
        Driver(tmp_path / "queue.sqlite")
    driver.end()
    Driver(tmp_path / "queue.sqlite").end()


_ACCEPTS = f"""
import asyncio, sys
from pathlib import Path
from edge_node.queue import open_queue
from tests.queue_driver import WIDE

async def main():
    async with open_queue(Path(sys.argv[1]), WIDE) as queue:
        async def accept(first):
            for number in range(first, 1 << 30, 16):
                sequence = await queue.accept(b"", b"%d" % number, **{MODEL!r})
                print(sequence, number, flush=True)
        await asyncio.gather(*(accept(first) for first in range(16)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 37, 500, 1200])
def test_what_was_accepted_before_a_kill_is_there_after_it(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "queue.sqlite"
    accepted: dict[int, bytes] = {}
    for _ in range(2):  # the second life finds what the first left
        process = subprocess.Popen(
            [sys.executable, "-c", _ACCEPTS, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            for _ in range(lines):
                sequence, number = process.stdout.readline().split()
                accepted[int(sequence)] = number.encode()
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().splitlines(keepends=True)
        process.wait()
        for line in rest:
            if line.endswith("\n"):
                sequence, number = line.split()
                accepted[int(sequence)] = number.encode()
    driver = Driver(path)
    found = driver.frames()
    assert accepted.items() <= found.items()
    assert list(found) == sorted(found)
    assert driver.accept(b"next") > max(found)
    driver.end()
