"""The optimizers of a training, and its learning rate: linear up, then linear to zero."""

import torch
from torch import nn

from spikebottlenet.lab.config import Precision, Schedule
from spikebottlenet.lab.muon import Muon


def rate_factor(progress: float, warmup: float) -> float:
    """Learning rate over its peak at ``progress`` in [0, 1): linear up, then linear to zero."""
    if progress < warmup:
        return progress / warmup
    return (1.0 - progress) / (1.0 - warmup)


def optimizers_of(
    network: nn.Module, schedule: Schedule, precision: Precision = "auto"
) -> list[torch.optim.Optimizer]:
    """Muon for convolutions that a norm follows, SGD for everything else."""
    convolutions = [
        module.weight
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.in_channels > 3 and module.bias is None
    ]
    chosen = {id(weight) for weight in convolutions}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in chosen]
    return [
        Muon(
            [p for p in network.parameters() if id(p) in chosen and p.requires_grad],
            lr=schedule.muon_lr,
            precision=precision,
        ),
        torch.optim.SGD(
            others,
            lr=schedule.sgd_lr,
            momentum=0.9,
            nesterov=True,
            weight_decay=schedule.weight_decay,
        ),
    ]


def set_rates(optimizers: list[torch.optim.Optimizer], schedule: Schedule, factor: float) -> None:
    """Each optimizer's peak rate times ``factor``."""
    for optimizer, peak in zip(optimizers, (schedule.muon_lr, schedule.sgd_lr), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * factor
