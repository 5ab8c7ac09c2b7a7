"""What a split network is made of, in numbers and names; no tensor, no engine.

``head_layers`` is the one description of the spiking head. The training network, the exact
reference, the ONNX graphs and the operation counts all walk it.
"""

import difflib
import re
from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from spikebottlenet.config import Settings
from spikebottlenet.model.backbones import (
    Backbone,
    BlockShape,
    ConvolutionShape,
    StageShape,
    Stem,
    cut_names,
    stage_shapes,
    stem_shape,
)
from spikebottlenet.model.layers import (
    IMAGE,
    POOL_STRIDE,
    SIGNS,
    Gate,
    Input,
    NeuronLayer,
    Reset,
    Residual,
    Synapse,
    TailKind,
)
from spikebottlenet.model.shape import SpikeShape

__all__ = ["IMAGE", "STAGES", "Architecture", "NeuronLayer", "Synapse", "head_layers"]

STAGES = 4  # of a ResNet
_MOST_STAGES = 13
# Fields that came later: left out of what is written while at their default, so that manifests of
# before keep their fingerprint and older versions read newer bundles that do not need them.
_LATER = ("backbone", "stem", "reset", "residual", "tail", "thresholds", "leaks", "input")
_CHANNELS = {Input.IMAGE: 3, Input.EVENTS: SIGNS}


class Architecture(Settings):
    """A backbone, cut after one stage, its neurons and its bottleneck."""

    backbone: Backbone = Backbone.RESNET18
    stem: Stem = Stem.CIFAR
    width: int = Field(64, ge=4)  # channels of stage 1, before ResNet-50's fourfold
    classes: int = Field(ge=2)
    side: int = Field(32, ge=8)  # sites of the square image
    after_stage: int = Field(2, ge=1, le=_MOST_STAGES)  # a MobileNet's stages are its blocks
    timesteps: int = Field(2, ge=1, le=32)
    channels: int = Field(16, ge=1)  # of the bottleneck
    stride: int = Field(2, ge=1, le=4)  # of the encoder's convolution
    threshold: float = Field(1.0, gt=0)
    leak: float = Field(0.5, ge=0, le=1)
    reset: Reset = Reset.SOFT
    residual: Residual = Residual.SUM
    tail: TailKind = TailKind.ANN
    thresholds: tuple[float, ...] = ()  # of each layer of the head, where they were learned
    leaks: tuple[float, ...] = ()
    input: Input = Input.IMAGE

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = cut_names(self.backbone)
        if self.after_stage > len(names):
            raise ValueError(
                f"{self.backbone.value} has {len(names)} stages, so no cut after {self.after_stage}"
            )
        if self.backbone is Backbone.MOBILENET_V1 and self.residual is not Residual.SUM:
            raise ValueError(
                f"{self.backbone.value} has no shortcuts: leave residual at 'sum', "
                f"found {self.residual.value!r}"
            )
        for name, values in (("thresholds", self.thresholds), ("leaks", self.leaks)):
            if not values:
                continue
            layers = len(head_layers(self.model_copy(update={"thresholds": (), "leaks": ()})))
            if len(values) != layers:
                raise ValueError(f"{len(values)} {name}, the head has {layers} layers")
        if any(not 0 <= leak <= 1 for leak in self.leaks):
            raise ValueError("leaks outside 0 to 1")
        if any(threshold <= 0 for threshold in self.thresholds):
            raise ValueError("thresholds that are not above 0")
        return self

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        return {
            name: value
            for name, value in values.items()
            if name not in _LATER or getattr(self, name) != fields[name].default
        }

    @property
    def frames(self) -> int:
        """Frames that one input holds: an image is one, of events there is one a timestep."""
        return self.timesteps if self.input is Input.EVENTS else 1

    @property
    def inputs(self) -> int:
        """Channels of a frame."""
        return _CHANNELS[self.input]

    @property
    def samples(self) -> int:
        """Samples of one site of an input, all its frames': what arrays of pixels end in."""
        return self.frames * self.inputs

    @property
    def stages(self) -> tuple[StageShape, ...]:
        """All stages of the un-cut network."""
        return stage_shapes(self.backbone, self.width)

    @property
    def cut(self) -> str:
        """Name of the stage that the network is cut after."""
        return self.stages[self.after_stage - 1].name

    def cut_after(self, stage: int) -> "Architecture":
        """The same network cut elsewhere, without learned constants: its head has other layers."""
        return self.model_copy(update={"after_stage": stage, "thresholds": (), "leaks": ()})

    @property
    def spike_shape(self) -> SpikeShape:
        """Shape of one image's bottleneck spikes, [T, C, H, W]."""
        side = -(-self.cut_side // self.stride)
        return SpikeShape(self.timesteps, self.channels, side, side)

    @property
    def cut_channels(self) -> int:
        """Channels of the un-cut network's features at the cut."""
        return self.stages[self.after_stage - 1].outputs

    @property
    def cut_side(self) -> int:
        """Sites that those features are wide."""
        stem = stem_shape(self.backbone, self.stem, self.width, self.inputs)
        strides = [stem.convolution.stride, POOL_STRIDE if stem.pool else 1]
        for stage in self.stages[: self.after_stage]:
            strides += [c.stride for _, block in stage.blocks for c in block.convolutions]
        side = self.side
        for stride in strides:
            side = -(-side // stride)
        return side

    @property
    def bit_compression(self) -> float:
        """Bits of float32 features at the cut over all spike bits, every timestep counted."""
        return 32.0 * self.cut_channels * self.cut_side**2 / self.spike_shape.bits


def stage_number(backbone: Backbone, cut: str) -> int:
    """Number of the stage that a cut's name names; its first stage is 1.

    Raises:
        ValueError: no such cut; names the nearest.
    """
    names = cut_names(backbone)
    if cut in names:
        return names.index(cut) + 1
    numbered = re.fullmatch(names[0].rstrip("1") + r"(\d{1,9})", cut)
    if numbered is not None:
        near = [names[-1] if int(numbered[1]) else names[0]]
    else:
        near = difflib.get_close_matches(cut, names, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"{backbone.value} has no cut {cut!r}: {hint}known cuts: {names[0]} to {names[-1]}"
    )


def stage_channels(width: int, stage: int) -> int:
    """Channels that stage 1 to 4 of a ResNet-18 puts out; 64 is the published width."""
    return width << (stage - 1)


def stage_side(image_side: int, stage: int) -> int:
    """Side of the square feature map after stage 1 to 4, in sites, for a ``cifar`` stem."""
    side = image_side
    for _ in range(stage - 1):
        side = (side + 1) // 2
    return side


def head_layers(architecture: Architecture) -> tuple[NeuronLayer, ...]:
    """Neuron layers of the head in the order they run; the last one is the bottleneck."""
    head = _Head(architecture)
    stem = stem_shape(
        architecture.backbone, architecture.stem, architecture.width, architecture.inputs
    )
    head.add("act1", head.convolution(IMAGE, stem.convolution, "conv1", "bn1"), pool=stem.pool)
    for stage in architecture.stages[: architecture.after_stage]:
        for name, block in stage.blocks:
            _add_block(head, name, block, architecture.residual)
    inputs = head.layers[-1].channels
    encoder = ConvolutionShape(inputs, architecture.channels, 3, architecture.stride)
    last = len(head.layers) - 1
    head.add("encoder.act", head.convolution(last, encoder, "encoder.conv", "encoder.bn"))
    return tuple(head.layers)


def _add_block(head: "_Head", name: str, block: BlockShape, residual: Residual) -> None:
    start = source = len(head.layers) - 1
    gated = residual not in (Residual.SUM, Residual.MEMBRANE)
    shortcut: Synapse | None = None
    if block.residual and block.downsample is not None:
        names = (f"{name}.downsample.0", f"{name}.downsample.1")
        shortcut = head.convolution(start, block.downsample, *names)
        if gated:
            head.add(f"{name}.downsample.act", shortcut)
            start = len(head.layers) - 1
    elif block.residual:
        shortcut = head.identity(start, membrane=residual is Residual.MEMBRANE)
    for order, shape in enumerate(block.convolutions, 1):
        main = head.convolution(source, shape, f"{name}.conv{order}", f"{name}.bn{order}")
        layer = f"{name}.act{order}"
        if order < len(block.convolutions) or shortcut is None:
            head.add(layer, main)
        elif gated:
            head.add(layer, main, gate=Gate(residual, start))
        else:
            head.add(layer, main, shortcut)
        source = len(head.layers) - 1


class _Head:
    """Layers as they are added."""

    def __init__(self, architecture: Architecture) -> None:
        self.layers: list[NeuronLayer] = []
        self._architecture = architecture

    def convolution(self, source: int, shape: ConvolutionShape, name: str, norm: str) -> Synapse:
        side = self._architecture.side if source == IMAGE else self.layers[source].side
        return Synapse(
            source=source,
            inputs=shape.inputs,
            outputs=shape.outputs,
            source_side=side,
            side=-(-side // shape.stride),
            kernel=shape.kernel,
            stride=shape.stride,
            convolution=name,
            norm=norm,
            groups=shape.groups,
        )

    def identity(self, source: int, *, membrane: bool) -> Synapse:
        """A shortcut; a membrane one takes spikes where its source pools, as currents are wider."""
        layer = self.layers[source]
        side, channels = layer.side, layer.channels
        passed = membrane and not layer.pool
        return Synapse(source, channels, channels, side, side, 1, 1, None, None, membrane=passed)

    def add(
        self, name: str, *synapses: Synapse, gate: Gate | None = None, pool: bool = False
    ) -> None:
        index, first = len(self.layers), synapses[0]
        own = self._architecture
        levels = 1
        if gate is not None:
            source = self.layers[gate.source].levels
            levels = source + 1 if gate.residual is Residual.SEW_ADD else source
        self.layers.append(
            NeuronLayer(
                name=name,
                channels=first.outputs,
                neuron_side=first.side,
                synapses=synapses,
                threshold=own.thresholds[index] if own.thresholds else own.threshold,
                leak=own.leaks[index] if own.leaks else own.leak,
                gate=gate,
                pool=pool,
                levels=levels,
            )
        )
