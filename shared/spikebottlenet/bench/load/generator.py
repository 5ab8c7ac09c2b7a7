"""The load generator: its processes started together, watched, and their samples put together."""

import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

from spikebottlenet.bench.load.plan import Aim, Pace
from spikebottlenet.bench.load.samples import (
    LoadReport,
    Samples,
    count_codes,
    good_rate,
    latencies,
    percentiles,
)
from spikebottlenet.bench.load.worker import READY, Outcome, run_worker
from spikebottlenet.bench.processes import Tree
from spikebottlenet.errors import UnavailableError

_CONNECT_WITHIN_S = 60.0
_BEFORE_START_S = 0.2  # for every process to hear of the start


def run_load(aim: Aim, pace: Pace, server: Tree | None = None) -> LoadReport:
    """Run once; ``server`` is watched for the CPU time that it uses in the measured time.

    Raises:
        SpikeBottleNetError: what kept an edge from connecting.
        UnavailableError: a generator process ended early.
    """
    report, _ = run_and_keep(aim, pace, server)
    return report


def run_and_keep(aim: Aim, pace: Pace, server: Tree | None = None) -> tuple[LoadReport, Samples]:
    """The same, with every sample."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes: list[Any] = []
    try:
        for index in range(pace.processes):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=run_worker, args=(aim, pace, index, theirs), daemon=True
            )
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        for pipe in pipes:
            _receive(pipe, _CONNECT_WITHIN_S)
        start = time.monotonic() + _BEFORE_START_S
        for pipe in pipes:
            pipe.send(start)
        server_cpu_s = _watch(server, start, pace)
        left_s = start + pace.whole_s - time.monotonic() + pace.patience_s + _CONNECT_WITHIN_S
        outcomes = [_receive(pipe, left_s) for pipe in pipes]
    finally:
        for process in processes:
            process.join(1)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in pipes:
            pipe.close()
    samples = Samples.join([outcome.samples for outcome in outcomes])
    return _report(samples, outcomes, pace, server_cpu_s), samples


def _receive(pipe: Connection, within_s: float) -> Any:
    if not pipe.poll(within_s):
        raise UnavailableError(f"a load generator process said nothing for {within_s:.0f} s")
    try:
        said = pipe.recv()
    except EOFError as error:
        raise UnavailableError("a load generator process ended early") from error
    if isinstance(said, Exception):
        raise said
    if said != READY and not isinstance(said, Outcome):
        raise UnavailableError(f"a load generator process said {said!r}")
    return said


def _watch(server: Tree | None, start: float, pace: Pace) -> float | None:
    """CPU seconds of the server in the measured time."""
    if server is None:
        return None
    time.sleep(max(0.0, start + pace.warm_s - time.monotonic()))
    before = server.cpu_s()
    time.sleep(max(0.0, start + pace.whole_s - time.monotonic()))
    return server.cpu_s() - before


def _report(
    samples: Samples, outcomes: list[Outcome], pace: Pace, server_cpu_s: float | None
) -> LoadReport:
    measured = samples.between(pace.warm_s, pace.whole_s)
    return LoadReport(
        seconds=pace.seconds,
        requests=len(measured.due_s),
        offered_rate=len(measured.due_s) / pace.seconds,
        goodput=good_rate(samples, pace.warm_s, pace.whole_s),
        codes=count_codes(measured),
        accepted_ms=percentiles(latencies(measured, accepted=True)),
        refused_ms=percentiles(latencies(measured, accepted=False)),
        lag_ms=percentiles(measured.sent_s - measured.due_s),
        generator_cpu=sum(outcome.cpu_s for outcome in outcomes) / pace.seconds,
        generator_processes=pace.processes,
        server_cpu_s=server_cpu_s,
        wire_up=sum(outcome.wire.sent for outcome in outcomes),
        wire_down=sum(outcome.wire.received for outcome in outcomes),
        answered=sum(outcome.answered for outcome in outcomes),
        open_loop=pace.rate > 0,
    )
