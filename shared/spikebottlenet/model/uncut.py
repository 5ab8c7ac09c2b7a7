"""The un-cut network in parts that can be cut: a stem, stages and a classifier.

It is the teacher in training and the yardstick in every report. Parameter names are torchvision's
for a ResNet (``conv1``, ``layer1.0.bn2``, ``fc``); a MobileNet-V1's blocks are ``block1`` to
``block13``, each with ``conv1``, ``bn1``, ``conv2``, ``bn2``.
"""

import torch
from torch import nn

from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.backbones import Backbone, Stem, stage_shapes, stem_shape
from spikebottlenet.model.blocks import make_convolution, make_stage
from spikebottlenet.model.layers import POOL_KERNEL, POOL_STRIDE


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class UncutNetwork(nn.Module):
    """A backbone as an ordinary network; a cut is the number of the stage before it, from 1."""

    def __init__(
        self,
        backbone: Backbone,
        stem: Stem,
        *,
        width: int,
        classes: int,
        inputs: int = 3,  # channels: an image's, or those of all event frames together
    ) -> None:
        super().__init__()
        self.backbone = backbone
        first = stem_shape(backbone, stem, width, inputs)
        stages = stage_shapes(backbone, width)
        self.conv1 = make_convolution(first.convolution)
        self.bn1 = nn.BatchNorm2d(first.convolution.outputs)
        self.act1 = nn.ReLU(inplace=True)
        self.pool: nn.Module = nn.Identity()
        if first.pool:
            self.pool = nn.MaxPool2d(POOL_KERNEL, POOL_STRIDE, padding=POOL_KERNEL // 2)
        self.stages = tuple(stage.name for stage in stages)
        for stage in stages:
            self.add_module(stage.name, make_stage(stage, act=_relu))
        self.fc = nn.Linear(stages[-1].outputs, classes)

    def features(self, x: torch.Tensor, cut: int) -> torch.Tensor:
        """Run images [B, 3, H, W] up to the end of stage ``cut`` (ReLU features there).

        Event frames [B, T * 2, H, W] it sees all at once.
        """
        x = self.pool(self.act1(self.bn1(self.conv1(x))))
        for name in self.stages[:cut]:
            x = self.get_submodule(name)(x)
        return x

    def classify(self, features: torch.Tensor, cut: int) -> torch.Tensor:
        """Run features from the end of stage ``cut`` to logits [B, classes]."""
        for name in self.stages[cut:]:
            features = self.get_submodule(name)(features)
        logits: torch.Tensor = self.fc(features.mean(dim=(2, 3)))
        return logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images [B, 3, H, W] to logits [B, classes]."""
        last = len(self.stages)
        return self.classify(self.features(x, last), last)


def uncut_network(architecture: Architecture) -> UncutNetwork:
    """The un-cut network of an architecture, with random weights."""
    return UncutNetwork(
        architecture.backbone,
        architecture.stem,
        width=architecture.width,
        classes=architecture.classes,
        inputs=architecture.samples,
    )
