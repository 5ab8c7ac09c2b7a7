"""Operations of a spiking head, counted from its layers and from the spikes that really fired.

A spike at site (y, x) of a layer makes one accumulate in every neuron it reaches: fan-out, which
is smaller at borders, where part of the kernel falls outside (padding is never counted). An
identity shortcut reaches one neuron; one that passes on a current (``membrane``) is one accumulate
a neuron a timestep, fired or not. The first layer has a real-valued input, so its convolution is
multiply-accumulates: an image's once for all timesteps, as its current is constant, event frames'
at each. So are convolutions of what is not binary (``sew_add``), all of them at every timestep.

Not counted: the neurons' own updates (one multiply, one add and one compare a neuron a timestep),
max-pooling and gates of spikes (logic on single bits) and memory traffic.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.model.architecture import IMAGE, Architecture, Synapse, head_layers
from spikebottlenet.model.backbones import ConvolutionShape, same_block
from spikebottlenet.model.layers import TailKind

Counts = npt.NDArray[np.int64]


class Operations(NamedTuple):
    """Operations of one image."""

    macs: int  # multiply-accumulates
    accumulates: int


def reach(synapse: Synapse) -> Counts:
    """Neurons of one channel that each source site [H, W] reaches, padding left out."""
    steps = np.arange(synapse.side)[:, None] * synapse.stride
    taps = steps + np.arange(synapse.kernel)[None, :] - synapse.kernel // 2
    inside = taps[(taps >= 0) & (taps < synapse.source_side)]
    along = np.bincount(inside, minlength=synapse.source_side)
    return np.outer(along, along).astype(np.int64)


def dense_operations(synapse: Synapse) -> int:
    """Operations of a synapse group if every input were non-zero, one timestep."""
    channels = 1 if synapse.convolution is None else synapse.inputs // synapse.groups
    return int(reach(synapse).sum()) * channels * synapse.outputs


def fan_out(architecture: Architecture) -> tuple[Counts, ...]:
    """For each neuron layer, accumulates [H, W] that one spike at a site makes downstream.

    The bottleneck's own spikes leave the edge, so its fan-out there is zero.
    """
    layers = head_layers(architecture)
    maps = [np.zeros((layer.side, layer.side), dtype=np.int64) for layer in layers]
    for layer in layers:
        for synapse in layer.synapses:
            if synapse.source == IMAGE or synapse.membrane or layers[synapse.source].levels > 1:
                continue
            outputs = 1 if synapse.convolution is None else synapse.outputs // synapse.groups
            maps[synapse.source] += reach(synapse) * outputs
    return tuple(maps)


def stem_macs(architecture: Architecture) -> int:
    """Multiply-accumulates of the spiking head: its first convolution, and those not of spikes."""
    layers = head_layers(architecture)
    macs = dense_operations(layers[0].synapses[0]) * architecture.frames
    for layer in layers[1:]:
        for synapse in layer.synapses:
            if not synapse.membrane and layers[synapse.source].levels > 1:
                macs += dense_operations(synapse) * architecture.timesteps
    return macs


def fixed_accumulates(architecture: Architecture) -> int:
    """Accumulates of one image that no spike decides: currents passed on by ``membrane``."""
    return architecture.timesteps * sum(
        layer.channels * layer.neuron_side**2
        for layer in head_layers(architecture)
        for synapse in layer.synapses
        if synapse.membrane
    )


def ann_head_macs(architecture: Architecture) -> int:
    """Multiply-accumulates of the un-cut network's layers up to the cut (no encoder)."""
    return sum(
        dense_operations(synapse) * (architecture.frames if synapse.source == IMAGE else 1)
        for layer in head_layers(architecture)[:-1]
        for synapse in layer.synapses
        if synapse.convolution is not None
    )


def dense_accumulates(architecture: Architecture) -> npt.NDArray[np.float64]:
    """Accumulates [layers] of one image if every neuron fired at every timestep."""
    layers = head_layers(architecture)
    return np.array(
        [
            float(outflow.sum()) * layer.channels * architecture.timesteps
            for layer, outflow in zip(layers, fan_out(architecture), strict=True)
        ]
    )


def tail_macs(architecture: Architecture, timesteps: int) -> int:
    """Multiply-accumulates of decoder and tail for ``timesteps`` received.

    A spiking tail's stages run all timesteps; each of their operations is counted whether its input
    fired or not.
    """
    whole = architecture.cut_after(len(architecture.stages))
    side, features = architecture.cut_side, architecture.cut_channels
    shape = architecture.spike_shape
    step = ConvolutionShape(shape.channels, features * architecture.stride**2, 3, 1)
    total = timesteps * _convolution_macs(step, shape.height)
    for convolution in same_block(architecture.backbone, features).convolutions:
        total += _convolution_macs(convolution, side)
    stages = ann_head_macs(whole) - ann_head_macs(architecture)
    repeats = architecture.timesteps if architecture.tail is TailKind.SNN else 1
    return total + repeats * stages + whole.cut_channels * architecture.classes


def _convolution_macs(shape: ConvolutionShape, side: int) -> int:
    """Multiply-accumulates of a convolution that keeps the side."""
    synapse = Synapse(
        source=0,
        inputs=shape.inputs,
        outputs=shape.outputs,
        source_side=side,
        side=side,
        kernel=shape.kernel,
        stride=shape.stride,
        convolution="",
        norm="",
        groups=shape.groups,
    )
    return dense_operations(synapse)
