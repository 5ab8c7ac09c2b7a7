"""Training of a rival by the cut network's own schedule, resumed like every training."""

import torch
from torch import nn

from spikebottlenet.lab.accuracy import top1
from spikebottlenet.lab.baselines.ground import Ground
from spikebottlenet.lab.loop import Batch, Run, train
from spikebottlenet.lab.losses import batch_top1, task_loss
from spikebottlenet.lab.precision import autocast
from spikebottlenet.lab.workers import ALONE, workers


def train_rival(ground: Ground, network: nn.Module, name: str, *, taught: bool = False) -> None:
    """Train a network of images to logits in place; leaves ``NAME.jsonl``.

    On cross-entropy, or ``taught``: with the config's share of distillation from the un-cut
    network, as the cut one is.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
    settings = ground.config.loss
    teacher = ground.uncut.eval().to(workers().device) if taught else None

    def batch_loss(batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with autocast(ground.config.precision, batch.images.device):
            logits = network(batch.images).float()
            with torch.no_grad():
                wanted = None if teacher is None else teacher(batch.images).float()
        loss = task_loss(
            logits,
            batch.targets,
            wanted,
            share=settings.distillation,
            temperature=settings.temperature,
            label_smoothing=ground.config.cut.label_smoothing,
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
            precision=ground.config.precision,
        )
    )
    network.cpu()  # it is measured there, and the teacher beside it
    ground.uncut.cpu()


def accuracy(ground: Ground, network: nn.Module) -> float:
    """Top-1 in percent on the images for choosing."""
    device = next(network.parameters()).device
    return top1(network, ground.choosing, ground.pixels, among=ALONE, device=device)
