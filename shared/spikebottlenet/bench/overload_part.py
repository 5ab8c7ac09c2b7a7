"""More than the cloud can serve: what is accepted stays quick, the rest is refused at once.

Three times as much is offered twice: by edges that hold requests back once they are refused some,
as edge-node does, and by edges that send everything all the same, so that the cloud refuses it all.
"""

import math
from dataclasses import replace

from spikebottlenet.bench.bare_tail import BareTail
from spikebottlenet.bench.cloud_part import capacity, cloud_aim, largest_batch, saturating
from spikebottlenet.bench.figures import Bound, Claim, Part, Table, claim, fixed
from spikebottlenet.bench.load.generator import run_load
from spikebottlenet.bench.load.plan import Pace
from spikebottlenet.bench.load.samples import LoadReport
from spikebottlenet.bench.measuring import ratios, spread
from spikebottlenet.bench.peers.servers import running_cloud
from spikebottlenet.bench.subject import Subject, daemon_default

_EDGES = 32
_OVER = 3.0
_REFUSALS = ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")


def measure_overload(subject: Subject) -> Part:
    """Capacity, then once and three times as much offered, in turns, to edges of both kinds."""
    max_batch = daemon_default("cloud_node", "max_batch")
    rounds, seconds = (1, 4.0) if subject.quick else (3, 12.0)
    bare = BareTail(subject)
    capacities: list[float] = []
    full: list[LoadReport] = []
    at: list[LoadReport] = []
    over: list[LoadReport] = []
    flood: list[LoadReport] = []
    with running_cloud(subject.bundle_name, subject.folder) as cloud:
        regardless = cloud_aim(subject, cloud.address)
        edges = replace(regardless, throttled=True)
        for seed in range(rounds):
            batch = largest_batch(bare.fullest(max_batch, seconds=seconds / 4).side_by_side)
            report = run_load(regardless, saturating(seconds / 2, batch, edges=_EDGES), cloud.tree)
            found = capacity(report)
            capacities.append(report.if_valid(found))
            full.append(report)
            loads = ((1.0, edges, at), (_OVER, edges, over), (_OVER, regardless, flood))
            for factor, aim, reports in loads:
                pace = Pace(
                    seconds=seconds,
                    edges=_EDGES,
                    rate=factor * found,
                    seed=seed,
                    warm_s=2.0,
                )
                reports.append(run_load(aim, pace, cloud.tree))
    rows = [
        _row("at capacity", at, capacities),
        _row(f"{_OVER:g} x capacity", over, capacities),
        _row(f"{_OVER:g} x, all of it sent", flood, capacities),
    ]
    columns = ("load", "offered/s", "goodput/s", "of closed loop", "accepted p50 ms")
    more = (
        "accepted p99 ms",
        "not served p50 ms",
        "not served p99 ms",
        "not served %",
        "generator lag p99 ms",
    )
    notes = [
        f"Capacity, closed loop: {fixed(spread(capacities).median, 1)} images/s. {_EDGES} edges, "
        "Poisson arrivals, latency from when a request was due. Generator and cloud-node share "
        "the cores. Edges hold back what the cloud would refuse, but for a little of it; in the "
        "last row they send everything, and the cloud refuses it.",
        "Status codes over capacity: " + ", ".join(_codes(over)),
        "Status codes with all of it sent: " + ", ".join(_codes(flood)),
    ]
    notes += [f"closed loop: {remark}" for report in full for remark in report.remarks]
    notes += [f"not valid: {r.why_not_valid}" for r in (*at, *over, *flood) if not r.valid]
    others = sorted({code for report in flood for code in _not_refusals(report)})
    if others:
        notes.append(
            f"overload.refused_at_once is not measured: {', '.join(others)} is no refusal of a load"
        )
    table = Table("overload", "Overload", (*columns, *more), tuple(rows))
    return Part("overload", _claims(at, over, flood), (table,), tuple(notes))


def _claims(
    at: list[LoadReport], over: list[LoadReport], flood: list[LoadReport]
) -> tuple[Claim, ...]:
    return (
        claim(
            "overload.p99_accepted",
            "99th percentile of what is accepted: at 3 x capacity over at capacity",
            Bound.AT_MOST,
            2.0,
            unit="ms",
            values=[report.if_valid(report.accepted_ms[99.0]) for report in over],
            references=[report.if_valid(report.accepted_ms[99.0]) for report in at],
            reference_is="99th percentile of what is accepted at capacity",
        ),
        claim(
            "overload.refused_at_once",
            "median time to the cloud's refusal at 3 x capacity over the median time to an answer",
            Bound.AT_MOST,
            0.1,
            unit="ms",
            values=[_refused_ms(report) for report in flood],
            references=[report.if_valid(report.accepted_ms[50.0]) for report in flood],
            reference_is="median of what is accepted when all of it is sent",
        ),
        claim(
            "overload.goodput",
            "goodput at 3 x capacity over goodput at capacity",
            Bound.AT_LEAST,
            0.95,
            unit="images/s",
            values=[report.if_valid(report.goodput) for report in over],
            references=[report.if_valid(report.goodput) for report in at],
            reference_is="images/s served at capacity, to the same edges with the same kind of "
            "arrivals (the table has closed loop's, whose requests come in larger messages)",
        ),
    )


def _not_refusals(report: LoadReport) -> set[str]:
    """Codes of a run under too much load that say something else than that it was too much."""
    return set(report.codes) - {"OK", *_REFUSALS}


def _refused_ms(report: LoadReport) -> float:
    """Median time to a refusal; NaN if something else went wrong too, or nothing was refused."""
    return math.nan if _not_refusals(report) else report.if_valid(report.refused_ms[50.0])


def _percentile(values: dict[float, float | None], percent: float) -> float:
    value = values[percent]
    return float("nan") if value is None else value


def _row(name: str, reports: list[LoadReport], capacities: list[float]) -> tuple[str | float, ...]:
    def median(values: list[float]) -> float:
        return round(spread(values).median, 2)

    refused = [100 * (1 - r.codes.get("OK", 0) / max(1, r.requests)) for r in reports]
    return (
        name,
        median([r.offered_rate for r in reports]),
        median([r.goodput for r in reports]),
        median(ratios([r.goodput for r in reports], capacities)),
        median([_percentile(r.accepted_ms, 50.0) for r in reports]),
        median([_percentile(r.accepted_ms, 99.0) for r in reports]),
        median([_percentile(r.refused_ms, 50.0) for r in reports]),
        median([_percentile(r.refused_ms, 99.0) for r in reports]),
        median(refused),
        median([_percentile(r.lag_ms, 99.0) for r in reports]),
    )


def _codes(reports: list[LoadReport]) -> list[str]:
    totals: dict[str, int] = {}
    for report in reports:
        for code, count in report.codes.items():
            totals[code] = totals.get(code, 0) + count
    return [f"{count} {code}" for code, count in totals.items()]
