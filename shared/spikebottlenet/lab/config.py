"""Training settings: frozen, one model a part, checked when read."""

from typing import Literal

from pydantic import Field

from spikebottlenet.bundle import Preprocess
from spikebottlenet.config import Settings
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.exact import PixelScale
from spikebottlenet.model.neuron import LIFParams
from spikebottlenet.model.surrogate import Surrogate

Precision = Literal["auto", "float32", "bfloat16"]


class DataSettings(Settings):
    """Which images, and how many of the training split are held out for choosing settings."""

    name: str = "uoft-cs/cifar100"  # public name or local folder, for `datasets`
    side: int = Field(32, ge=8, le=512)  # sites; images are resized to it
    held_out: int = Field(1000, ge=0)  # images of the training split never trained on
    seed: int = 0  # of the held-out choice
    mean: tuple[float, float, float] = (0.5071, 0.4865, 0.4409)  # of pixels / 255; CIFAR-100's
    std: tuple[float, float, float] = (0.2673, 0.2564, 0.2762)
    crop: float = Field(0.875, gt=0, le=1)  # of the shorter side of images of another size

    @property
    def scale(self) -> PixelScale:
        """How the head's first layer sees pixels."""
        return PixelScale(self.mean, self.std)

    def preprocess(self) -> Preprocess:
        """How images become pixels, in training and in the bundle."""
        return Preprocess(side=self.side, mean_colour=self.scale.mean_colour, crop=self.crop)


class Phase(Settings):
    """A run of epochs on crops of one size; small crops first cost less and lose little."""

    epochs: int = Field(ge=1)
    side: int = Field(ge=8)  # sites a crop is wide
    pad: int = Field(4, ge=0)  # sites of reflection around the image before the crop


class Schedule(Settings):
    """Linear warm-up, then linear decay to zero, over all phases."""

    phases: tuple[Phase, ...]
    batch: int = Field(256, ge=1)
    warmup: float = Field(0.1, ge=0, lt=1)  # fraction of all steps
    muon_lr: float = Field(0.05, gt=0)  # relative step of convolution weights
    sgd_lr: float = Field(0.1, gt=0)  # of everything else
    weight_decay: float = Field(5e-4, ge=0)  # of everything else
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0)  # alpha of its Beta distribution; 0: none
    cutmix: float = Field(0.0, ge=0)  # the same; with both, each batch draws one
    ema: float = Field(0.0, ge=0, lt=1)  # decay of the mean weights that are kept; 0: the last
    patience: int = Field(0, ge=0)  # epochs without a better held-out accuracy; 0: all epochs


class NetworkSettings(Settings):
    """The un-cut network."""

    backbone: Literal["resnet18"] = "resnet18"
    width: int = Field(64, ge=4)


class BottleneckSettings(Settings):
    """Where the network is cut and what crosses the cut."""

    after_stage: int = Field(2, ge=1, le=4)
    timesteps: int = Field(2, ge=1, le=32)
    channels: int = Field(16, ge=1)
    stride: int = Field(2, ge=1, le=4)


class NeuronSettings(Settings):
    """Leaky integrate-and-fire constants and the width of the surrogate gradient."""

    threshold: float = Field(1.0, gt=0)
    leak: float = Field(0.5, ge=0, le=1)
    surrogate: Literal["triangle", "arctan", "sigmoid"] = "triangle"
    surrogate_width: float = Field(1.0, gt=0)
    fused: bool = True  # compile the loop over timesteps (needs a C++ compiler)

    def lif_params(self) -> LIFParams:
        """The neuron's constants."""
        return LIFParams(self.threshold, self.leak, Surrogate(self.surrogate), self.surrogate_width)


class LossSettings(Settings):
    """Weights of the terms of the cut network's loss beside cross-entropy."""

    distillation: float = Field(0.5, ge=0, le=1)  # share of the teacher in the task loss
    temperature: float = Field(2.0, gt=0)
    lambda_bits: float = Field(0.0, ge=0)  # loss per kilobit of entropy an image
    lambda_energy: float = Field(0.0, ge=0)  # loss per microjoule of head compute an image
    features_weight: float = Field(0.5, ge=0)  # of the decoder's relative error at the cut
    prefix_probability: float = Field(0.25, ge=0, le=1)  # of training on fewer timesteps
    every_prefix: bool = False  # train on every number of timesteps at each step; costs more tail
    self_distillation: float = Field(0.0, ge=0)  # weight of shorter prefixes on the whole's logits
    ramp: float = Field(0.0, ge=0, le=1)  # part of the schedule in which both lambdas grow from 0


class ExitSettings(Settings):
    """The edge exit: a classifier on the bottleneck's firing rates, trained after the rest."""

    hidden: int = Field(256, ge=1)
    epochs: int = Field(20, ge=1)
    batch: int = Field(256, ge=1)
    lr: float = Field(2e-3, gt=0)
    dropout: float = Field(0.3, ge=0, lt=1)


class TrainingConfig(Settings):
    """One training: the un-cut network first, then the cut one from its weights."""

    seed: int = 0
    data: DataSettings = DataSettings()
    network: NetworkSettings = NetworkSettings()
    bottleneck: BottleneckSettings = BottleneckSettings()
    neuron: NeuronSettings = NeuronSettings()
    loss: LossSettings = LossSettings()
    edge_exit: ExitSettings = ExitSettings()
    precision: Precision = "auto"  # of forward passes; auto: bfloat16 where there are units for it
    head_bits: Literal[8, 32] = 32  # of the exported head's weights; 8 runs twice as fast
    uncut: Schedule
    cut: Schedule

    def architecture(self, classes: int) -> Architecture:
        """What this training makes, for a data set of so many classes."""
        return Architecture(
            width=self.network.width,
            classes=classes,
            side=self.data.side,
            after_stage=self.bottleneck.after_stage,
            timesteps=self.bottleneck.timesteps,
            channels=self.bottleneck.channels,
            stride=self.bottleneck.stride,
            threshold=self.neuron.threshold,
            leak=self.neuron.leak,
        )
