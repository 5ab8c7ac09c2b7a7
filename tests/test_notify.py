"""What the service manager hears, through a real socket."""

import asyncio
import logging
import os
import secrets
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spikebottlenet.notify import Notifier, watchdog

HEARD_WITHIN_S = 20.0


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.socket.settimeout(HEARD_WITHIN_S)

    def heard(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")

    async def next(self) -> list[str]:
        return await asyncio.to_thread(self.heard)

    def waiting(self) -> bool:
        return bool(select.select([self.socket], [], [], 0)[0])


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    abstract = request.param == "abstract"
    listening = Manager(f"@{secrets.token_hex(8)}" if abstract else str(tmp_path / "notify"))
    with listening.socket:
        yield listening


def notifier_of(manager: Manager, **more: str) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": manager.name, **more})


def test_a_life_as_the_manager_hears_it(manager: Manager) -> None:
    notifier = notifier_of(manager)
    notifier.ready("serving on port 1")
    assert manager.heard() == ["READY=1", "STATUS=serving on port 1"]
    before_us = time.monotonic_ns() // 1000
    notifier.reloading()
    said, when = manager.heard()
    assert said == "RELOADING=1"
    assert before_us <= int(when.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    notifier.ready()
    assert manager.heard() == ["READY=1"]
    notifier.status("two lines\nSTOPPING=1")
    assert manager.heard() == ["STATUS=two lines STOPPING=1"]
    notifier.stopping()
    assert manager.heard() == ["STOPPING=1"]


def test_another_process_is_heard_by_its_own_environment(manager: Manager) -> None:
    code = "from spikebottlenet.notify import Notifier; Notifier.from_environment().ready()"
    environment = {**os.environ, "NOTIFY_SOCKET": manager.name}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert manager.heard() == ["READY=1"]


@pytest.mark.parametrize("value", [None, "", "vsock:2:1234", "relative/path"])
async def test_without_a_socket_nothing_is_said(value: str | None) -> None:
    environment = {} if value is None else {"NOTIFY_SOCKET": value}
    notifier = Notifier.from_environment({**environment, "WATCHDOG_USEC": "30000000"})
    assert notifier == Notifier(None, None)
    notifier.ready("x")
    notifier.reloading()
    notifier.status("x")
    notifier.stopping()
    calls = 0

    async def alive() -> None:
        nonlocal calls
        calls += 1

    async with watchdog(notifier, alive):
        await asyncio.sleep(0)
    assert calls == 0


@pytest.mark.parametrize("name", ["gone", "x" * 200, "with\0zero"])
def test_a_manager_that_is_not_there_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    Notifier(str(tmp_path / name)).ready()
    assert [record.getMessage() for record in caplog.records] == ["service manager not told"]


def test_a_manager_that_does_not_read_stops_nothing(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = notifier_of(manager)
    for _ in range(100_000):
        notifier.ping()
        if caplog.records:
            break
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_only_the_watched_process_pings(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "/x", **environment})
    assert notifier.watchdog_s == watchdog_s


async def test_pings_go_on_while_alive_returns(manager: Manager) -> None:
    calls = 0

    async def alive() -> None:
        nonlocal calls
        calls += 1

    start_s = time.monotonic()
    async with watchdog(notifier_of(manager, WATCHDOG_USEC="150000"), alive):
        for count in range(1, 5):
            assert await manager.next() == ["WATCHDOG=1"]
            assert calls >= count
    assert time.monotonic() - start_s >= 3 * 0.05  # a third of the period between two
    count = calls
    while manager.waiting():
        manager.heard()
    await asyncio.sleep(0.2)  # nothing to await: longer than a period
    assert (calls, manager.waiting()) == (count, False)


@pytest.mark.parametrize("how", ["hangs", "raises"])
async def test_no_ping_without_a_sign_of_life_and_again_with_one(
    manager: Manager, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    calls, healthy = asyncio.Semaphore(0), asyncio.Event()

    async def alive() -> None:
        calls.release()
        if not healthy.is_set():
            if how == "raises":
                raise RuntimeError("worker died")
            await asyncio.Event().wait()

    async with watchdog(notifier_of(manager, WATCHDOG_USEC="30000"), alive):
        for _ in range(5):
            async with asyncio.timeout(HEARD_WITHIN_S):
                await calls.acquire()
        assert not manager.waiting()
        healthy.set()
        assert await manager.next() == ["WATCHDOG=1"]
    reasons = {record.fields["reason"] for record in caplog.records}
    wanted = "RuntimeError: worker died" if how == "raises" else "no sign of life within 0.01 s"
    assert wanted in reasons


async def test_a_blocked_event_loop_pings_no_more(manager: Manager) -> None:
    async def alive() -> None:
        return

    async with watchdog(notifier_of(manager, WATCHDOG_USEC="30000"), alive):
        assert await manager.next() == ["WATCHDOG=1"]
        while manager.waiting():
            manager.heard()
        time.sleep(0.2)
        assert not manager.waiting()
