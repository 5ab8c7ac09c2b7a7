"""A backbone's blocks as torch modules, for ordinary and spiking networks alike.

The activation is an argument: ReLU makes the ordinary block, a spiking neuron makes the spiking
one. In both, the residual sum goes through the activation, so with spiking neurons every
convolution behind one has a binary input. Parameter names are torchvision's (``conv1``, ``bn2``,
``downsample.0``), so that published weights load.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spikebottlenet.model.backbones import BlockShape, ConvolutionShape, StageShape

ActivationFactory = Callable[[], nn.Module]


def make_convolution(shape: ConvolutionShape) -> nn.Conv2d:
    """A convolution without bias, padded by half its kernel."""
    return nn.Conv2d(
        shape.inputs,
        shape.outputs,
        shape.kernel,
        stride=shape.stride,
        padding=shape.kernel // 2,
        groups=shape.groups,
        bias=False,
    )


class Block(nn.Module):
    """``conv1``, ``bn1``, ``act1``, ``conv2`` ..., and a shortcut before the last activation."""

    def __init__(self, shape: BlockShape, *, act: ActivationFactory) -> None:
        super().__init__()
        self.steps = len(shape.convolutions)
        self.residual = shape.residual
        for order, convolution in enumerate(shape.convolutions, 1):
            self.add_module(f"conv{order}", make_convolution(convolution))
            self.add_module(f"bn{order}", nn.BatchNorm2d(convolution.outputs))
            self.add_module(f"act{order}", act())
        self.downsample: nn.Sequential | None = None
        if shape.downsample is not None:
            self.downsample = nn.Sequential(
                make_convolution(shape.downsample), nn.BatchNorm2d(shape.downsample.outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        for order in range(1, self.steps + 1):
            x = self.get_submodule(f"bn{order}")(self.get_submodule(f"conv{order}")(x))
            if self.residual and order == self.steps:
                x = x + shortcut
            x = self.get_submodule(f"act{order}")(x)
        return x

    def convolutions(self) -> Iterator[tuple[str, nn.Module]]:
        """Its convolutions by name, the shortcut's left out."""
        for order in range(1, self.steps + 1):
            yield f"conv{order}", self.get_submodule(f"conv{order}")

    def fold_norms(self) -> None:
        """Fold every norm, in evaluation, into its convolution, in place."""
        for order in range(1, self.steps + 1):
            fold_norm(self, f"conv{order}", f"bn{order}")
        if self.downsample is not None:
            convolution, norm = self.downsample
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                self.downsample = nn.Sequential(fuse_conv_bn_eval(convolution, norm))


def fold_norm(module: nn.Module, convolution: str, norm: str) -> None:
    """Fold one norm of a module, in evaluation, into one convolution of it, in place."""
    left, right = module.get_submodule(convolution), module.get_submodule(norm)
    if isinstance(left, nn.Conv2d) and isinstance(right, nn.BatchNorm2d):
        module.add_module(convolution, fuse_conv_bn_eval(left, right))
        module.add_module(norm, nn.Identity())


def make_stage(stage: StageShape, *, act: ActivationFactory) -> nn.Module:
    """A stage as a module: a ResNet's is a row of blocks, a MobileNet's the block itself."""
    blocks = [Block(shape, act=act) for _, shape in stage.blocks]
    if len(blocks) == 1 and stage.blocks[0][0] == stage.name:
        return blocks[0]
    return nn.Sequential(*blocks)
