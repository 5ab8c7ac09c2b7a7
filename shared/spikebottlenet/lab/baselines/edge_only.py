"""Nothing sent: the whole un-cut network on the edge, an ordinary one in float32.

The spiking side of edge-only is a run's edge exit, which every evaluation measures.
"""

from collections.abc import Iterator

import torch

from spikebottlenet.accounting.energy import MAC_PJ, PJ_PER_UJ
from spikebottlenet.lab.baselines.ground import Ground
from spikebottlenet.lab.baselines.tally import Answers, count, rival_point
from spikebottlenet.lab.results import EnergyEstimate, Method, Point
from spikebottlenet.lab.subject import ENERGY_MODEL


def uncut_macs(ground: Ground) -> int:
    """Multiply-accumulates of the whole un-cut network, counted while one image runs through."""
    total = 0

    def add(module: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, torch.nn.Conv2d):
            total += out[0].numel() * module.weight[0].numel()
        elif isinstance(module, torch.nn.Linear):
            total += module.weight.numel()

    hooks = [module.register_forward_hook(add) for module in ground.uncut.modules()]
    side = ground.architecture.side
    with torch.inference_mode():
        ground.uncut(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return total


def edge_only_points(ground: Ground, *, log: str, command: str) -> Iterator[Point]:
    """The un-cut network's own point."""

    def answer(images: torch.Tensor) -> Answers:
        return Answers(ground.uncut(ground.pixels.normalise(images)), [0] * len(images))

    macs = uncut_macs(ground)
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
