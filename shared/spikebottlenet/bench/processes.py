"""Processes beside the bench: started, watched (CPU time, memory), and always stopped."""

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import psutil

from spikebottlenet.errors import UnavailableError

P = ParamSpec("P")
R = TypeVar("R")

_START_WITHIN_S = 90.0
_STOP_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02


class Server(NamedTuple):
    """A running server process and what it said of itself."""

    tree: "Tree"
    address: str
    log: Path


class Tree:
    """Some processes and all their children."""

    def __init__(self, *pids: int) -> None:
        self.pids = pids
        self._roots = [psutil.Process(pid) for pid in pids]

    def joined(self, other: "Tree") -> "Tree":
        """Both together."""
        return Tree(*self.pids, *other.pids)

    def cpu_s(self) -> float:
        """CPU seconds used so far by those that live, user and system."""
        total = 0.0
        for process in self._all():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def resident_mb(self) -> float:
        """Resident memory, megabytes (10^6 bytes), pages shared between them counted in each."""
        total = 0
        for process in self._all():
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total / 1e6

    def _all(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for root in self._roots:
            try:
                found += [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return found


@contextmanager
def running_server(
    module: str, arguments: Sequence[str], log: Path, ready: Callable[[], str | None]
) -> Iterator[Server]:
    """``python -m module`` until the block ends; ``ready`` gives its address once it serves.

    Raises:
        UnavailableError: it ended or was not ready in time; its last words are quoted.
    """
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(  # noqa: S603, our own module by our own interpreter
            [sys.executable, "-m", module, *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield Server(Tree(process.pid), _await_ready(process, module, log, ready), log)
    finally:
        _stop(process)


def _await_ready(
    process: "subprocess.Popen[bytes]", module: str, log: Path, ready: Callable[[], str | None]
) -> str:
    give_up = time.monotonic() + _START_WITHIN_S
    while process.poll() is None and time.monotonic() < give_up:
        address = ready()
        if address is not None:
            return address
        time.sleep(_LOOK_EVERY_S)
    words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    raise UnavailableError(f"{module} did not start: {' | '.join(words) or 'it said nothing'}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End it and its children, by force if need be."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(children, timeout=_STOP_WITHIN_S)


def in_fresh_process(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call it in a new interpreter, so that memory and threads are its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()
