"""Nothing sent: the whole un-cut network on the edge, an ordinary one in float32.

The spiking side of edge-only is a run's edge exit, which every evaluation measures.
"""

from collections.abc import Iterator

import torch

from spikebottlenet.accounting.energy import MAC_PJ, PJ_PER_UJ
from spikebottlenet.accounting.operations import ann_head_macs
from spikebottlenet.lab.baselines.ground import Ground
from spikebottlenet.lab.baselines.tally import Answers, count, rival_point
from spikebottlenet.lab.results import EnergyEstimate, Method, Point
from spikebottlenet.lab.subject import ENERGY_MODEL
from spikebottlenet.model.architecture import Architecture


def uncut_macs(architecture: Architecture) -> int:
    """Multiply-accumulates of the whole un-cut network, padding left out as everywhere."""
    whole = architecture.cut_after(len(architecture.stages))
    return ann_head_macs(whole) + whole.cut_channels * whole.classes


def edge_only_points(ground: Ground, *, log: str, command: str) -> Iterator[Point]:
    """The un-cut network's own point."""

    def answer(images: torch.Tensor) -> Answers:
        return Answers(ground.uncut(ground.pixels.normalise(images)), [0] * len(images))

    macs = uncut_macs(ground.architecture)
    yield rival_point(
        ground,
        Method.EDGE_ORDINARY,
        "un-cut network",
        count(answer, ground.test, title="un-cut network"),
        bits=0,
        energy=EnergyEstimate(
            model=ENERGY_MODEL,
            edge_uj=round(macs * MAC_PJ / PJ_PER_UJ, 4),
        ),
        log=log,
        command=command,
    )
