"""Training settings: frozen, one model a part, checked when read."""

import json
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from spikebottlenet.bundle import EventFrames, Preprocess
from spikebottlenet.config import Settings
from spikebottlenet.errors import ConfigError
from spikebottlenet.model.architecture import Architecture, stage_number
from spikebottlenet.model.backbones import Backbone, Stem
from spikebottlenet.model.exact import PixelScale, check_exact
from spikebottlenet.model.integer_head import check_eight_bit
from spikebottlenet.model.layers import SIGNS, Input, Reset, Residual, TailKind
from spikebottlenet.model.neuron import LIFParams
from spikebottlenet.model.surrogate import Surrogate
from spikebottlenet.model.weight_grid import FLOAT

_ANY_CLASSES = 2  # how many there are is the data's to say
_PIXEL_MAX = 255.0
_NOT_MEASURED = (
    "data.{} is 'auto', wanted {}: load the training split with "
    "lab.data_colours.measured_colours first"
)
_WORST_LEARNED_LEAK = 0.75  # of the quarters, the one whose potentials need most bits
Precision = Literal["auto", "float32", "bfloat16"]
Positive = Annotated[float, Field(gt=0)]
Colour = tuple[float, float, float]  # RGB
Count = Annotated[int, Field(ge=0)]
Sites = Annotated[int, Field(ge=1, le=65_536)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what torch and NumPy take alike
Deviation = tuple[Positive, Positive, Positive]  # RGB
Share = Annotated[float, Field(gt=0, lt=1)]


class DataSettings(Settings):
    """Which images, how they are read, and how many of the training split are held out."""

    name: str = "uoft-cs/cifar100"  # public name or local folder; empty: --data has to name it
    subset: str | None = None  # of a public data set that has several configurations
    image_column: str | None = None  # null: found by its type and usual names
    label_column: str | None = None
    train_split: str | None = None  # null: `train`, or the only one
    test_split: str | None = None  # null: `test`, `validation`, or a part of the training split
    test_part: float = Field(0.2, gt=0, lt=1)  # of each class, where there is no test split
    side: int = Field(32, ge=8, le=512)  # sites; images are resized to it
    held_out: Count | Share = 1000  # images of the training split never trained on, or their share
    seed: Seed = 0  # of the held-out choice and of the test part
    mean: Colour | Literal["auto"] = (0.5071, 0.4865, 0.4409)  # of pixels / 255; CIFAR-100's
    std: Deviation | Literal["auto"] = (0.2673, 0.2564, 0.2762)  # auto: of the training split
    crop: float = Field(0.875, gt=0, le=1)  # of the shorter side of images of another size
    max_corrupt: float = Field(0.01, ge=0, le=1)  # of a split; one image is let by, unless it is 0
    input: Input = Input.IMAGE  # events: a folder of an event camera's recordings
    camera: tuple[Sites, Sites] | Literal["auto"] = "auto"  # width and height in sites
    frames: int = Field(4, ge=1, le=32)  # of a recording, one a timestep
    parts: Literal["time", "count"] = "time"  # frames of equal length, or of equally many events
    count_scale: Positive | Literal["auto"] = "auto"  # events that count as 1

    @property
    def scale(self) -> PixelScale:
        """How the head's first layer sees pixels.

        Raises:
            ConfigError: it is to be taken from the images, and that has not been done.
        """
        if self.input is Input.EVENTS:
            if self.count_scale == "auto":
                raise ConfigError(_NOT_MEASURED.format("count_scale", "a number"))
            return PixelScale((0.0,) * SIGNS, (self.count_scale / _PIXEL_MAX,) * SIGNS)
        if self.mean == "auto" or self.std == "auto":
            raise ConfigError(_NOT_MEASURED.format("mean or data.std", "three numbers"))
        return PixelScale(self.mean, self.std)

    def preprocess(self) -> Preprocess:
        """How images or recordings become pixels, in training and in the bundle."""
        if self.input is Input.EVENTS:
            if self.camera == "auto":
                raise ConfigError(_NOT_MEASURED.format("camera", "width and height"))
            width, height = self.camera
            events = EventFrames(
                width=width, height=height, timesteps=self.frames, parts=self.parts
            )
            return Preprocess(side=self.side, mean_colour=(0, 0, 0), crop=1.0, events=events)
        red, green, blue = self.scale.mean_colour
        return Preprocess(side=self.side, mean_colour=(red, green, blue), crop=self.crop)


class DataChoice(NamedTuple):
    """What a command says of a data set, in place of the config's."""

    image_column: str | None = None
    label_column: str | None = None
    train_split: str | None = None
    test_split: str | None = None

    def applied(self, settings: DataSettings) -> DataSettings:
        """Settings with what was said."""
        said = {key: value for key, value in self._asdict().items() if value is not None}
        return settings.model_copy(update=said)

    def as_sets(self) -> tuple[str, ...]:
        """The same as single settings over a config, KEY=VALUE."""
        return tuple(
            f"data.{key}={json.dumps(value)}"
            for key, value in self._asdict().items()
            if value is not None
        )


class Phase(Settings):
    """A run of epochs on crops of one size; small crops first cost less and lose little."""

    epochs: int = Field(ge=1)
    side: int = Field(ge=8)  # sites a crop is wide
    pad: int = Field(4, ge=0)  # sites of reflection around the image before the crop


class Schedule(Settings):
    """Linear warm-up, then linear decay to zero, over all phases."""

    phases: tuple[Phase, ...] = Field(min_length=1)
    batch: int = Field(256, ge=1)
    warmup: float = Field(0.1, ge=0, lt=1)  # fraction of all steps
    muon_lr: float = Field(0.05, gt=0)  # relative step of convolution weights
    sgd_lr: float = Field(0.1, gt=0)  # of everything else
    weight_decay: float = Field(5e-4, ge=0)  # of everything else
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0)  # alpha of its Beta distribution; 0: none
    cutmix: float = Field(0.0, ge=0)  # the same; with both, each batch draws one
    flip: bool = True  # mirrors half of the images; not where left and right differ
    ema: float = Field(0.0, ge=0, lt=1)  # decay of the mean weights that are kept; 0: the last
    patience: int = Field(0, ge=0)  # epochs without a better held-out accuracy; 0: all epochs


class NetworkSettings(Settings):
    """The un-cut network, and how the cut one spikes."""

    backbone: Backbone = Backbone.RESNET18
    stem: Stem = Stem.CIFAR
    width: int = Field(64, ge=4)
    weights: Path | None = None  # published ones that the un-cut network starts from
    residual: Residual = Residual.SUM  # form of the head's shortcuts
    tail: TailKind = TailKind.ANN


class BottleneckSettings(Settings):
    """Where the network is cut and what crosses the cut."""

    cut: str | None = None  # by name, `layer2` or `block6`; takes the place of after_stage
    after_stage: int = Field(2, ge=1)
    timesteps: int = Field(2, ge=1, le=32)
    channels: int = Field(16, ge=1)
    stride: int = Field(2, ge=1, le=4)


class NeuronSettings(Settings):
    """Leaky integrate-and-fire constants and the width of the surrogate gradient."""

    threshold: float = Field(1.0, gt=0)
    leak: float = Field(0.5, ge=0, le=1)
    learn_threshold: bool = False  # of each layer, from there
    learn_leak: bool = False  # of each layer, in quarters
    reset: Reset = Reset.SOFT
    surrogate: Literal["triangle", "arctan", "sigmoid"] = "triangle"
    surrogate_width: float = Field(1.0, gt=0)
    fused: bool = True  # compile the loop over timesteps (needs a C++ compiler)

    def lif_params(self) -> LIFParams:
        """The neuron's constants."""
        return LIFParams(
            threshold=self.threshold,
            leak=self.leak,
            surrogate=Surrogate(self.surrogate),
            surrogate_width=self.surrogate_width,
            reset=self.reset,
            learn_threshold=self.learn_threshold,
            learn_leak=self.learn_leak,
        )


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

    seed: Seed = 0
    data: DataSettings = DataSettings()
    network: NetworkSettings = NetworkSettings()
    bottleneck: BottleneckSettings = BottleneckSettings()
    neuron: NeuronSettings = NeuronSettings()
    loss: LossSettings = LossSettings()
    edge_exit: ExitSettings = ExitSettings()
    precision: Precision = "auto"  # auto: bfloat16 where there are units for it
    head_bits: Literal[4, 5, 6, 7, 8, 32] = 32  # of the exported head's weights; 8 is fastest
    quantization_aware: bool = False  # the cut network is trained on weights of head_bits
    uncut: Schedule
    cut: Schedule

    @model_validator(mode="after")
    def _can_be_exported(self) -> Self:
        """Refuse at birth what could not be exported after hours of training."""
        architecture = self.architecture(_ANY_CLASSES)
        self._check_crops(architecture)
        if self.data.input is Input.EVENTS and self.data.frames != self.bottleneck.timesteps:
            raise ValueError(
                f"data.frames is {self.data.frames} and bottleneck.timesteps is "
                f"{self.bottleneck.timesteps}: each timestep sees one frame, so give both the same"
            )
        if not self.data.held_out and (self.uncut.patience or self.cut.patience):
            raise ValueError("patience wants held-out images, data.held_out is 0: hold some out")
        if self.loss.self_distillation and not self.loss.every_prefix:
            raise ValueError("loss.self_distillation wants every_prefix: true")
        if self.quantization_aware and self.head_bits == FLOAT:
            raise ValueError("quantization_aware wants head_bits of 4 to 8, found 32")
        if self.neuron.learn_leak:
            architecture = architecture.model_copy(update={"leak": _WORST_LEARNED_LEAK})
        try:
            check_exact(architecture)
            if self.head_bits < FLOAT:
                check_eight_bit(architecture)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def _check_crops(self, architecture: Architecture) -> None:
        for name, schedule in (("uncut", self.uncut), ("cut", self.cut)):
            for phase in schedule.phases:
                widest = self.data.side + 2 * phase.pad
                if phase.side > widest:
                    raise ValueError(
                        f"{name}.phases: crops of {phase.side} do not fit an image of "
                        f"{self.data.side} with {phase.pad} around it: at most {widest}"
                    )
        for phase in self.cut.phases:
            crop = architecture.model_copy(update={"side": phase.side})
            decoded = crop.spike_shape.height * crop.stride
            if min(decoded, architecture.cut_side) != crop.cut_side:
                raise ValueError(
                    f"cut.phases: crops of {phase.side} are {crop.cut_side} sites at the cut, "
                    f"no multiple of the stride {crop.stride}: choose other crops or another stride"
                )

    @property
    def after_stage(self) -> int:
        """Number of the stage that the network is cut after."""
        cut, stage = self.bottleneck.cut, self.bottleneck.after_stage
        if cut is None:
            return stage
        named = stage_number(self.network.backbone, cut)
        if "after_stage" in self.bottleneck.model_fields_set and named != stage:
            raise ValueError(
                f"cut {cut!r} is after stage {named}, after_stage is {stage}: give one"
            )
        return named

    def architecture(self, classes: int) -> Architecture:
        """What this training makes, for a data set of so many classes."""
        return Architecture(
            backbone=self.network.backbone,
            stem=self.network.stem,
            residual=self.network.residual,
            tail=self.network.tail,
            reset=self.neuron.reset,
            width=self.network.width,
            classes=classes,
            side=self.data.side,
            after_stage=self.after_stage,
            timesteps=self.bottleneck.timesteps,
            channels=self.bottleneck.channels,
            stride=self.bottleneck.stride,
            threshold=self.neuron.threshold,
            leak=self.neuron.leak,
            input=self.data.input,
        )
