"""ResNet-18 in parts that can be cut: a stem, four stages of basic blocks and a classifier.

One block serves both kinds of network. Its activation is an argument: ReLU makes the ordinary
block, a spiking neuron makes the spiking one. In both, the residual sum goes through the
activation, so with spiking neurons every convolution but the first has a binary input.

Parameter names are torchvision's (``conv1``, ``layer1.0.bn2``, ``fc``), so that published weights
load. Source: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385; the
``cifar`` stem is the usual 3x3 convolution of stride 1 with no pooling.
"""

from collections.abc import Callable

import torch
from torch import nn

from spikebottlenet.model.architecture import BLOCKS_PER_STAGE, STAGES, stage_channels

ActivationFactory = Callable[[], nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, summed before the second activation."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, act: ActivationFactory) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = act()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = act()
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        hidden = self.act1(self.bn1(self.conv1(x)))
        summed: torch.Tensor = self.act2(self.bn2(self.conv2(hidden)) + shortcut)
        return summed


def make_stage(stage: int, *, width: int, act: ActivationFactory) -> nn.Sequential:
    """Build stage 1 to 4: its first block halves the side, except in stage 1."""
    outputs = stage_channels(width, stage)
    inputs = width if stage == 1 else stage_channels(width, stage - 1)
    stride = 1 if stage == 1 else 2
    blocks = [BasicBlock(inputs, outputs, stride=stride, act=act)]
    blocks += [BasicBlock(outputs, outputs, stride=1, act=act) for _ in range(BLOCKS_PER_STAGE - 1)]
    return nn.Sequential(*blocks)


def make_stem(width: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """The ``cifar`` stem: one 3x3 convolution of stride 1 and its norm."""
    return nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)


class ResNet18(nn.Module):
    """The un-cut network: the teacher in training and the yardstick in every report."""

    def __init__(self, *, width: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = make_stem(width)
        self.act1 = nn.ReLU(inplace=True)
        for stage in range(1, STAGES + 1):
            self.add_module(
                f"layer{stage}",
                make_stage(stage, width=width, act=lambda: nn.ReLU(inplace=True)),
            )
        self.fc = nn.Linear(stage_channels(width, STAGES), classes)

    def features(self, x: torch.Tensor, stage: int) -> torch.Tensor:
        """Run images [B, 3, H, W] up to the end of ``stage`` (ReLU features there)."""
        x = self.act1(self.bn1(self.conv1(x)))
        for index in range(1, stage + 1):
            x = self.get_submodule(f"layer{index}")(x)
        return x

    def classify(self, features: torch.Tensor, stage: int) -> torch.Tensor:
        """Run features from the end of ``stage`` to logits [B, classes]."""
        for index in range(stage + 1, STAGES + 1):
            features = self.get_submodule(f"layer{index}")(features)
        logits: torch.Tensor = self.fc(features.mean(dim=(2, 3)))
        return logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images [B, 3, H, W] to logits [B, classes]."""
        return self.classify(self.features(x, STAGES), STAGES)
