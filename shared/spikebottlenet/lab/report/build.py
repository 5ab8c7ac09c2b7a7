"""From groups of points to a report."""

from collections.abc import Sequence
from dataclasses import replace

from spikebottlenet.lab.report.document import (
    Block,
    Document,
    Figure,
    Folded,
    Key,
    Notes,
    Section,
)
from spikebottlenet.lab.report.figures import amount, edge_uj, estimate_by, percent, uncut_top1
from spikebottlenet.lab.report.plot import bars, frontier_plot
from spikebottlenet.lab.report.runs import Group, Placed
from spikebottlenet.lab.report.series import Series, Spot, as_series
from spikebottlenet.lab.report.tables import (
    confusion_table,
    cut_table,
    integer_table,
    missing_lines,
    points_table,
    provenance_table,
    tail_table,
    target_table,
    timestep_table,
)
from spikebottlenet.lab.report.targets import verdicts
from spikebottlenet.lab.results import Method
from spikebottlenet.lab.subject import INT8_MODEL

_TARGET_DATA = "cifar100"
_SHOWN = 25.0  # points of accuracy below the best that a plot still shows


def build(groups: Sequence[Group]) -> Document:
    """One section for each set of images; figures of different images are never mixed."""
    lines = [
        "Accuracy is in percent of images. Energy is an estimate by the model that is named beside "
        "it; nothing was measured with a meter. A dash, or a line under 'Not measured', stands for "
        "what is missing.",
    ]
    if len(groups) > 1:
        lines.append(
            f"The runs were measured on {len(groups)} different sets of images. Each has a section "
            "of its own, as their figures cannot be compared."
        )
    sections = tuple(_section(group, f"s{index}") for index, group in enumerate(groups, 1))
    return Document("SpikeBottleNet: accuracy, bits and energy", tuple(lines), sections)


def _section(group: Group, key: str) -> Section:
    images = group.images
    blocks: list[Block] = []
    own = group.of(Method.SPIKES)
    if own:
        blocks.append(cut_table(group))
    blocks += _frontiers(group, key)
    if own:
        blocks.append(target_table(verdicts(group), _target_note(group)))
        if any(each.point.int8_tail_top1 is not None for each in own):
            blocks.append(tail_table(group))
        if any(estimate_by(each.point, INT8_MODEL) is not None for each in own):
            blocks.append(integer_table(group))
        blocks += _rates(own, key)
        blocks += [
            Folded(f"Near classes: {each.title}", (confusion_table(group, each),))
            for each in own
            if each.point.confusion
        ]
    missing = missing_lines(group)
    if missing:
        blocks.append(Notes("Not measured", missing))
    blocks.append(Folded("All points", (points_table(group),)))
    blocks.append(Folded("Where each number is from", (provenance_table(group),)))
    return Section(f"{images.data}, split {images.split}, {images.images:,} images", tuple(blocks))


def _target_note(group: Group) -> str:
    images = group.images
    if _TARGET_DATA in images.data.replace("-", "").lower() and images.split == "test":
        return "Set for the test split of CIFAR-100."
    return (
        f"Set for the test split of CIFAR-100. These images are {images.data}, split "
        f"{images.split}: read it as an example."
    )


def _frontiers(group: Group, key: str) -> list[Block]:
    placed = group.placed
    by_bytes = [
        Spot(each.point.payload_bytes_mean, each.point.top1, _says(each, "B")) for each in placed
    ]
    powered = [each for each in placed if edge_uj(each.point) is not None]
    by_energy = [
        Spot(edge_uj(each.point) or 0.0, each.point.top1, _says(each, "uJ")) for each in powered
    ]
    blocks: list[Block] = [
        _figure(
            f"{key}-bytes",
            "Accuracy against bytes",
            as_series(placed, by_bytes),
            "payload bytes an image (logarithmic)",
        )
    ]
    if powered:
        models = ", ".join(dict.fromkeys(each.point.energy[0].model for each in powered))
        blocks.append(
            _figure(
                f"{key}-energy",
                "Accuracy against edge energy",
                as_series(powered, by_energy),
                "edge compute energy, uJ an image (logarithmic, estimate)",
                f"Models: {models}. Sending is not in it, nor is writing an image file.",
            )
        )
    timesteps = _timesteps(group)
    if timesteps:
        title = "Accuracy against timesteps"
        svg = frontier_plot(
            timesteps,
            key=f"{key}-timesteps",
            title=title,
            x_title="timesteps received",
            logarithmic=False,
        )
        blocks.append(Figure(f"{key}-timesteps", title, svg, legend=_legend(timesteps)))
        blocks.append(Folded("By timesteps received", (timestep_table(group),)))
    return blocks


def _figure(
    key: str, title: str, series: tuple[Series, ...], x_title: str, note: str = ""
) -> Figure:
    shown, left_out = _near_the_best(series)
    svg = frontier_plot(shown, key=key, title=title, x_title=x_title)
    said = (
        "Top-1 accuracy in percent. Ringed and joined: the Pareto front of all points whose cost "
        f"is not zero. {note}"
    )
    if left_out:
        said += f" {left_out} points more than {_SHOWN:g} below the best are only in the table."
    return Figure(key, title, svg, said.replace("  ", " ").strip(), _legend(shown))


def _near_the_best(series: Sequence[Series]) -> tuple[tuple[Series, ...], int]:
    """The marks near the best, and how many others there are: those would flatten the plot."""
    least = max(spot.top1 for each in series for spot in each.spots) - _SHOWN
    kept = [
        replace(each, spots=tuple(spot for spot in each.spots if spot.top1 >= least))
        for each in series
    ]
    count = sum(len(each.spots) for each in series) - sum(len(each.spots) for each in kept)
    return tuple(each for each in kept if each.spots), count


def _legend(series: Sequence[Series]) -> tuple[Key, ...]:
    return tuple(Key(each.shape, each.colour, each.name) for each in series)


def _says(each: Placed, unit: str) -> str:
    point = each.point
    cost = point.payload_bytes_mean if unit == "B" else edge_uj(point) or 0.0
    return f"{each.title}: {percent(point.top1)} %, {amount(cost)} {unit}"


def _timesteps(group: Group) -> tuple[Series, ...]:
    found = []
    for index, own in enumerate(group.of(Method.SPIKES)):
        spots = tuple(
            Spot(
                float(each.timesteps),
                each.top1,
                f"{own.title}: {percent(each.top1)} % with {each.timesteps} timesteps",
            )
            for each in own.point.by_timesteps
        )
        if spots:
            found.append(Series(own.title, "circle", index % 8, spots, joined=True))
    if not found:
        return ()
    longest = max(spot.x for each in found for spot in each.spots)
    for top1 in sorted({top for e in group.of(Method.SPIKES) if (top := uncut_top1(group, e))}):
        says = f"un-cut network, {percent(top1)} %"
        ends = (Spot(1.0, top1, says), Spot(max(longest, 1.0), top1, says))
        found.append(Series(says, "plus", 1, ends, joined=True))
    return tuple(found)


def _rates(own: Sequence[Placed], key: str) -> list[Block]:
    blocks: list[Block] = []
    for index, each in enumerate(own):
        rows = [(rate.layer, rate.rate) for rate in each.point.firing_rates]
        if not rows:
            continue
        title = f"Firing rate by layer: {each.title}"
        name = f"{key}-rates-{index}"
        svg = bars(rows, key=name, title=title, form=lambda rate: f"{rate:.3f}")
        figure = Figure(name, title, svg, "Spikes a site a timestep.")
        blocks.append(Folded(title, (figure,)))
    return blocks
