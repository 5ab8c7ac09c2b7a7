"""The cloud against the bare tail: images/s at saturation, latency at half of it."""

import math

import numpy as np

from spikebottlenet.bench.bare_tail import BareTail, Fullest
from spikebottlenet.bench.figures import Bound, Part, Table, claim, fixed
from spikebottlenet.bench.load.generator import run_and_keep, run_load
from spikebottlenet.bench.load.plan import Aim, Pace, Target
from spikebottlenet.bench.load.samples import LoadReport, Seconds, latencies, percentiles
from spikebottlenet.bench.machine import usable_cores
from spikebottlenet.bench.measuring import ratios, spread
from spikebottlenet.bench.peers.servers import running_cloud
from spikebottlenet.bench.subject import Subject, daemon_default, daemon_default_real
from spikebottlenet.errors import UnavailableError
from spikebottlenet.runtime.tail_engine import Precision

EDGES = 8  # that play the load
_HALF = 0.5
_ENOUGH = 150  # requests that a 99th percentile is taken of, at least


def cloud_aim(subject: Subject, address: str, *, deadline_ms: int = 0) -> Aim:
    """Recorded frames to a cloud-node."""
    return Aim(
        Target.CLOUD,
        address,
        subject.frames,
        fingerprint=subject.fingerprint,
        deadline_ms=deadline_ms,
    )


def largest_batch(alone: float) -> int:
    """Images of a batch of cloud-node's at most, where the tail alone gives so many images/s with a
    batch on each core.
    """
    most = daemon_default("cloud_node", "max_batch")
    within_s = daemon_default_real("cloud_node", "max_batch_ms") / 1e3 or math.inf
    return max(1, int(min(most, alone / usable_cores() * within_s)))


def saturating(seconds: float, batch: int, *, edges: int = EDGES) -> Pace:
    """Six full batches in flight: two run, and a full one waits whatever is on its way."""
    return Pace(seconds=seconds, edges=edges, in_flight=-(-6 * batch // edges), warm_s=1.5)


def capacity(report: LoadReport) -> float:
    """Images/s served in closed loop, from which other loads are derived.

    Raises:
        UnavailableError: none was served, and there is nothing to derive from.
    """
    if report.goodput <= 0:
        raise UnavailableError(f"cloud-node answered nothing in closed loop: {report.codes}")
    return report.goodput


def measure_cloud(subject: Subject) -> Part:
    """Served images/s and the bare tail in turns, and half that load."""
    max_batch = daemon_default("cloud_node", "max_batch")
    rounds, seconds = (2, 2.0) if subject.quick else (5, 6.0)
    bare = BareTail(subject)
    fullest: list[Fullest] = []
    served: list[float] = []
    cores: list[float] = []
    generator: list[float] = []
    full: list[LoadReport] = []
    half: list[LoadReport] = []
    took: list[Seconds] = []
    with running_cloud(subject.bundle_name, subject.folder) as cloud:
        aim = cloud_aim(subject, cloud.address)
        for _ in range(rounds):
            fullest.append(bare.fullest(max_batch, seconds=seconds))
            batch = largest_batch(fullest[-1].side_by_side)
            report = run_load(aim, saturating(seconds, batch), cloud.tree)
            rate = _HALF * capacity(report)
            served.append(report.if_valid(report.goodput))
            full.append(report)
            generator.append(report.generator_cpu)
            cores.append((report.server_cpu_s or 0.0) / report.seconds)
            long_s = max(3.0 if subject.quick else 9.0, _ENOUGH / rate)
            pace = Pace(seconds=long_s, edges=EDGES, rate=rate, seed=len(served))
            lighter, samples = run_and_keep(aim, pace, cloud.tree)
            half.append(lighter)
            took.append(latencies(samples.between(pace.warm_s, pace.whole_s), accepted=True))
        resident = cloud.tree.resident_mb()
    floats = BareTail(subject, Precision.FLOAT32)
    sizes = {
        size: [tail.batch_s(size, seconds=1) for tail in (bare, floats)] for size in (1, 4, 16, 64)
    }
    alone = [each.best for each in fullest]
    batch_ms = [1e3 * max_batch / each.one_by_one for each in fullest]
    cores_all = usable_cores()
    left = [
        ratio * cores_all / (cores_all - used)
        for ratio, used in zip(ratios(served, alone), generator, strict=True)
    ]
    whole = percentiles(np.concatenate(took))
    p99_ms = [report.as_bound(report.accepted_ms[99.0]) for report in half]
    late_ms = [report.lag_ms[99.0] or float("nan") for report in half]
    claims = (
        claim(
            "cloud.served_to_bare_tail",
            "images/s served at saturation over the bare tail on full batches",
            Bound.AT_LEAST,
            0.90,
            unit="images/s",
            values=served,
            references=alone,
            reference_is=f"tail in one process, batches of {max_batch}, all cores, one batch after "
            "another or side by side, whichever is faster",
        ),
        claim(
            "cloud.p99_to_batch",
            "99th percentile at half that load, with the generator's own lag, over one full batch",
            Bound.AT_MOST,
            3.0,
            unit="ms",
            values=p99_ms,
            references=batch_ms,
            reference_is=f"bare tail, one batch of {max_batch} on all cores",
        ),
    )
    rows = (
        ("served at saturation", fixed(spread(served).median, 1), "images/s"),
        (
            "bare tail, one full batch after another on all cores",
            fixed(spread([each.one_by_one for each in fullest]).median, 1),
            "images/s",
        ),
        (
            "bare tail, a full batch on each core",
            fixed(spread([each.side_by_side for each in fullest]).median, 1),
            "images/s",
        ),
        ("cores that cloud-node used", fixed(spread(cores).median), ""),
        ("cores that the generator used", fixed(spread(generator).median), ""),
        ("served over bare tail, on the cores that it left", fixed(spread(left).median), ""),
        (
            "offered at half load",
            fixed(spread([report.offered_rate for report in half]).median, 1),
            "images/s",
        ),
        *(
            (f"latency at half load, all rounds together, p{p:g}", fixed(v, 1), "ms")
            for p, v in whole.items()
        ),
        ("requests at half load", str(sum(report.requests for report in half)), ""),
        ("generator's own lag, p99", fixed(spread(late_ms).median), "ms"),
        ("resident afterwards", fixed(resident, 0), "MB"),
    )
    by_size = tuple(
        (size, round(1e3 * s, 2), round(1e3 * s / size, 2), round(size / s, 1), round(f / s, 2))
        for size, (s, f) in sizes.items()
    )
    tables = (
        Table("cloud", "Cloud", ("figure", "value", "unit"), rows),
        Table(
            "bare_tail",
            "Bare tail by batch",
            ("batch", "ms", "ms an image", "images/s", "float32's time / this"),
            by_size,
        ),
    )
    notes = (
        *(f"saturation: {remark}" for report in full for remark in report.remarks),
        *(f"half load: {remark}" for report in half for remark in _of_latency(report)),
    )
    return Part("cloud", claims, tables, notes)


def _of_latency(report: LoadReport) -> tuple[str, ...]:
    """What a reader has to know of a run whose latency is a bound."""
    if report.valid or report.saturated:
        return report.remarks
    late_ms = fixed(report.lag_ms[99.0] or 0.0, 1)
    late = f"the generator was late itself, {late_ms} ms at the 99th percentile: it is in ours"
    return (late, *report.refusals)
