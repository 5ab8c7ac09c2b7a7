"""The tables of a report."""

from spikebottlenet.lab.report.document import Table
from spikebottlenet.lab.report.figures import (
    MISSING,
    amount,
    drops,
    edge_uj,
    energy_model,
    energy_over,
    estimate_by,
    nearest_rival,
    ordinary_ratio,
    percent,
    shown,
    signed,
    times,
    uncut_top1,
)
from spikebottlenet.lab.report.runs import Group, Placed
from spikebottlenet.lab.report.targets import Verdict, image_ratio
from spikebottlenet.lab.results import Method
from spikebottlenet.lab.subject import INT8_MODEL

_PAIRS = 10


def cut_table(group: Group) -> Table:
    """The papers' table: a row for each cut network."""
    rows = []
    for own in sorted(group.of(Method.SPIKES), key=_by_cut):
        point, lost = own.point, drops(group, own)
        rival = nearest_rival(group, own, Method.BOTTLENETPP)
        integer = nearest_rival(group, own, Method.INTEGER)
        image = image_ratio(group, own)
        rows.append(
            (
                f"{point.subject.backbone} {point.subject.cut}, T={point.subject.timesteps}",
                own.run,
                shown(point.bit_compression, times),
                percent(point.top1),
                shown(lost.bottleneck, signed),
                shown(lost.total, signed),
                amount(point.payload_bytes_mean),
                amount(point.payload_bytes_p99),
                amount(point.wire_bytes_mean),
                shown(edge_uj(point), amount),
                shown(ordinary_ratio(point), times),
                shown(energy_over(rival, point), times),
                shown(energy_over(integer, point), times),
                _bytes_over(rival, own),
                shown(image[0] if image else None, times),
            )
        )
    return Table(
        "Each cut",
        (
            "cut",
            "run",
            "bit compression",
            "top-1 %",
            "bottleneck drop",
            "total drop",
            "bytes mean",
            "bytes p99",
            "wire bytes",
            "edge uJ",
            "ordinary head",
            "BottleNet++ energy",
            "8-bit head energy",
            "BottleNet++ bytes",
            "image file bytes",
        ),
        tuple(rows),
        frozenset(range(2, 15)),
        "Bit compression: float32 features at the cut over all spike bits, every timestep counted. "
        "Drops in points: against the same spiking head with its features passed whole, and "
        "against the un-cut network. Bytes are of whole frames. Energy is an estimate, microjoules "
        "an image. The last columns are a rival's figure over ours: above 1x ours is smaller. The "
        "BottleNet++ and 8-bit rivals are those at the same cut whose bytes are nearest; where "
        "our head is on 8-bit weights too, both are by integer constants. The image file is the "
        "smallest JPEG, WebP or AVIF that is at least as accurate. A dash was not measured.",
    )


def _by_cut(own: Placed) -> tuple[str, int, str, float]:
    subject = own.point.subject
    return (subject.backbone, len(subject.cut), subject.cut, own.point.payload_bytes_mean)


def _bytes_over(rival: Placed | None, own: Placed) -> str:
    if rival is None or not own.point.payload_bytes_mean:
        return MISSING
    return times(rival.point.payload_bytes_mean / own.point.payload_bytes_mean)


def points_table(group: Group) -> Table:
    """Every point, cheapest in bytes first."""
    rows = [
        (
            each.run,
            each.point.method.value,
            each.point.setting,
            each.point.subject.cut,
            percent(each.point.top1),
            percent(each.point.top5),
            f"{each.point.bits_before_coding:,}",
            amount(each.point.payload_bytes_mean),
            amount(each.point.payload_bytes_p99),
            shown(edge_uj(each.point), amount),
            energy_model(each.point),
        )
        for each in sorted(group.placed, key=lambda e: (e.point.payload_bytes_mean, -e.point.top1))
    ]
    columns = (
        *("run", "method", "setting", "cut", "top-1 %", "top-5 %", "bits before coding"),
        *("bytes mean", "bytes p99", "edge uJ", "energy model"),
    )
    return Table("All points", columns, tuple(rows), frozenset(range(4, 10)))


def target_table(found: tuple[Verdict, ...], note: str) -> Table:
    """Each target with what was found."""
    says = {True: "hit", False: "missed", None: "not measured"}
    rows = [
        (
            ("reach: " if each.reach else "") + each.wanted,
            says[each.hit],
            each.found,
            each.missed_by,
        )
        for each in found
    ]
    return Table("Targets", ("wanted", "", "found", "missed by"), tuple(rows), note=note)


def timestep_table(group: Group) -> Table:
    """Accuracy and bytes by timesteps received."""
    rows = [
        (own.title, str(each.timesteps), percent(each.top1), amount(each.payload_bytes_mean))
        for own in group.of(Method.SPIKES)
        for each in own.point.by_timesteps
    ]
    columns = ("network", "timesteps received", "top-1 %", "bytes mean")
    return Table("By timesteps received", columns, tuple(rows), frozenset({1, 2, 3}))


def tail_table(group: Group) -> Table:
    """Each network's tail on 8-bit integers beside the same in float32; no row without one."""
    rows = [
        (own.title, percent(own.point.top1), percent(found), f"{found - own.point.top1:+.2f}")
        for own in group.of(Method.SPIKES)
        if (found := own.point.int8_tail_top1) is not None
    ]
    columns = ("network", "float32 tail, top-1 %", "8-bit tail, top-1 %", "difference")
    note = "The 8-bit tail is what `cloud-node` runs on a processor."
    return Table("Tail on 8-bit integers", columns, tuple(rows), frozenset({1, 2, 3}), note)


def integer_table(group: Group) -> Table:
    """Heads on integer weights by integer constants; no row for another."""
    rows = [
        (
            own.title,
            amount(found.edge_uj),
            shown(_over(found.ordinary_int8_head_uj, found.edge_uj), times),
            shown(_over(found.ordinary_head_uj, found.edge_uj), times),
        )
        for own in group.of(Method.SPIKES)
        if (found := estimate_by(own.point, INT8_MODEL)) is not None
    ]
    columns = ("network", "edge uJ", "8-bit ordinary head over it", "float32 ordinary head over it")
    note = (
        "0.1 pJ an accumulate, in 32 bits; what is multiplied (the stem) is in float32. "
        "The 8-bit ordinary head: 0.3 pJ a multiply-accumulate."
    )
    return Table("Heads on integer weights", columns, tuple(rows), frozenset({1, 2, 3}), note)


def _over(rival: float | None, own: float) -> float | None:
    return None if rival is None or not own else rival / own


def confusion_table(group: Group, own: Placed) -> Table:
    """Pairs of classes that are most often taken for each other, the un-cut network's beside."""
    mine = _by_pair(own)
    uncut = next((e for e in group.of(Method.EDGE_ORDINARY) if e.run == own.run), None)
    theirs = {} if uncut is None else _by_pair(uncut)
    names = group.images.class_names
    worst = sorted(mine, key=lambda pair: (-sum(mine[pair]), pair))[:_PAIRS]
    rows = [
        (
            f"{names[one]} and {names[other]}",
            str(mine[one, other][0]),
            str(mine[one, other][1]),
            MISSING if uncut is None else str(sum(theirs.get((one, other), (0, 0)))),
        )
        for one, other in worst
    ]
    return Table(
        f"Near classes: {own.title}",
        ("pair", "first taken for second", "second for first", "un-cut, both ways"),
        tuple(rows),
        frozenset({1, 2, 3}),
        "Images of the pairs of classes that are most often taken for each other.",
    )


def _by_pair(placed: Placed) -> dict[tuple[int, int], tuple[int, int]]:
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for true, answer, count in placed.point.confusion:
        pair = (min(true, answer), max(true, answer))
        one, other = found.get(pair, (0, 0))
        found[pair] = (one + count, other) if true < answer else (one, other + count)
    return found


def provenance_table(group: Group) -> Table:
    """Where every point is from."""
    rows = [
        (
            each.run,
            f"{each.point.method.value}, {each.point.setting}",
            each.point.log,
            each.point.subject.config_sha256[:12] or MISSING,
            str(each.point.subject.seed),
            each.point.chosen_on or "nothing chosen",
            each.point.command,
        )
        for each in group.placed
    ]
    columns = ("run", "point", "log in the run", "config SHA-256", "seed", "chosen on", "command")
    note = "The command measures the point again; the log is in the run's folder."
    return Table("Where each number is from", columns, tuple(rows), note=note)


def missing_lines(group: Group) -> tuple[str, ...]:
    """What was not measured, and the command that would."""
    kinds = (
        (Method.SPIKES_WHOLE, "bottleneck drop", "whole"),
        (Method.BOTTLENETPP, "BottleNet++ at its cut", "bottlenetpp"),
        (Method.INTEGER, "8-bit ordinary head at its cut", "integer"),
        (Method.FEATURES, "features at its cut", "features"),
        (Method.IMAGE, "image files", "image"),
        (Method.EDGE_ORDINARY, "un-cut network on these images", "edge-only"),
    )
    lines = []
    for run in dict.fromkeys(each.run for each in group.of(Method.SPIKES)):
        own = next(each for each in group.of(Method.SPIKES) if each.run == run)
        lacking = [(what, kind) for method, what, kind in kinds if not group.beside(own, method)]
        if lacking:
            names = ", ".join(what for what, _ in lacking)
            only = ",".join(kind for _, kind in lacking)
            lines.append(
                f"{run}: {names}. `spikebottlenet baselines {run} --only {only}` measures it, "
                "given the folder of its training."
            )
        if uncut_top1(group, own) is None:
            lines.append(f"{run}: accuracy of the un-cut network, so its total drop is not known.")
    if not group.of(Method.SPIKES):
        lines.append("No cut network was measured on these images.")
    return tuple(lines)
