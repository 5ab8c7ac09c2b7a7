"""How time, memory and bytes grow with batch, timesteps, cut, image size and number of edges.

Slopes are exponents of a power law, fitted by least squares to the logarithms: 1 is linear, 2
quadratic. Bytes of networks with random weights are the dense scheme's, one bit a site and the
frame's own seven: their spikes are nobody's.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spikebottlenet.bench.cloud_part import cloud_aim
from spikebottlenet.bench.figures import Cell, Part, Table
from spikebottlenet.bench.growth_points import head_cost, tail_cost, write_heads
from spikebottlenet.bench.load.generator import run_load
from spikebottlenet.bench.load.plan import Pace
from spikebottlenet.bench.measuring import ratios
from spikebottlenet.bench.peers.servers import running_cloud
from spikebottlenet.bench.processes import in_fresh_process
from spikebottlenet.bench.subject import Subject
from spikebottlenet.codec.frame import max_frame_bytes
from spikebottlenet.model.architecture import STAGES, Architecture

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_SWEEPS = {
    "timesteps": (1, 2, 4, 8),
    "after_stage": tuple(range(1, STAGES + 1)),
    "side": (16, 32, 64, 96),
}
_TITLES = {
    "timesteps": "timesteps T",
    "after_stage": "cut after stage",
    "side": "image side, pixels",
}
_EDGES = (1, 2, 4, 8, 16, 32, 64)
_IN_FLIGHT = 64  # of all edges together, so that only their number changes


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Exponent of the power law through the points: least squares of log cost on log size.

    Raises:
        ValueError: fewer than two points, or one that has no logarithm.
    """
    if len(sizes) < 2 or min(*sizes, *costs) <= 0:
        raise ValueError(f"sizes {sizes} and costs {costs}: two points or more, all above 0")
    exponent, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    return float(exponent)


def measure_growth(subject: Subject) -> Part:
    """Every table; a quick run takes the first two rows of each."""
    own = subject.bundle.manifest.architecture
    base = own.cut_after(own.after_stage)  # random weights, so no learned constants
    wanted = [base]
    for field, values in _SWEEPS.items():
        wanted += [base.model_copy(update={field: value}) for value in _some(subject, values)]
    in_fresh_process(write_heads, {_head_file(subject, each): each for each in wanted})
    edges, remarks = _edges(subject)
    tables = (
        _batches(subject, base),
        *(_sweep(subject, base, field) for field in _SWEEPS),
        edges,
    )
    notes = (
        "Head: ONNX Runtime, float32 with random weights (not the bundle's); tail: the cloud's "
        "engine; one thread, one image unless a batch is named. MB: resident memory that loading "
        "and running added, at its peak, in a process of its own. Slopes are exponents of a fitted "
        "power law (least squares of the logarithms).",
        *remarks,
    )
    return Part("growth", (), tables, notes)


def _some(subject: Subject, values: Sequence[int]) -> Sequence[int]:
    return values[:2] if subject.quick else values


def _seconds(subject: Subject) -> float:
    return 0.2 if subject.quick else 0.5


def _batches(subject: Subject, base: Architecture) -> Table:
    path = _head_file(subject, base)
    rows: list[tuple[Cell, ...]] = []
    for batch in _some(subject, _BATCHES):
        head = in_fresh_process(
            head_cost, base, path, batch=batch, threads=1, seconds=_seconds(subject)
        )
        tail = in_fresh_process(tail_cost, base, batch=batch, threads=1, seconds=_seconds(subject))
        payload = sum(len(subject.frames[i % len(subject.frames)]) for i in range(batch))
        rows.append((batch, *_rounded(head.ms, head.added_mb, tail.ms, tail.added_mb), payload))
    return _with_slopes("batch", "images in a batch", rows, "frame bytes")


def _sweep(subject: Subject, base: Architecture, field: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for value in _some(subject, _SWEEPS[field]):
        architecture = base.model_copy(update={field: value})
        path = _head_file(subject, architecture)
        head = in_fresh_process(
            head_cost, architecture, path, batch=1, threads=1, seconds=_seconds(subject)
        )
        tail = in_fresh_process(
            tail_cost, architecture, batch=1, threads=1, seconds=_seconds(subject)
        )
        dense = max_frame_bytes(architecture.spike_shape)
        rows.append((value, *_rounded(head.ms, head.added_mb, tail.ms, tail.added_mb), dense))
    return _with_slopes(field, _TITLES[field], rows, "frame bytes, dense")


def _edges(subject: Subject) -> tuple[Table, list[str]]:
    """One cloud-node, the same number of requests in flight from more and more edges."""
    notes: list[str] = []
    rows: list[tuple[Cell, ...]] = []
    for edges in _some(subject, _EDGES):
        with running_cloud(subject.bundle_name, subject.folder) as cloud:
            pace = Pace(
                seconds=1.5 if subject.quick else 5.0,
                edges=edges,
                in_flight=max(1, min(_IN_FLIGHT // edges, 32)),
                warm_s=1.0,
            )
            report = run_load(cloud_aim(subject, cloud.address), pace, cloud.tree)
            resident = cloud.tree.resident_mb()
        notes += [f"{edges} edges: {remark}" for remark in report.remarks]
        served = report.if_valid(report.goodput)
        cpu_ms = 1e3 * (report.server_cpu_s or math.nan)
        wire = float(report.wire_up + report.wire_down)
        per_image = ratios(
            [1e3, cpu_ms, wire], [served, served * report.seconds, float(report.answered)]
        )
        p50 = report.if_valid(report.accepted_ms[50.0])
        rows.append((edges, *_rounded(*per_image[:2], p50, resident, per_image[2])))
    columns = ("edges", "ms an image", "server CPU ms an image", "p50 ms", "cloud-node MB")
    table = Table(
        "growth_edges",
        "Growth: number of edges",
        (*columns, "wire bytes an image"),
        tuple(rows),
        f"closed loop, {_IN_FLIGHT} requests in flight over all edges (one edge: 32, as many as "
        "a stream may have); bytes include each edge's opening",
    )
    return _add_slopes(table), notes


def _head_file(subject: Subject, architecture: Architecture) -> Path:
    a = architecture
    return subject.folder / f"head-t{a.timesteps}-stage{a.after_stage}-side{a.side}.onnx"


def _rounded(*values: float) -> tuple[float, ...]:
    return tuple(round(value, 3) for value in values)


def _with_slopes(key: str, title: str, rows: list[tuple[Cell, ...]], size: str) -> Table:
    columns = (title, "head ms", "head MB", "tail ms", "tail MB", size)
    return _add_slopes(Table(f"growth_{key}", f"Growth: {title}", columns, tuple(rows)))


def _add_slopes(table: Table) -> Table:
    """The table with a last row of exponents."""
    first, *rest = table.columns
    sizes = [float(value) for value in table.column(first) if value is not None]
    slopes: list[Cell] = ["slope"]
    for name in rest:
        costs = [float(value) for value in table.column(name) if value is not None]
        fits = len(costs) == len(sizes) > 1 and all(0 < cost < math.inf for cost in costs)
        slopes.append(round(slope(sizes, costs), 3) if fits else None)
    return Table(table.key, table.title, table.columns, (*table.rows, tuple(slopes)), table.note)
