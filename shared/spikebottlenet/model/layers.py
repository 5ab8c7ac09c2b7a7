"""What a spiking head is made of: layers of neurons and the synapses between them."""

from dataclasses import dataclass, field
from enum import StrEnum

IMAGE = -1  # source of the first synapse: the image or event frame, not a neuron layer
SIGNS = 2  # channels of an event frame: darker, brighter
POOL_KERNEL, POOL_STRIDE = 3, 2  # sites; of the ``imagenet`` stem, padded by 1


class Input(StrEnum):
    """What the first convolution sees."""

    IMAGE = "image"  # one image of red, green and blue, the same at every timestep
    EVENTS = "events"  # of an event camera: at timestep t the t-th frame, darker and brighter


class Residual(StrEnum):
    """How a spiking block adds its shortcut; O is its last spikes, S the shortcut's.

        sum        fire(current + S)     ours: the sum goes through the neuron
        membrane   fire(current + the current of the layer that S came from)
        sew_and    O and S
        sew_iand   (not O) and S
        sew_add    O + S: not binary, so convolutions behind it cost multiplications

    Where the shape changes, S is a convolution: into the neuron for the first two, with neurons of
    its own for the others. Sources: ``membrane``, Hu et al., "Advancing Spiking Neural Networks
    towards Deep Residual Learning" (MS-ResNet), arXiv 2112.08954; ``sew_*``, Fang et al., "Deep
    Residual Learning in Spiking Neural Networks", arXiv 2102.04152.
    """

    SUM = "sum"
    MEMBRANE = "membrane"
    SEW_AND = "sew_and"
    SEW_IAND = "sew_iand"
    SEW_ADD = "sew_add"


class Reset(StrEnum):
    """What firing does to the membrane potential: the threshold is taken off, or all of it."""

    SOFT = "soft"
    HARD = "hard"


class TailKind(StrEnum):
    """What the stages after the cut are: an ordinary network, or a spiking one."""

    ANN = "ann"
    SNN = "snn"


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
    groups: int = 1  # of the convolution
    membrane: bool = False  # an identity that passes on the source's current, not its spikes


@dataclass(frozen=True)
class Gate:
    """What is done to a layer's spikes with those of another layer, ``source``, of its shape."""

    residual: Residual  # one of sew_*
    source: int


@dataclass(frozen=True)
class NeuronLayer:
    """LIF neurons and every synapse into them; their currents are summed.

    An identity synapse adds its source's spikes times this layer's threshold, or its source's
    current in units of the source's threshold times it.
    """

    name: str
    channels: int
    neuron_side: int  # sites; of the neurons
    synapses: tuple[Synapse, ...]
    threshold: float = 1.0
    leak: float = 0.5
    gate: Gate | None = None  # applied to the spikes
    pool: bool = False  # the spikes are max-pooled, which keeps them binary
    levels: int = 1  # highest value that is sent on; 1 is binary
    side: int = field(init=False)  # sites; of what is sent on

    def __post_init__(self) -> None:
        side = -(-self.neuron_side // POOL_STRIDE) if self.pool else self.neuron_side
        object.__setattr__(self, "side", side)
