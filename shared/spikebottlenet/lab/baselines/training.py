"""Training of a rival by the cut network's own schedule, resumed like every training."""

import torch
from torch import nn
from torch.nn import functional

from spikebottlenet.lab.accuracy import top1
from spikebottlenet.lab.baselines.ground import Ground
from spikebottlenet.lab.loop import Batch, Run, train
from spikebottlenet.lab.losses import batch_top1
from spikebottlenet.lab.precision import autocast
from spikebottlenet.lab.workers import ALONE


def train_rival(ground: Ground, network: nn.Module, name: str) -> None:
    """Train a network of images to logits in place, on cross-entropy; leaves ``NAME.jsonl``."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types

    def batch_loss(batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with autocast(ground.config.precision, batch.images.device):
            logits = network(batch.images).float()
        loss = functional.cross_entropy(
            logits, batch.targets, label_smoothing=ground.config.cut.label_smoothing
        )
        return loss, {"train_top1": batch_top1(logits, batch.labels)}

    train(
        Run(
            name=name,
            network=network,
            schedule=ground.config.cut,
            split=ground.train_split,
            pixels=ground.pixels,
            batch_loss=batch_loss,
            evaluate=lambda: {"chosen_on_top1": accuracy(ground, network)},
            folder=ground.run,
            seed=ground.config.seed,
        )
    )
    network.cpu()  # it is measured there


def accuracy(ground: Ground, network: nn.Module) -> float:
    """Top-1 in percent on the images for choosing."""
    device = next(network.parameters()).device
    return top1(network, ground.choosing, ground.pixels, among=ALONE, device=device)
