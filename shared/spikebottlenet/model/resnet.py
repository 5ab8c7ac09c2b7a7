"""ResNet-18 with a ``cifar`` stem, the default backbone, under a name of its own."""

from spikebottlenet.model.backbones import Backbone, Stem
from spikebottlenet.model.uncut import UncutNetwork


class ResNet18(UncutNetwork):
    """The un-cut ResNet-18 with a ``cifar`` stem."""

    def __init__(self, *, width: int, classes: int) -> None:
        super().__init__(Backbone.RESNET18, Stem.CIFAR, width=width, classes=classes)
