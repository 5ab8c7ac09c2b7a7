"""A daemon's heap, kept small for months: what a storm of connections took is given back.

gRPC's threads each fill a heap of their own, what a storm leaves in one is not used again by the
next, and the kernel gets none of it back by itself. Four storms of 10,000 TLS connections took a
cloud-node to 679, 831, 921 and 1,006 MiB. With two heaps and trimming it is back at 345 MiB after
each. Other C libraries than glibc have no such calls: there all of this does nothing.

Between two trims what is freed is kept. By itself glibc gives the top of a heap back whenever 128
KiB of it are free, and the kernel fills every page of it with zeros when the next image takes it
again: that was a twelfth of a head's time and two fifths of encoding's.
"""

import asyncio
import contextlib
import ctypes
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3)
_ARENAS = 2
_KEPT_BYTES = 32 << 20  # at the top of a heap
_MAPPED_BYTES = 32 << 20  # a block from which on is mapped by itself; no more is allowed
_TRIM_EVERY_S = 30.0


def bound_heaps() -> None:
    """Let this process have two heaps instead of eight a core; before it starts threads."""
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_ARENA_MAX, _ARENAS)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES)


@asynccontextmanager
async def trimmed_heap(every_s: float = _TRIM_EVERY_S) -> AsyncIterator[None]:
    """While it lasts, give free memory back to the kernel now and then, from another thread."""
    trim = _function("malloc_trim")
    trimming = asyncio.create_task(_keep_trimming(trim, every_s)) if trim is not None else None
    try:
        yield
    finally:
        if trimming is not None:
            trimming.cancel()
            await asyncio.gather(trimming, return_exceptions=True)


async def _keep_trimming(trim: Callable[[int], Any], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        with contextlib.suppress(RuntimeError):  # no thread to be had now
            await asyncio.to_thread(trim, 0)


def _function(name: str) -> Callable[..., Any] | None:
    try:
        found: Callable[..., Any] | None = getattr(ctypes.CDLL(None), name, None)
    except OSError:
        return None
    return found
