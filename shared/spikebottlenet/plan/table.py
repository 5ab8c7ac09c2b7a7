"""Profiles and plans for people."""

from typing import NamedTuple

from rich.table import Table

from spikebottlenet.plan.decision import Forecast, Objective, Plan
from spikebottlenet.plan.placements import Kind
from spikebottlenet.plan.profile import Ms, Profile

_RATES = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s"))
_MEANS = {
    Objective.LATENCY: ("latency", "ms"),
    Objective.ENERGY: ("energy", "uJ"),
    Objective.BYTES: ("bytes", "B"),
}


def bit_rate(bit_s: float) -> str:
    """A bandwidth with its unit."""
    factor, unit = next((each for each in _RATES if bit_s >= each[0]), _RATES[-1])
    return f"{bit_s / factor:.3g} {unit}"


def profile_table(profile: Profile) -> Table:
    """One row a part, edge beside cloud."""
    table = Table(box=None, pad_edge=False)
    table.add_column("one image, ms (quartiles)")
    table.add_column("edge", justify="right")
    table.add_column("cloud", justify="right")
    table.add_column("weights")
    edge, cloud = _edge_rows(profile), _cloud_rows(profile)
    for name in dict.fromkeys((*edge, *cloud)):
        near, far = edge.get(name), cloud.get(name)
        weights = near.weights if near else far.weights if far else ""
        table.add_row(name, _ms(near and near.time), _ms(far and far.time), weights)
    if profile.loopback is not None:
        together = profile.loopback
        table.add_row("edge-node and cloud-node, loopback", _ms(together.split), "", "bundle")
        table.add_row("edge-node alone, edge exit", _ms(together.edge_exit), "", "bundle")
        table.add_row("plain gRPC server, un-cut", "", _ms(together.uncut), "random")
    return table


class _Row(NamedTuple):
    time: Ms
    weights: str = "random"


def _edge_rows(profile: Profile) -> dict[str, _Row]:
    edge = profile.edge
    if edge is None:
        return {}
    return {
        f"preprocess, {edge.image_file}": _Row(edge.preprocess, ""),
        "codec": _Row(edge.encode, "bundle"),
        **{_cut_name(each.after_stage): _Row(each.time, each.weights) for each in edge.heads},
        "edge exit": _Row(edge.edge_exit, "bundle"),
        **{f"un-cut, {each.name}": _Row(each.time) for each in edge.uncut_stages},
        "un-cut, whole": _Row(edge.uncut),
    }


def _cloud_rows(profile: Profile) -> dict[str, _Row]:
    cloud = profile.cloud
    if cloud is None:
        return {}
    return {
        "codec": _Row(cloud.decode, "bundle"),
        **{_cut_name(each.after_stage): _Row(each.time, each.weights) for each in cloud.tails},
        **{f"un-cut, {each.name}": _Row(each.time) for each in cloud.uncut_stages},
        "un-cut, whole": _Row(cloud.uncut),
        f"un-cut, {cloud.batch} images": _Row(cloud.uncut_batch),
    }


def _cut_name(stage: int) -> str:
    return f"head, tail: cut after stage {stage}"


def _ms(value: Ms | None) -> str:
    return "" if value is None else f"{value.median:.2f} ({value.low:.2f} to {value.high:.2f})"


def plan_table(plan: Plan) -> Table:
    """One row a placement, least first; a star marks the best cut for each objective."""
    table = Table(box=None, pad_edge=False, caption="* the best cut", caption_justify="left")
    table.add_column("placement", no_wrap=True)
    for title in ("top-1", "edge ms", "link ms", "cloud ms", "B up"):
        table.add_column(title, justify="right")
    for objective in Objective:
        name, unit = _MEANS[objective]
        table.add_column(f"{name} {unit}", justify="right")
    table.add_column("to have it", no_wrap=True)
    for each in plan.forecasts:
        way = each.placement
        local_ms = way.edge_ms + way.cloud_ms + way.overhead_ms
        table.add_row(
            way.title,
            "?" if way.top1 is None else f"{way.top1:.1f}",
            f"{way.edge_ms:.1f}",
            f"{each.latency_ms - local_ms:.1f}",
            f"{way.cloud_ms:.1f}",
            str(way.up_bytes),
            *(_starred(plan, each, objective) for objective in Objective),
            "less accurate" if way.kind is Kind.EDGE_EXIT else way.status.value,
        )
    return table


def _starred(plan: Plan, each: Forecast, objective: Objective) -> str:
    best = plan.best[objective].cut.placement.key == each.placement.key
    digits = 1 if objective is Objective.LATENCY else 0
    return f"{'* ' if best else ''}{each.of(objective):.{digits}f}"


def verdict(plan: Plan) -> list[str]:
    """What is best at this bandwidth, in words."""
    rate = bit_rate(plan.link.up_bit_s)
    lines = []
    for objective, found in plan.best.items():
        name, unit = _MEANS[objective]
        cut, whole, ready = found.cut, found.of_all, found.deployable
        line = (
            f"best cut at {rate} for {name}: {cut.placement.title}, {cut.of(objective):.1f} {unit}"
        )
        if ready.placement.key != cut.placement.key:
            line += f"; deployable now: {ready.placement.title}, {ready.of(objective):.1f} {unit}"
        if whole.placement.key != cut.placement.key:
            line += (
                f"; without the cloud: {whole.placement.title}, {whole.of(objective):.1f} {unit}"
            )
        lines.append(line)
    lines += [
        f"for {_MEANS[plan.objective][0]}, {crossing.below} is best below "
        f"{bit_rate(crossing.bit_s)}, {crossing.above} above"
        for crossing in plan.crossings
    ]
    return lines
