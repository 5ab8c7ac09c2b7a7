"""Points as series of a plot: one for each way of answering, its mark and its colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spikebottlenet.lab.report.runs import Placed
from spikebottlenet.lab.results import Method


class Spot(NamedTuple):
    """One mark: where it is and what it says when asked."""

    x: float
    top1: float
    says: str


@dataclass(frozen=True)
class Series:
    """Marks of one kind; ``colour`` is a number of the page's palette."""

    name: str
    shape: str  # circle, ring, square, diamond, triangle, wedge, cross, dash, plus
    colour: int
    spots: tuple[Spot, ...]
    joined: bool = False  # by a line, in the order of x


# (name, shape, colour, joined) by method
_LOOKS = {
    Method.SPIKES: ("spikes at the cut (this project)", "circle", 0, False),
    Method.SPIKES_WHOLE: ("spiking head, features whole", "ring", 0, False),
    Method.EDGE_SPIKING: ("edge exit, nothing sent", "plus", 0, False),
    Method.EDGE_ORDINARY: ("un-cut network on the edge", "plus", 1, False),
    Method.FEATURES: ("features at the cut", "triangle", 2, False),
    Method.BOTTLENETPP: ("BottleNet++", "square", 3, False),
    Method.INTEGER: ("8-bit ordinary head", "diamond", 4, False),
}
# (shape, colour) by form of image file
_FILE_LOOKS = {
    "jpeg": ("cross", 5),
    "jpeg, tables once": ("ring", 5),
    "webp": ("wedge", 6),
    "avif": ("dash", 7),
}
_OTHER_FILE = ("cross", 1)


def series_name(placed: Placed) -> str:
    """Which series a point is in."""
    method = placed.point.method
    if method is not Method.IMAGE:
        return _LOOKS[method][0]
    return f"image as {file_form(placed.point.setting)}"


def file_form(setting: str) -> str:
    """``jpeg`` of ``jpeg 50``."""
    head, _, quality = setting.rpartition(" ")
    return head if quality.isdigit() else setting


def as_series(placed: Sequence[Placed], spots: Sequence[Spot]) -> tuple[Series, ...]:
    """Spots of points, by series."""
    found: dict[str, list[tuple[Placed, Spot]]] = {}
    for each, spot in zip(placed, spots, strict=True):
        found.setdefault(series_name(each), []).append((each, spot))
    made = []
    for name, members in found.items():
        first = members[0][0].point
        inside = tuple(sorted(spot for _, spot in members))
        if first.method is Method.IMAGE:
            form = file_form(first.setting)
            shape, colour = _FILE_LOOKS.get(form, _OTHER_FILE)
            made.append(Series(name, shape, colour, inside, joined=len(inside) > 1))
        else:
            _, shape, colour, joined = _LOOKS[first.method]
            made.append(Series(name, shape, colour, inside, joined))
    return tuple(made)
