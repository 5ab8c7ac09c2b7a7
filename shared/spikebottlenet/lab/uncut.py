"""Training of the un-cut network: the teacher, and what the cut one is held against."""

from pathlib import Path

import torch
from torch.nn import functional

from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.loop import Run, train
from spikebottlenet.lab.weights import load_published
from spikebottlenet.model.exact import PixelScale
from spikebottlenet.model.uncut import UncutNetwork, uncut_network

EVALUATION_BATCH = 250


def uncut_accuracy(network: UncutNetwork, split: ImageSplit, pixels: PixelScale) -> float:
    """Top-1 accuracy in percent."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(split), EVALUATION_BATCH):
            images = pixels.normalise(
                torch.from_numpy(split.images[start : start + EVALUATION_BATCH])
            )
            labels = torch.from_numpy(split.labels[start : start + EVALUATION_BATCH])
            right += int((network(images).argmax(1) == labels).sum())
    return 100.0 * right / max(len(split), 1)


def train_uncut(
    config: TrainingConfig,
    train_split: ImageSplit,
    held_out: ImageSplit,
    pixels: PixelScale,
    folder: Path,
) -> UncutNetwork:
    """Train the un-cut network by ``config.uncut``; returns it in evaluation mode."""
    torch.manual_seed(config.seed)
    network = uncut_network(config.architecture(len(train_split.class_names)))
    published = config.network.weights
    if published is not None and not (folder / "uncut.pt").exists():  # a resumed one has its own
        print(f"{published} into {config.network.backbone.value}:")
        print("\n".join(load_published(network, published).lines()))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types

    def batch_loss(
        images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images).float()
        loss = functional.cross_entropy(
            logits, labels, label_smoothing=config.uncut.label_smoothing
        )
        return loss, {"train_top1": 100.0 * float((logits.argmax(1) == labels).float().mean())}

    train(
        Run(
            name="uncut",
            network=network,
            schedule=config.uncut,
            split=train_split,
            pixels=pixels,
            batch_loss=batch_loss,
            evaluate=lambda: {"held_out_top1": uncut_accuracy(network, held_out, pixels)},
            folder=folder,
            seed=config.seed,
        )
    )
    return network.eval()
