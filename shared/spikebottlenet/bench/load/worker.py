"""One process of the load generator: some of the edges, each with a connection of its own."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from spikebottlenet.accounting.wire import NOTHING, KernelCounters, Side, WireBytes
from spikebottlenet.bench.load.cloud_line import cloud_line
from spikebottlenet.bench.load.edge_line import edge_line
from spikebottlenet.bench.load.http_line import http_line
from spikebottlenet.bench.load.plan import Aim, Pace, Target
from spikebottlenet.bench.load.samples import NO_ROOM, UNANSWERED, Samples
from spikebottlenet.bench.load.schedule import Schedule, poisson_schedule
from spikebottlenet.bench.load.unary_line import unary_line
from spikebottlenet.errors import SpikeBottleNetError
from spikebottlenet.rpc.poller import choose_poller

READY = "ready"
_GRAIN_S = 0.0005  # a shorter wait is not worth a timer
_REST_S = 0.01  # of who is refused in closed loop, at least: a server is not asked in a circle
_TOGETHER = 8  # requests that are due about now are begun without a look at anything else


class Line(Protocol):
    """A connection that asks and is answered."""

    def ask(self, index: int) -> "Awaitable[int]":
        """Send payload ``index``; the status code of its answer."""


@runtime_checkable
class Throttled(Protocol):
    """A line that keeps some requests to itself."""

    def holds_back(self) -> int:
        """The status code that a request gets here and now, 0 if it is to be asked."""


@runtime_checkable
class Hinted(Protocol):
    """A line whose server says when it wants to be asked again."""

    @property
    def retry_after_s(self) -> float:
        """Seconds, as it said last."""


LINES: dict[Target, Callable[[Aim], AbstractAsyncContextManager[Line]]] = {
    Target.CLOUD: cloud_line,
    Target.EDGE: edge_line,
    Target.UNARY: unary_line,
    Target.HTTP: http_line,
}


class Outcome(NamedTuple):
    """What one process found."""

    samples: Samples
    wire: WireBytes  # of its connections, with their opening
    answered: int  # of the requests that those bytes carried
    cpu_s: float  # of this process in the measured time


class _Log:
    """Rows of samples as they come."""

    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def begin(self, due_s: float, sent_s: float) -> list[float]:
        row = [due_s, sent_s, np.inf, UNANSWERED]
        self.rows.append(row)
        return row

    def samples(self) -> Samples:
        table = np.array(self.rows, dtype=np.float64).reshape(-1, 4)
        return Samples(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.int64))


def run_worker(aim: Aim, pace: Pace, index: int, pipe: Connection) -> None:
    """Connect, say so, wait for the start, run, and send an ``Outcome`` or an error back."""
    choose_poller()  # as the edge-nodes have that this plays
    try:
        asyncio.run(_run(aim, pace, index, pipe))
    except SpikeBottleNetError as error:
        pipe.send(error)
    except Exception as error:  # the parent raises it; a traceback here would be nobody's
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


async def _run(aim: Aim, pace: Pace, index: int, pipe: Connection) -> None:
    edges = [edge for edge in range(pace.edges) if edge % pace.processes == index]
    counters = KernelCounters(port=int(aim.address.rpartition(":")[2]), side=Side.REMOTE)
    async with AsyncExitStack() as stack:
        lines: dict[int, Line] = {}
        for edge in edges:
            lines[edge] = await stack.enter_async_context(LINES[aim.target](aim))
        pipe.send(READY)
        start = await asyncio.to_thread(pipe.recv)  # monotonic seconds, the same for all
        log, gauge = _Log(), asyncio.create_task(_cpu_between(start, pace))
        gc.disable()  # a pause of the collector would be taken for the server's
        try:
            if pace.rate:
                schedule = poisson_schedule(
                    rate=pace.rate, seconds=pace.whole_s, edges=pace.edges, seed=pace.seed
                )
                mine = schedule.of_process(index, pace.processes)
                await _open_loop(lines, mine, log, start, pace)
            else:
                await _closed_loop(lines, log, start, pace)
        finally:
            gc.enable()
        wire = counters.sample(force=True) if counters.available else NOTHING
        samples = log.samples()
        answered = int((samples.code == 0).sum())
        pipe.send(Outcome(samples, wire, answered, await gauge))


async def _cpu_between(start: float, pace: Pace) -> float:
    await asyncio.sleep(max(0.0, start + pace.warm_s - time.monotonic()))
    before = time.process_time()
    await asyncio.sleep(max(0.0, start + pace.whole_s - time.monotonic()))
    return time.process_time() - before


def _holding_back(line: Line) -> Callable[[], int]:
    """Draws what a request gets of the line itself: a status code, or 0 to ask."""
    return line.holds_back if isinstance(line, Throttled) else int


def _done(row: list[float], start: float, answer: "asyncio.Future[int]") -> None:
    if not answer.cancelled():
        row[2], row[3] = time.monotonic() - start, answer.result()


async def _open_loop(
    lines: dict[int, Line], schedule: Schedule, log: _Log, start: float, pace: Pace
) -> None:
    """Send each request when it is due, whatever became of those before it."""
    asked: set[asyncio.Future[int]] = set()
    holding_back = {edge: _holding_back(line) for edge, line in lines.items()}
    for index, (due_s, edge) in enumerate(
        zip(schedule.due_s.tolist(), schedule.edge.tolist(), strict=True)
    ):
        wait_s = start + due_s - time.monotonic()
        if wait_s > _GRAIN_S or index % _TOGETHER == 0:
            await asyncio.sleep(wait_s if wait_s > _GRAIN_S else 0)
        row = log.begin(due_s, time.monotonic() - start)
        if code := holding_back[edge]():
            row[2], row[3] = time.monotonic() - start, code
            continue
        answer = asyncio.ensure_future(lines[edge].ask(index))
        asked.add(answer)
        answer.add_done_callback(partial(_done, row, start))
        answer.add_done_callback(asked.discard)
    await _finish(asked, pace)


async def _closed_loop(lines: dict[int, Line], log: _Log, start: float, pace: Pace) -> None:
    """Keep so many in flight on each line; a request is due when the one before it is answered, and
    where that was refused, when the server wanted to be asked again.
    """

    async def ask_on(line: Line, index: int) -> None:
        holding_back = _holding_back(line)
        while (now := time.monotonic() - start) < pace.whole_s:
            row = log.begin(now, now)
            if code := holding_back():
                row[2], row[3] = now, code
            else:
                row[3] = await line.ask(index)
                row[2] = time.monotonic() - start
            index += 1
            if row[3] != 0:
                rest_s = _REST_S
                if row[3] == NO_ROOM and isinstance(line, Hinted):
                    rest_s = max(rest_s, line.retry_after_s)
                await asyncio.sleep(rest_s)

    await asyncio.sleep(max(0.0, start - time.monotonic()))
    tasks = {
        asyncio.create_task(ask_on(line, 7919 * edge + 104729 * slot))
        for edge, line in lines.items()
        for slot in range(pace.in_flight)
    }
    await asyncio.sleep(max(0.0, start + pace.whole_s - time.monotonic()))
    await _finish(tasks, pace)


async def _finish(asked: "Collection[asyncio.Future[Any]]", pace: Pace) -> None:
    """Give what is on its way some time, then give up on it."""
    if not asked:
        return
    done, late = await asyncio.wait(set(asked), timeout=pace.patience_s)
    for answer in late:
        answer.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for answer in done:
        answer.result()
