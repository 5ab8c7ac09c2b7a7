"""The backbones in numbers and names; no tensor, no engine.

A backbone is a stem, stages in a row and a classifier; it can be cut after any stage. The ordinary
networks (``model.uncut``, ``model.tail``) and the spiking head (``model.architecture``) are all
built from the blocks named here.

Sources: ResNet, He et al., arXiv 1512.03385, with the 50's stride on its 3x3 convolution as
torchvision has it; MobileNet-V1, Howard et al., arXiv 1704.04861, whose 13 blocks are its stages.
The ``imagenet`` stem is the published one. The ``cifar`` stem is the usual 3x3 convolution of
stride 1 with no pooling.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache


class Backbone(StrEnum):
    """Name of a network that can be cut."""

    RESNET18 = "resnet18"
    RESNET34 = "resnet34"
    RESNET50 = "resnet50"
    MOBILENET_V1 = "mobilenet_v1"


class Stem(StrEnum):
    """What meets the image."""

    CIFAR = "cifar"
    IMAGENET = "imagenet"


@dataclass(frozen=True)
class ConvolutionShape:
    """A convolution without bias, padded by kernel // 2, and the norm behind it."""

    inputs: int  # channels
    outputs: int  # channels
    kernel: int  # sites
    stride: int
    groups: int = 1


@dataclass(frozen=True)
class BlockShape:
    """Convolutions in a row, ``conv1``, ``conv2`` ..., each with a norm and an activation.

    A residual block adds its input before the last activation, through ``downsample`` where the
    shape changes.
    """

    convolutions: tuple[ConvolutionShape, ...]
    residual: bool
    downsample: ConvolutionShape | None = None

    @property
    def outputs(self) -> int:
        """Channels that the block puts out."""
        return self.convolutions[-1].outputs


@dataclass(frozen=True)
class StageShape:
    """What lies between two cuts; the cut behind it has its name."""

    name: str
    blocks: tuple[tuple[str, BlockShape], ...]  # by parameter name

    @property
    def outputs(self) -> int:
        """Channels that the stage puts out."""
        return self.blocks[-1][1].outputs


@dataclass(frozen=True)
class StemShape:
    """One convolution, ``conv1``, and perhaps a 3x3 max-pool of stride 2 behind its activation."""

    convolution: ConvolutionShape
    pool: bool


_RESNET_BLOCKS = {
    Backbone.RESNET18: (2, 2, 2, 2),
    Backbone.RESNET34: (3, 4, 6, 3),
    Backbone.RESNET50: (3, 4, 6, 3),
}
_EXPANSION = 4  # of ResNet-50's blocks
# (channels over those of block 1, stride) of MobileNet-V1's blocks
_MOBILENET_BLOCKS = (
    *((1, 1), (2, 2), (2, 1), (4, 2), (4, 1), (8, 2)),
    *((8, 1),) * 5,
    *((16, 2), (16, 1)),
)


def stem_shape(backbone: Backbone, stem: Stem, width: int, inputs: int = 3) -> StemShape:
    """The stem of a network of this width; MobileNet's has half its channels."""
    mobile = backbone is Backbone.MOBILENET_V1
    outputs = width // 2 if mobile else width
    if stem is Stem.CIFAR:
        return StemShape(ConvolutionShape(inputs, outputs, 3, 1), pool=False)
    if mobile:
        return StemShape(ConvolutionShape(inputs, outputs, 3, 2), pool=False)
    return StemShape(ConvolutionShape(inputs, outputs, 7, 2), pool=True)


@cache
def stage_shapes(backbone: Backbone, width: int) -> tuple[StageShape, ...]:
    """The stages of a network whose first one has ``width`` channels (64 is the published width).

    ResNet-50's blocks put out four times that.
    """
    inputs = stem_shape(backbone, Stem.CIFAR, width).convolution.outputs
    stages = []
    if backbone is Backbone.MOBILENET_V1:
        for index, (factor, stride) in enumerate(_MOBILENET_BLOCKS, 1):
            block = separable_block(inputs, width * factor, stride)
            stages.append(StageShape(f"block{index}", ((f"block{index}", block),)))
            inputs = block.outputs
        return tuple(stages)
    for index, count in enumerate(_RESNET_BLOCKS[backbone]):
        blocks = []
        for order in range(count):
            stride = 2 if index and not order else 1
            block = feature_block(backbone, inputs, width << index, stride)
            blocks.append((f"layer{index + 1}.{order}", block))
            inputs = block.outputs
        stages.append(StageShape(f"layer{index + 1}", tuple(blocks)))
    return tuple(stages)


def feature_block(backbone: Backbone, inputs: int, width: int, stride: int) -> BlockShape:
    """The block of a backbone, its 3x3 convolution of ``width`` channels."""
    if backbone is Backbone.MOBILENET_V1:
        return separable_block(inputs, width, stride)
    wide = backbone is Backbone.RESNET50
    outputs = width * _EXPANSION if wide else width
    changed = stride != 1 or inputs != outputs
    downsample = ConvolutionShape(inputs, outputs, 1, stride) if changed else None
    if wide:
        convolutions = (
            ConvolutionShape(inputs, width, 1, 1),
            ConvolutionShape(width, width, 3, stride),
            ConvolutionShape(width, outputs, 1, 1),
        )
        return BlockShape(convolutions, residual=True, downsample=downsample)
    basic = (ConvolutionShape(inputs, width, 3, stride), ConvolutionShape(width, width, 3, 1))
    return BlockShape(basic, residual=True, downsample=downsample)


def same_block(backbone: Backbone, channels: int) -> BlockShape:
    """The block of a backbone that keeps ``channels`` channels and the side."""
    wide = backbone is Backbone.RESNET50
    return feature_block(backbone, channels, channels // _EXPANSION if wide else channels, 1)


def separable_block(inputs: int, outputs: int, stride: int) -> BlockShape:
    """A convolution of each channel by itself, then one of single sites over all channels."""
    convolutions = (
        ConvolutionShape(inputs, inputs, 3, stride, groups=inputs),
        ConvolutionShape(inputs, outputs, 1, 1),
    )
    return BlockShape(convolutions, residual=False)


def cut_names(backbone: Backbone) -> tuple[str, ...]:
    """Where a backbone can be cut: after ``layer1`` .. ``layer4``, or ``block1`` .. ``block13``."""
    return tuple(stage.name for stage in stage_shapes(backbone, 4))
