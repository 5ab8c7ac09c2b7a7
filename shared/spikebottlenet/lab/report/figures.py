"""Figures of points, and how they are written: drops, ratios, missing ones as a dash."""

from collections.abc import Callable
from typing import NamedTuple

from spikebottlenet.lab.report.runs import Group, Placed
from spikebottlenet.lab.results import EnergyEstimate, Method, Point

MISSING = "-"


class Drops(NamedTuple):
    """What accuracy a cut network gives up, in points."""

    bottleneck: float | None  # against the same spiking head with its features passed whole
    total: float | None  # against the un-cut network


def uncut_top1(group: Group, own: Placed) -> float | None:
    """Accuracy of the un-cut network on the same images."""
    if own.point.uncut_top1 is not None:
        return own.point.uncut_top1
    found = [each.point.top1 for each in group.of(Method.EDGE_ORDINARY) if each.run == own.run]
    return found[0] if found else None


def drops(group: Group, own: Placed) -> Drops:
    """Both drops; the features passed whole have to be the same run's, as the head has to be."""
    whole = [
        each.point.top1
        for each in group.beside(own, Method.SPIKES_WHOLE)
        if each.run == own.run and each.point.subject.timesteps == own.point.subject.timesteps
    ]
    uncut = uncut_top1(group, own)
    return Drops(
        whole[0] - own.point.top1 if whole else None,
        None if uncut is None else uncut - own.point.top1,
    )


def edge_uj(point: Point) -> float | None:
    """Edge compute energy by the first model that the point has."""
    return point.energy[0].edge_uj if point.energy else None


def estimate_by(point: Point, model: str) -> EnergyEstimate | None:
    """The estimate by that model, where the point has it."""
    return next((each for each in point.energy if each.model == model), None)


def energy_model(point: Point) -> str:
    """The name of that model."""
    return point.energy[0].model if point.energy else MISSING


def ordinary_ratio(point: Point) -> float | None:
    """How many times its edge energy the ordinary float32 head takes."""
    if not point.energy or not point.energy[0].ordinary_head_uj or not point.energy[0].edge_uj:
        return None
    return point.energy[0].ordinary_head_uj / point.energy[0].edge_uj


def nearest_rival(group: Group, own: Placed, method: Method) -> Placed | None:
    """The rival at the same cut whose bytes are nearest, by ratio."""
    rivals = group.beside(own, method)
    if not rivals:
        return None
    bytes_ = max(own.point.payload_bytes_mean, 1.0)

    def apart(rival: Placed) -> float:
        theirs = max(rival.point.payload_bytes_mean, 1.0)
        return max(theirs / bytes_, bytes_ / theirs)

    return min(rivals, key=apart)


def energy_over(rival: Placed | None, own: Point) -> float | None:
    """A rival's edge energy over this point's, by the rival's model where both have it."""
    if rival is None:
        return None
    theirs, same = edge_uj(rival.point), estimate_by(own, energy_model(rival.point))
    mine = edge_uj(own) if same is None else same.edge_uj
    return theirs / mine if mine and theirs is not None else None


def shown(value: float | None, form: Callable[[float], str]) -> str:
    """A figure, or a dash for one that was not measured."""
    return MISSING if value is None else form(value)


def percent(value: float) -> str:
    """Accuracy in percent."""
    return f"{value:.2f}"


def signed(value: float) -> str:
    """A drop in points; a gain is negative."""
    return f"{value:+.2f}"


def amount(value: float) -> str:
    """Bytes or microjoules to what can be told apart."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def times(value: float) -> str:
    """A ratio."""
    return f"{value:,.0f}x" if value >= 100 else f"{value:.1f}x" if value >= 10 else f"{value:.2f}x"
