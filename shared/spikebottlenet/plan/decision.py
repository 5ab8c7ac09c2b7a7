"""What each placement takes over a link, which is best, and where that changes with bandwidth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any, NamedTuple

from spikebottlenet.accounting.energy import RADIO_PROFILES, Radio
from spikebottlenet.errors import ConfigError
from spikebottlenet.plan.link import Link
from spikebottlenet.plan.placements import Kind, Placement, Status

UJ_PER_J = 1e6
SWEEP_BIT_S = (1e4, 1e9)  # bandwidths that are looked over
_STEPS = 200
_HALVINGS = 40
CUTS = (Kind.CUT, Kind.CLOUD_ONLY)


class Objective(StrEnum):
    """What is to be least."""

    LATENCY = "latency"
    ENERGY = "energy"
    BYTES = "bytes"


@dataclass(frozen=True)
class Sender:
    """How the edge sends: its radio, and how many images share one stay on the air.

    A radio stays up after a lone packet; ``burst`` images sent together share that. 0: a steady
    stream, in which it never goes to sleep between them and the tail is nobody's.
    """

    radio: Radio = Radio.WIFI
    burst: int = 0

    def energy_uj(self, link: Link, up_bytes: float) -> float:
        """Estimated energy to send so many bytes at the link's rate (``accounting.energy``)."""
        if up_bytes == 0:
            return 0.0
        profile = replace(RADIO_PROFILES[self.radio], uplink_mbit_s=link.up_bit_s / 1e6)
        tail_uj = profile.tail_j * UJ_PER_J / self.burst if self.burst else 0.0
        return link.sent_bytes(up_bytes) * profile.uj_per_byte + tail_uj


class Forecast(NamedTuple):
    """One placement over one link, for one image."""

    placement: Placement
    latency_ms: float
    energy_uj: float  # edge compute and radio, both estimates
    radio_uj: float
    wire_bytes: float  # both ways

    def of(self, objective: Objective) -> float:
        """The figure that is to be least."""
        match objective:
            case Objective.LATENCY:
                return self.latency_ms
            case Objective.ENERGY:
                return self.energy_uj
            case Objective.BYTES:
                return self.wire_bytes


def forecast(placement: Placement, link: Link, sender: Sender) -> Forecast:
    """What it takes."""
    up, down = placement.up_bytes, placement.down_bytes
    exchange_ms = link.exchange_ms(up_bytes=up, down_bytes=down)
    radio_uj = sender.energy_uj(link, up)
    return Forecast(
        placement,
        placement.edge_ms + exchange_ms + placement.cloud_ms + placement.overhead_ms,
        placement.edge_uj + radio_uj,
        radio_uj,
        link.sent_bytes(up + down),
    )


class Best(NamedTuple):
    """The best for one objective, by what is asked."""

    cut: Forecast  # of the cuts, from before the first layer (cloud-only) to after stage 4
    of_all: Forecast  # edge-only too; never the edge exit, which is less accurate
    deployable: Forecast  # of the cuts that have a bundle


def best(forecasts: Sequence[Forecast], objective: Objective) -> Best:
    """Who is least.

    Raises:
        ConfigError: no bundle was given.
    """

    def least(wanted: Sequence[Forecast]) -> Forecast:
        if not wanted:
            raise ConfigError("nothing to choose from: give a bundle")
        return min(wanted, key=lambda each: each.of(objective))

    whole = [each for each in forecasts if each.placement.kind is not Kind.EDGE_EXIT]
    return Best(
        cut=least([each for each in whole if each.placement.kind in CUTS]),
        of_all=least(whole),
        deployable=least([each for each in whole if each.placement.status is Status.DEPLOYABLE]),
    )


class Crossing(NamedTuple):
    """A bandwidth at which the best cut changes."""

    bit_s: float
    below: str  # key
    above: str


def crossings(
    ways: Sequence[Placement], link: Link, sender: Sender, objective: Objective
) -> tuple[Crossing, ...]:
    """Where the best cut changes, from low to high bandwidth up; down goes with it."""

    def winner(bit_s: float) -> str:
        found = [forecast(way, link.at(bit_s), sender) for way in ways]
        return best(found, objective).cut.placement.key

    low, high = SWEEP_BIT_S
    grid = [low * (high / low) ** (step / _STEPS) for step in range(_STEPS + 1)]
    names = [winner(bit_s) for bit_s in grid]
    found = []
    for (left, before), (right, after) in pairwise(zip(grid, names, strict=True)):
        if before == after:
            continue
        for _ in range(_HALVINGS):
            middle = (left * right) ** 0.5
            left, right = (middle, right) if winner(middle) == before else (left, middle)
        found.append(Crossing(right, before, after))
    return tuple(found)


class Plan(NamedTuple):
    """All that a plan says."""

    link: Link
    sender: Sender
    objective: Objective  # what it is sorted by
    forecasts: tuple[Forecast, ...]
    best: dict[Objective, Best]
    crossings: tuple[Crossing, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "link": vars(self.link),
            "radio": self.sender.radio.value,
            "objective": self.objective.value,
            "best": {
                objective.value: {
                    name: each.placement.key for name, each in found._asdict().items()
                }
                for objective, found in self.best.items()
            },
            "placements": [_plain(each) for each in self.forecasts],
            "crossings": [each._asdict() for each in self.crossings],
            "notes": list(self.notes),
        }


def _plain(each: Forecast) -> dict[str, Any]:
    figures = ("latency_ms", "energy_uj", "radio_uj", "wire_bytes")
    return vars(each.placement) | {name: round(getattr(each, name), 3) for name in figures}


def make_plan(
    ways: Sequence[Placement],
    link: Link,
    sender: Sender,
    objective: Objective,
    notes: tuple[str, ...] = (),
) -> Plan:
    """Every placement over the link, least first."""
    found = [forecast(way, link, sender) for way in ways]
    return Plan(
        link,
        sender,
        objective,
        tuple(sorted(found, key=lambda each: each.of(objective))),
        {each: best(found, each) for each in Objective},
        crossings(ways, link, sender, objective),
        notes,
    )
