"""One input under watch: what it may raise, and what time and memory it may take.

Time is this process's processor time, so that a busy machine is no hang. Memory is watched twice:
``RLIMIT_AS`` refuses an allocation (touched or not) that takes the address space more than
``ALLOCATION_BYTES`` above what it was, and the kernel's high-water mark of resident pages, reset
before each input, gives the figure. Both see what C code allocates, which tracemalloc does not.
"""

import contextlib
import ctypes
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spikebottlenet.errors import SpikeBottleNetError

ALLOCATION_BYTES = 64 << 20
HANG_S = 1.0

_PAGE_BYTES = resource.getpagesize()
_PROC = Path("/proc/self")
_RESET_PEAK = b"5"  # proc(5), clear_refs: the peak resident set size becomes the present one

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_GIVEN_BACK_BYTES = 256 * 1024

Target = Callable[[bytes], None]


class LimitError(AssertionError):
    """An input that took more than it may."""


@dataclass(frozen=True)
class Cost:
    """What one input took."""

    cpu_s: float
    peak_bytes: int  # resident, above what was before


def give_back_memory() -> None:
    """Have glibc return freed memory at once, for this process's life.

    Else what one input took and freed hides what the next one takes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _GIVEN_BACK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _GIVEN_BACK_BYTES)


def run_watched(target: Target, data: bytes, *, hang_s: float = HANG_S) -> Cost:
    """Give ``data`` to ``target``; errors that this project raises on purpose are fine.

    Raises:
        LimitError: too much time or memory.
        Exception: whatever else the target raised.
    """
    started = time.process_time()
    with _bounded_allocation():
        before = _reset_peak()
        try:
            target(data)
        except SpikeBottleNetError as error:
            _refuse_hidden_memory_error(error)
        peak_bytes = max(0, _peak() - before)
    cost = Cost(time.process_time() - started, peak_bytes)
    if cost.cpu_s > hang_s:
        raise LimitError(f"{len(data)} bytes took {cost.cpu_s:.2f} s, wanted at most {hang_s}")
    if cost.peak_bytes > ALLOCATION_BYTES:
        raise LimitError(f"{len(data)} bytes took {cost.peak_bytes >> 20} MiB of memory")
    return cost


@contextlib.contextmanager
def _bounded_allocation() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int((_PROC / "statm").read_text().split()[0]) * _PAGE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (now + ALLOCATION_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _refuse_hidden_memory_error(error: BaseException | None) -> None:
    """An allocation that was refused may have been taken for damaged input."""
    while error is not None:
        if isinstance(error, MemoryError):
            raise LimitError(f"an allocation above {ALLOCATION_BYTES >> 20} MiB was tried")
        error = error.__cause__ or error.__context__


def _reset_peak() -> int:
    with contextlib.suppress(OSError):  # without it the peak of earlier inputs hides smaller ones
        (_PROC / "clear_refs").write_bytes(_RESET_PEAK)
    return _peak()


def _peak() -> int:
    status = os.fspath(_PROC / "status")
    with open(status, "rb") as file:  # noqa: PTH123  # twice an input: pathlib is slower
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
