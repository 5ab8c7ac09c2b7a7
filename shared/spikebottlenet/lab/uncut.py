"""Training of the un-cut network: the teacher, and what the cut one is held against."""

from pathlib import Path

import torch
from torch.nn import functional

from spikebottlenet.lab.accuracy import top1
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.loop import Batch, Run, train
from spikebottlenet.lab.losses import batch_top1
from spikebottlenet.lab.precision import autocast
from spikebottlenet.lab.weights import load_published
from spikebottlenet.lab.workers import ALONE, Workers, workers
from spikebottlenet.model.exact import PixelScale
from spikebottlenet.model.uncut import UncutNetwork, uncut_network


def uncut_accuracy(
    network: UncutNetwork, split: ImageSplit, pixels: PixelScale, among: Workers = ALONE
) -> float:
    """Top-1 accuracy in percent; with several processes each one must ask."""
    device = next(network.parameters()).device
    return top1(network, split, pixels, among=among, device=device)


def train_uncut(
    config: TrainingConfig,
    train_split: ImageSplit,
    held_out: ImageSplit,
    pixels: PixelScale,
    folder: Path,
    *,
    tensorboard: bool = False,
) -> UncutNetwork:
    """Train the un-cut network by ``config.uncut``; returns it in evaluation mode."""
    torch.manual_seed(config.seed)
    network = uncut_network(config.architecture(len(train_split.class_names)))
    published = config.network.weights
    if published is not None and not (folder / "uncut.pt").exists():  # a resumed one has its own
        print(f"{published} into {config.network.backbone.value}:")
        print("\n".join(load_published(network, published).lines()))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types

    def batch_loss(batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with autocast(config.precision, batch.images.device):
            logits = network(batch.images).float()
        loss = functional.cross_entropy(
            logits, batch.targets, label_smoothing=config.uncut.label_smoothing
        )
        return loss, {"train_top1": batch_top1(logits, batch.labels)}

    among = workers()

    def evaluate() -> dict[str, float]:
        return {"held_out_top1": uncut_accuracy(network, held_out, pixels, among)}

    train(
        Run(
            name="uncut",
            network=network,
            schedule=config.uncut,
            split=train_split,
            pixels=pixels,
            batch_loss=batch_loss,
            evaluate=evaluate,
            folder=folder,
            seed=config.seed,
            tensorboard=tensorboard,
            precision=config.precision,
        )
    )
    return network.eval()
