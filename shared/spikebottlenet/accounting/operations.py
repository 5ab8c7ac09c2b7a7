"""Operations of a spiking head, counted from its layers and from the spikes that really fired.

A spike at site (y, x) of a layer makes one accumulate in every neuron it reaches: fan-out, which
is smaller at borders, where part of the kernel falls outside (padding is never counted). An
identity shortcut reaches one neuron. The first layer has a real-valued input, so its convolution
is multiply-accumulates, once for all timesteps as its current is constant.

Not counted: the neurons' own updates (one multiply, one add and one compare a neuron a timestep)
and memory traffic.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.model.architecture import IMAGE, Architecture, Synapse, head_layers

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
    channels = 1 if synapse.convolution is None else synapse.inputs
    return int(reach(synapse).sum()) * channels * synapse.outputs


def fan_out(architecture: Architecture) -> tuple[Counts, ...]:
    """For each neuron layer, accumulates [H, W] that one spike at a site makes downstream.

    The bottleneck's own spikes leave the edge, so its fan-out there is zero.
    """
    layers = head_layers(architecture)
    maps = [np.zeros((layer.side, layer.side), dtype=np.int64) for layer in layers]
    for layer in layers:
        for synapse in layer.synapses:
            if synapse.source != IMAGE:
                outputs = 1 if synapse.convolution is None else synapse.outputs
                maps[synapse.source] += reach(synapse) * outputs
    return tuple(maps)


def stem_macs(architecture: Architecture) -> int:
    """Multiply-accumulates of the spiking head: its first convolution."""
    return dense_operations(head_layers(architecture)[0].synapses[0])


def ann_head_macs(architecture: Architecture) -> int:
    """Multiply-accumulates of the un-cut network's layers up to the cut (no encoder)."""
    return sum(
        dense_operations(synapse)
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
    """Multiply-accumulates of decoder and tail for ``timesteps`` received."""
    whole = architecture.model_copy(update={"after_stage": 4})
    side, features = architecture.cut_side, architecture.cut_channels
    shape = architecture.spike_shape
    step = Synapse(
        0,
        shape.channels,
        features * architecture.stride**2,
        shape.height,
        shape.height,
        3,
        1,
        "",
        "",
    )
    block = Synapse(0, features, features, side, side, 3, 1, "", "")
    linear = whole.cut_channels * architecture.classes
    stages = ann_head_macs(whole) - ann_head_macs(architecture)
    return timesteps * dense_operations(step) + 2 * dense_operations(block) + stages + linear
