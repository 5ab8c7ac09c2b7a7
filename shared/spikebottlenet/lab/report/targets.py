"""What the project wants of CIFAR-100, held against what was measured: hit or missed, by how much.

The numbers wanted are settled here before any run; what is found comes from points alone. Where a
needed point was not measured, that is said instead.
"""

from dataclasses import dataclass

from spikebottlenet.lab.report.figures import drops, edge_uj, ordinary_ratio
from spikebottlenet.lab.report.runs import Group, Placed, same_cut, same_network
from spikebottlenet.lab.results import Method

COMPRESSION = 256.0  # bit compression at the last stage, every timestep counted
BOTTLENECK_DROP = 0.16  # points
TOTAL_DROP = 2.0  # points
STAGE_BYTES = (("layer2", 256.0), ("layer3", 128.0))  # ResNet-18
REACH_BYTES, REACH_DROP = 64.0, 0.5
ENERGY_RATIO, REACH_RATIO = 30.0, 144.0  # below the ordinary head at the same cut
INTEGER_DROP, INTEGER_SIZE = 0.3, 0.30  # points, share of the float32 head's file
IMAGE_RATIO = 4.0  # fewer bytes than image files at equal accuracy
_LAST_STAGE = "layer4"


@dataclass(frozen=True)
class Verdict:
    """One target; ``hit`` is None where nothing was measured that it could be held against."""

    wanted: str
    found: str
    hit: bool | None
    missed_by: str = ""
    reach: bool = False  # more than the target: to reach for


def verdicts(group: Group) -> tuple[Verdict, ...]:
    """Every target."""
    return (
        *(_last_stage(group, backbone) for backbone in ("resnet18", "resnet50")),
        *(_stage_bytes(group, cut, most, TOTAL_DROP) for cut, most in STAGE_BYTES),
        *(_stage_bytes(group, cut, REACH_BYTES, REACH_DROP, reach=True) for cut, _ in STAGE_BYTES),
        _energy(group, ENERGY_RATIO),
        _energy(group, REACH_RATIO, reach=True),
        _integer_head(group),
        *_bottlenetpp(group),
        _image_files(group),
    )


def _cuts(group: Group, backbone: str, cut: str) -> list[Placed]:
    own = group.of(Method.SPIKES)
    return [e for e in own if (e.point.subject.backbone, e.point.subject.cut) == (backbone, cut)]


def _last_stage(group: Group, backbone: str) -> Verdict:
    wanted = (
        f"{backbone}, last stage: bit compression at least {COMPRESSION:g}x with a bottleneck drop "
        f"of at most {BOTTLENECK_DROP} points"
    )
    own = _cuts(group, backbone, _LAST_STAGE)
    small = [e for e in own if (e.point.bit_compression or 0.0) >= COMPRESSION]
    known = [(found, e) for e in small if (found := drops(group, e).bottleneck) is not None]
    if not own or (small and not known):
        return Verdict(wanted, "features passed whole not measured" if small else _NOTHING, None)
    if not known:
        most = max(each.point.bit_compression or 0.0 for each in own)
        return Verdict(wanted, f"{most:.0f}x at most", False, f"{COMPRESSION / most:.2f} times")
    drop, best = min(known, key=lambda pair: pair[0])
    says = f"{best.point.bit_compression:.0f}x with {drop:+.2f} points ({best.run})"
    return _judged(wanted, says, drop, BOTTLENECK_DROP, "points")


def _stage_bytes(
    group: Group, cut: str, most: float, drop: float, *, reach: bool = False
) -> Verdict:
    wanted = (
        f"resnet18, {cut}: at most {most:g} bytes an image with a total drop of at most "
        f"{drop} points"
    )
    own = _cuts(group, "resnet18", cut)
    near = [e for e in own if (drops(group, e).total or 0.0) <= drop]
    known = [e for e in own if drops(group, e).total is not None]
    if not known:
        return Verdict(wanted, _NOTHING, None, reach=reach)
    inside = [each for each in near if each in known]
    if not inside:
        best = min(known, key=lambda each: drops(group, each).total or 0.0)
        lost = drops(group, best).total or 0.0
        found = (
            f"total drop {lost:+.2f} points at {best.point.payload_bytes_mean:.0f} B ({best.run})"
        )
        return Verdict(wanted, found, False, f"{lost - drop:.2f} points", reach=reach)
    best = min(inside, key=lambda each: each.point.payload_bytes_mean)
    size = best.point.payload_bytes_mean
    found = f"{size:.1f} B at {drops(group, best).total:+.2f} points ({best.run})"
    return _judged(wanted, found, size, most, "B", reach=reach)


def _energy(group: Group, ratio: float, *, reach: bool = False) -> Verdict:
    wanted = (
        f"edge compute energy at least {ratio:g}x below the ordinary head with a total drop of at "
        f"most {TOTAL_DROP} points"
    )
    known = [e for e in group.of(Method.SPIKES) if ordinary_ratio(e.point) is not None]
    known = [e for e in known if drops(group, e).total is not None]
    if not known:
        return Verdict(wanted, _NOTHING, None, reach=reach)
    inside = [each for each in known if (drops(group, each).total or 0.0) <= TOTAL_DROP]
    if not inside:
        least = min(drops(group, each).total or 0.0 for each in known)
        found = f"no point inside the drop, the nearest {least:+.2f}"
        return Verdict(wanted, found, False, f"{least - TOTAL_DROP:.2f} points", reach=reach)
    best = max(inside, key=lambda each: ordinary_ratio(each.point) or 0.0)
    most = ordinary_ratio(best.point) or 0.0
    hit = most >= ratio
    found = f"{most:.1f}x at {drops(group, best).total:+.2f} points ({best.run})"
    return Verdict(wanted, found, hit, "" if hit else f"{ratio / most:.2f} times", reach=reach)


def _integer_head(group: Group) -> Verdict:
    wanted = (
        f"integer head within {INTEGER_DROP} points of the float32 one, its file at most "
        f"{100 * INTEGER_SIZE:.0f} % of the size"
    )
    own = group.of(Method.SPIKES)
    pairs = [
        (eight, full)
        for eight in own
        for full in own
        if (eight.point.head_bits, full.point.head_bits) == (8, 32) and _alike(eight, full)
    ]
    if not pairs:
        return Verdict(wanted, "no pair of 8-bit and float32 heads of one network", None)
    eight, full = max(pairs, key=lambda pair: (pair[0].point.top1, pair[1].point.top1))
    lost = full.point.top1 - eight.point.top1
    share = (eight.point.head_bytes or 0) / max(full.point.head_bytes or 1, 1)
    misses = [f"{lost - INTEGER_DROP:.2f} points"] if lost > INTEGER_DROP else []
    misses += [f"{100 * (share - INTEGER_SIZE):.0f} % of the size"] if share > INTEGER_SIZE else []
    found = f"{lost:+.2f} points, {100 * share:.0f} % of the size ({eight.run} and {full.run})"
    return Verdict(wanted, found, not misses, ", ".join(misses))


def _alike(one: Placed, other: Placed) -> bool:
    a, b = one.point, other.point
    same = a.subject.timesteps == b.subject.timesteps and a.subject.seed == b.subject.seed
    same = same and a.subject.config_sha256 == b.subject.config_sha256
    return same_cut(a, b) and same and a.bits_before_coding == b.bits_before_coding


def _bottlenetpp(group: Group) -> list[Verdict]:
    rivals = group.of(Method.BOTTLENETPP)
    wanted = "BottleNet++ dominated (bytes, accuracy and edge energy)"
    if not rivals:
        return [Verdict(f"{wanted} at each cut", _NOTHING, None)]
    networks = dict.fromkeys((e.point.subject.backbone, e.point.subject.cut) for e in rivals)
    found = []
    for backbone, cut in networks:
        here = [
            e for e in rivals if (e.point.subject.backbone, e.point.subject.cut) == (backbone, cut)
        ]
        left = [e for e in here if not any(_beats(o, e) for o in group.beside(e, Method.SPIKES))]
        count = f"{len(here) - len(left)} of {len(here)} points dominated"
        missed = "; ".join(_shortfall(group, each) for each in left)
        found.append(Verdict(f"{wanted} at {backbone} {cut}", count, not left, missed))
    return found


def _beats(own: Placed, rival: Placed) -> bool:
    mine, theirs = edge_uj(own.point), edge_uj(rival.point)
    return (
        own.point.payload_bytes_mean <= rival.point.payload_bytes_mean
        and own.point.top1 >= rival.point.top1
        and mine is not None
        and theirs is not None
        and mine <= theirs
    )


def _shortfall(group: Group, rival: Placed) -> str:
    """What the rival has over the nearest point that needs no more bytes."""
    own = group.beside(rival, Method.SPIKES)
    if not own:
        return f"{rival.point.setting}: no point of ours at this cut"
    size = rival.point.payload_bytes_mean
    small = [each for each in own if each.point.payload_bytes_mean <= size]
    if not small:
        least = min(each.point.payload_bytes_mean for each in own)
        return f"{rival.point.setting}: {size:.0f} B where ours needs {least:.0f} B"
    lost = rival.point.top1 - max(each.point.top1 for each in small)
    if lost > 0:
        return f"{rival.point.setting}: {lost:.2f} points at its bytes"
    return f"{rival.point.setting}: less edge energy"


def _image_files(group: Group) -> Verdict:
    wanted = (
        f"at equal accuracy at least {IMAGE_RATIO:g}x fewer bytes than the best of JPEG, WebP and "
        "AVIF"
    )
    ratios = [
        (found, each) for each in group.of(Method.SPIKES) if (found := image_ratio(group, each))
    ]
    if not ratios:
        return Verdict(wanted, "no image file that is as accurate was measured", None)
    (ratio, rival), own = max(ratios, key=lambda pair: pair[0][0])
    says = f"{ratio:.2f}x, {own.run} against {rival.point.setting}"
    hit = ratio >= IMAGE_RATIO
    return Verdict(wanted, says, hit, "" if hit else f"{IMAGE_RATIO / ratio:.2f} times")


def image_ratio(group: Group, own: Placed) -> tuple[float, Placed] | None:
    """Bytes of the smallest image file at no lower accuracy over this point's, and that file."""
    files = [
        each
        for each in group.of(Method.IMAGE)
        if same_network(each.point, own.point)
        and each.point.setting.startswith(("jpeg", "webp", "avif"))
        and each.point.top1 >= own.point.top1
    ]
    if not files or not own.point.payload_bytes_mean:
        return None
    best = min(files, key=lambda each: each.point.payload_bytes_mean)
    return best.point.payload_bytes_mean / own.point.payload_bytes_mean, best


def _judged(
    wanted: str, found: str, value: float, most: float, unit: str, *, reach: bool = False
) -> Verdict:
    hit = value <= most
    return Verdict(wanted, found, hit, "" if hit else f"{value - most:.2f} {unit}", reach=reach)


_NOTHING = "not measured"
