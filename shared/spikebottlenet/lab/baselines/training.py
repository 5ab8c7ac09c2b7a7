"""Training of a rival by the cut network's own schedule, resumed like every training."""

import torch
from torch import nn
from torch.nn import functional

from spikebottlenet.lab.baselines.ground import Ground
from spikebottlenet.lab.loop import Run, train
from spikebottlenet.lab.uncut import EVALUATION_BATCH


def train_rival(ground: Ground, network: nn.Module, name: str) -> None:
    """Train a network of images to logits in place, on cross-entropy; leaves ``NAME.jsonl``."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types

    def batch_loss(
        images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images).float()
        loss = functional.cross_entropy(
            logits, labels, label_smoothing=ground.config.cut.label_smoothing
        )
        return loss, {"train_top1": 100.0 * float((logits.argmax(1) == labels).float().mean())}

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


def accuracy(ground: Ground, network: nn.Module) -> float:
    """Top-1 in percent on the images for choosing."""
    right = 0
    split = ground.choosing
    with torch.inference_mode():
        for start in range(0, len(split), EVALUATION_BATCH):
            batch = slice(start, start + EVALUATION_BATCH)
            images = ground.pixels.normalise(torch.from_numpy(split.images[batch]))
            labels = torch.from_numpy(split.labels[batch])
            right += int((network(images).argmax(1) == labels).sum())
    return 100.0 * right / max(len(split), 1)
