"""Daemons as child processes on this machine, for the demo and for tests."""

import contextlib
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spikebottlenet.errors import UnavailableError

_START_WITHIN_S = 60.0
_STOP_WITHIN_S = 30.0
_SERVING = re.compile(r"serving on (\S+:\d+),(?: web (\S+),)?")


@dataclass(frozen=True)
class Daemon:
    """A running daemon."""

    process: "subprocess.Popen[str]"
    address: str  # host:port
    start_line: str
    log: Path  # its standard error
    web: str = ""  # URL of its pages and /metrics; none if it serves none

    def stop(self) -> int:
        """Ask it to end and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_WITHIN_S)


def start_daemon(module: str, arguments: Sequence[str], log: Path) -> Daemon:
    """Start ``python -m module`` and wait for its start line.

    Raises:
        UnavailableError: it ended, or said nothing in time; its last words are quoted.
    """
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(  # noqa: S603, our own module by our own interpreter
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
        )
    line = _first_line(process)
    found = _SERVING.search(line)
    if found is None:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        words = log.read_text(encoding="utf-8").strip().splitlines()[-3:]
        raise UnavailableError(f"{module} did not start: {' | '.join(words) or 'it said nothing'}")
    return Daemon(process, found[1], line.strip(), log, web=found[2] or "")


def _first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None  # noqa: S101, for the type checker: it was asked for above
    deadline = time.monotonic() + _START_WITHIN_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ready = selector.select(max(0.0, deadline - time.monotonic()))
    return process.stdout.readline() if ready else ""


@contextlib.contextmanager
def running_daemon(module: str, arguments: Sequence[str], log: Path) -> Iterator[Daemon]:
    """A daemon for as long as the block lasts; killed if it does not end when asked."""
    daemon = start_daemon(module, arguments, log)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.send_signal(signal.SIGTERM)
            try:
                daemon.process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                daemon.process.kill()
                daemon.process.wait()
        if daemon.process.stdout is not None:
            daemon.process.stdout.close()
