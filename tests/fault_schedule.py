"""A seeded walk through kinds of fault, with healthy pauses between, and a record of it."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from tests.fault_proxy import FaultProxy
from tests.link_faults import HEALTHY, Faults

KINDS = ("cut", "reset", "black_hole", "refuse", "slow", "slice", "rate", "corrupt", "slow_close")
_MOMENTARY = ("cut", "reset")


@dataclass(frozen=True)
class FaultStep:
    """One fault and the healthy pause after it; ``cut`` and ``reset`` take no time."""

    kind: str
    faults: Faults
    fault_s: float
    healthy_s: float


@dataclass(frozen=True)
class FaultSchedule:
    """An endless walk through kinds of fault, the same for the same seed.

    Raises:
        ValueError: a kind that is not in ``KINDS``.
    """

    seed: int
    kinds: tuple[str, ...] = KINDS
    fault_s: tuple[float, float] = (0.2, 2.0)
    healthy_s: tuple[float, float] = (0.5, 3.0)

    def __post_init__(self) -> None:
        unknown = set(self.kinds) - set(KINDS)
        if unknown or not self.kinds:
            raise ValueError(f"fault kinds are {self.kinds}, wanted some of {', '.join(KINDS)}")

    def __iter__(self) -> Iterator[FaultStep]:
        draw = random.Random(self.seed)
        while True:
            kind = draw.choice(self.kinds)
            faults = _draw_faults(kind, draw)
            lasts = 0.0 if kind in _MOMENTARY else draw.uniform(*self.fault_s)
            yield FaultStep(kind, faults, lasts, draw.uniform(*self.healthy_s))


def _draw_faults(kind: str, draw: random.Random) -> Faults:
    match kind:
        case "black_hole":
            return Faults(black_hole=True)
        case "refuse":
            return Faults(refuse=True)
        case "slow":
            latency = draw.uniform(20, 400)
            return Faults.both(latency_ms=latency, jitter_ms=latency / 2)
        case "slice":
            return Faults.both(slice_bytes=draw.randint(1, 7))
        case "rate":
            return Faults.both(bytes_per_s=draw.uniform(500, 20_000))
        case "corrupt":
            return Faults.both(corrupt_per_byte=10 ** draw.uniform(-4, -2))
        case "slow_close":
            return Faults(slow_close_ms=draw.uniform(100, 1000))
        case _:  # cut and reset are done to the proxy at once
            return HEALTHY


@dataclass(frozen=True)
class FaultEvent:
    """What was done to the proxy, and when; ``dataclasses.asdict`` makes it plain for a report."""

    at_s: float  # since the walk began
    kind: str
    lasted_s: float
    faults: Faults


@contextlib.asynccontextmanager
async def random_faults(
    proxy: FaultProxy, seed: int, **schedule: Any
) -> AsyncIterator[list[FaultEvent]]:
    """Walk through a schedule while the block lasts; healthy again after it.

    Yields the events that have ended; ``schedule`` as for ``FaultSchedule``. The proxy may live on
    another event loop.
    """
    events: list[FaultEvent] = []
    task = asyncio.create_task(_walk(proxy, FaultSchedule(seed, **schedule), events))
    try:
        yield events
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _walk(proxy: FaultProxy, steps: FaultSchedule, events: list[FaultEvent]) -> None:
    began = time.monotonic()
    for step in steps:
        at = time.monotonic()
        proxy.faults = step.faults
        if step.kind == "cut":
            proxy.cut()
        elif step.kind == "reset":
            proxy.reset()
        try:
            await asyncio.sleep(step.fault_s)
        finally:
            proxy.faults = HEALTHY
            events.append(FaultEvent(at - began, step.kind, time.monotonic() - at, step.faults))
        await asyncio.sleep(step.healthy_s)
