"""What a split network is made of, in numbers and names; no tensor, no engine.

``head_layers`` is the one description of the spiking head. The training network, the exact
reference, the ONNX graph and the operation counts all walk it.
"""

from dataclasses import dataclass

from pydantic import Field

from spikebottlenet.config import Settings
from spikebottlenet.model.shape import SpikeShape

STAGES = 4
BLOCKS_PER_STAGE = 2
IMAGE = -1  # source of the first synapse: the image, not a neuron layer


class Architecture(Settings):
    """A ResNet-18 with a ``cifar`` stem, cut after one stage, and its bottleneck."""

    width: int = Field(64, ge=4)  # channels of stage 1
    classes: int = Field(ge=2)
    side: int = Field(32, ge=8)  # sites of the square image
    after_stage: int = Field(2, ge=1, le=STAGES)
    timesteps: int = Field(2, ge=1, le=32)
    channels: int = Field(16, ge=1)  # of the bottleneck
    stride: int = Field(2, ge=1, le=4)  # of the encoder's convolution
    threshold: float = Field(1.0, gt=0)
    leak: float = Field(0.5, ge=0, le=1)

    @property
    def spike_shape(self) -> SpikeShape:
        """Shape of one image's bottleneck spikes, [T, C, H, W]."""
        side = -(-self.cut_side // self.stride)
        return SpikeShape(self.timesteps, self.channels, side, side)

    @property
    def cut_channels(self) -> int:
        """Channels of the un-cut network's features at the cut."""
        return stage_channels(self.width, self.after_stage)

    @property
    def cut_side(self) -> int:
        """Sites that those features are wide."""
        return stage_side(self.side, self.after_stage)

    @property
    def bit_compression(self) -> float:
        """Bits of float32 features at the cut over all spike bits, every timestep counted."""
        return 32.0 * self.cut_channels * self.cut_side**2 / self.spike_shape.bits


@dataclass(frozen=True)
class Synapse:
    """Connections from one layer of neurons, or the image, into another."""

    source: int  # index of the neuron layer, or IMAGE
    inputs: int  # channels
    outputs: int  # channels
    source_side: int  # sites
    side: int  # sites
    kernel: int  # sites; padding is kernel // 2
    stride: int
    convolution: str | None  # parameter name; None is an identity shortcut
    norm: str | None  # batch norm behind the convolution


@dataclass(frozen=True)
class NeuronLayer:
    """LIF neurons [C, side, side] and every synapse into them; their currents are summed."""

    name: str
    channels: int
    side: int
    synapses: tuple[Synapse, ...]


def stage_channels(width: int, stage: int) -> int:
    """Channels that stage 1 to 4 puts out for a network of this width (64 is the published one)."""
    return width << (stage - 1)


def stage_side(image_side: int, stage: int) -> int:
    """Side of the square feature map after stage 1 to 4, in sites, for a ``cifar`` stem."""
    side = image_side
    for _ in range(stage - 1):
        side = (side + 1) // 2
    return side


def head_layers(architecture: Architecture) -> tuple[NeuronLayer, ...]:
    """Neuron layers of the head in the order they run; the last one is the bottleneck."""
    width, side = architecture.width, architecture.side
    layers = [_layer("act1", _convolution(IMAGE, 3, width, side, 3, 1, "conv1", "bn1"))]
    for stage in range(1, architecture.after_stage + 1):
        for block in range(BLOCKS_PER_STAGE):
            source = len(layers) - 1
            inputs, source_side = layers[source].channels, layers[source].side
            outputs = stage_channels(width, stage)
            stride = 2 if stage > 1 and block == 0 else 1
            name = f"layer{stage}.{block}"
            first = _convolution(
                source, inputs, outputs, source_side, 3, stride, f"{name}.conv1", f"{name}.bn1"
            )
            second = _convolution(
                source + 1, outputs, outputs, first.side, 3, 1, f"{name}.conv2", f"{name}.bn2"
            )
            if stride != 1 or inputs != outputs:
                down = (f"{name}.downsample.0", f"{name}.downsample.1")
                shortcut = _convolution(source, inputs, outputs, source_side, 1, stride, *down)
            else:
                shortcut = _convolution(source, inputs, outputs, source_side, 1, 1, None, None)
            layers.append(_layer(f"{name}.act1", first))
            layers.append(_layer(f"{name}.act2", second, shortcut))
    last = layers[-1]
    encoder = _convolution(
        len(layers) - 1,
        last.channels,
        architecture.channels,
        last.side,
        3,
        architecture.stride,
        "encoder.conv",
        "encoder.bn",
    )
    return (*layers, _layer("encoder.act", encoder))


def _convolution(
    source: int,
    inputs: int,
    outputs: int,
    source_side: int,
    kernel: int,
    stride: int,
    convolution: str | None,
    norm: str | None,
) -> Synapse:
    side = -(-source_side // stride)
    return Synapse(source, inputs, outputs, source_side, side, kernel, stride, convolution, norm)


def _layer(name: str, *synapses: Synapse) -> NeuronLayer:
    return NeuronLayer(name, synapses[0].outputs, synapses[0].side, synapses)
