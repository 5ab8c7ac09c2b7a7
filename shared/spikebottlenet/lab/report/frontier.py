"""Who is beaten by nobody: fewer bytes or less energy, at no lower accuracy."""

from collections.abc import Sequence
from typing import NamedTuple


class Mark(NamedTuple):
    """A point of a plot: a cost to keep low, and an accuracy to keep high."""

    cost: float
    top1: float


def front(marks: Sequence[Mark]) -> tuple[int, ...]:
    """Places of the marks that no other beats, cheapest first; of equals the first stays."""
    order = sorted(range(len(marks)), key=lambda i: (marks[i].cost, -marks[i].top1, i))
    kept = list[int]()
    for index in order:
        if not kept or marks[index].top1 > marks[kept[-1]].top1:
            kept.append(index)
    return tuple(kept)
