"""One pass of the exact head over the images: the prior counted, the edge exit trained."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from spikebottlenet.codec.entropy import PRIOR_ONE
from spikebottlenet.codec.frame import dense_bytes
from spikebottlenet.lab.config import ExitSettings
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.model.shape import SpikeShape
from spikebottlenet.runtime.onnx_head import OnnxHead

_BATCH = 250


class HeadPass(NamedTuple):
    """What the head made of a training split, plain and mirrored."""

    rates: npt.NDArray[np.uint8]  # [2 N, C * H * W], spikes summed over timesteps
    labels: npt.NDArray[np.int64]  # [2 N]
    prior: npt.NDArray[np.uint16]  # [T, C, H, W]
    packed: npt.NDArray[np.uint8]  # [2 N, ceil(T * C * H * W / 8)], an image's bits in that order


def run_head(head: OnnxHead, split: ImageSplit, shape: SpikeShape) -> HeadPass:
    """Run every image and its mirror image through the head."""
    count = 2 * len(split)
    rates = np.empty((count, shape.sites), dtype=np.uint8)
    packed = np.empty((count, dense_bytes(shape.bits)), dtype=np.uint8)
    fired = np.zeros(tuple(shape), dtype=np.int64)
    for mirrored in (False, True):
        for start in range(0, len(split), _BATCH):
            images = split.images[start : start + _BATCH]
            batch = np.ascontiguousarray(images[:, :, ::-1] if mirrored else images)
            spikes = head.run(batch).spikes
            row = start + mirrored * len(split)
            rates[row : row + len(batch)] = spikes.sum(axis=0).reshape(len(batch), -1)
            images_first = np.moveaxis(spikes, 1, 0).reshape(len(batch), -1)
            packed[row : row + len(batch)] = np.packbits(images_first, axis=1)
            fired += spikes.sum(axis=1, dtype=np.int64)
    # One imagined spike and silence each (Laplace's rule) keep 0 and 1 out of the table.
    prior = np.rint((fired + 1) / (count + 2) * PRIOR_ONE)
    prior = np.clip(prior, 1, PRIOR_ONE - 1).astype(np.uint16)
    return HeadPass(rates, np.concatenate([split.labels, split.labels]), prior, packed)


def train_edge_exit(
    settings: ExitSettings, seen: HeadPass, *, timesteps: int, classes: int, seed: int
) -> dict[str, torch.Tensor]:
    """Weights of ``runtime.edge_exit``, by its names."""
    torch.manual_seed(seed)
    network = nn.Sequential()
    network.add_module("hidden", nn.Linear(seen.rates.shape[1], settings.hidden))
    network.add_module("relu", nn.ReLU())
    network.add_module("dropout", nn.Dropout(settings.dropout))
    network.add_module("out", nn.Linear(settings.hidden, classes))
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=0.05)
    sums, labels = torch.from_numpy(seen.rates), torch.from_numpy(seen.labels)
    batch = min(settings.batch, len(labels))
    steps = settings.epochs * (len(labels) // batch)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=steps + 1)
    for _ in range(settings.epochs):
        order = torch.randperm(len(labels))
        for start in range(0, len(labels) - batch + 1, batch):
            chosen = order[start : start + batch]
            logits = network(sums[chosen].float() / timesteps)
            loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate.step()
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
