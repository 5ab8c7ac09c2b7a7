"""The spiking head as it is trained: stem, stages and encoder with batch norm and LIF neurons.

It is built by walking ``architecture.head_layers``, with torchvision's parameter names, so an
un-cut network's weights load into it. What runs on the edge is its folded, exact form
(``model.exact``), or that on integer weights (``model.integer_head``): with ``weight_bits`` the
forward pass sees each weight as that will have it, and the gradient passes straight through.
Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", arXiv 1712.05877; the straight-through gradient: Bengio et al.,
arXiv 1308.3432.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from spikebottlenet.model.architecture import IMAGE, Architecture, head_layers
from spikebottlenet.model.layers import (
    POOL_KERNEL,
    POOL_STRIDE,
    NeuronLayer,
    Residual,
    Synapse,
)
from spikebottlenet.model.neuron import LIF, LIFParams
from spikebottlenet.model.weight_grid import THRESHOLD, nearest_weights, top_weight


class HeadOutput(NamedTuple):
    """What the head sends on, and what it is accounted by."""

    spikes: torch.Tensor  # [T, B, C, H, W] in {0, 1}
    rates: torch.Tensor  # [layers], mean of what each layer sends on, spikes a site a timestep


def sent_on(
    layer: NeuronLayer, fired: torch.Tensor, spikes: Sequence[torch.Tensor]
) -> torch.Tensor:
    """What a layer sends on, [N, C, H, W], of what its neurons fired and what came before."""
    if layer.gate is not None:
        other = spikes[layer.gate.source]
        if layer.gate.residual is Residual.SEW_ADD:
            return fired + other
        return (fired if layer.gate.residual is Residual.SEW_AND else 1 - fired) * other
    if layer.pool:
        return functional.max_pool2d(fired, POOL_KERNEL, POOL_STRIDE, padding=POOL_KERNEL // 2)
    return fired


def by_frame(images: torch.Tensor, frames: int) -> torch.Tensor:
    """Inputs [B, frames * C, H, W] frame by frame: [frames * B, C, H, W]."""
    if frames == 1:
        return images
    parted: torch.Tensor = images.unflatten(1, (frames, -1)).transpose(0, 1).flatten(0, 1)
    return parted.contiguous(memory_format=torch.channels_last)


def _scaled(part: torch.Tensor, factor: torch.Tensor | float) -> torch.Tensor:
    if isinstance(factor, float):
        return part if factor == 1.0 else part * factor
    return (part * factor).to(part.dtype)


def _first_weight(layers: Sequence[NeuronLayer]) -> str:
    (name,) = (s.convolution for layer in layers for s in layer.synapses if s.source == IMAGE)
    return f"{name}.weight"


def _key(name: str) -> str:
    return name.replace(".", "/")


class SpikingHead(nn.Module):
    """Images to bottleneck spikes; every convolution but the first has a binary input.

    (But for the one residual form that is not binary, see ``layers.Residual``.)
    """

    def __init__(
        self,
        architecture: Architecture,
        params: LIFParams,
        *,
        fused: bool,
        weight_bits: int | None = None,
    ) -> None:
        super().__init__()
        self.timesteps = architecture.timesteps
        self.frames = architecture.frames
        self.weight_bits = weight_bits
        self.layers = head_layers(architecture)
        self.convolutions = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        for layer in self.layers:
            for synapse in layer.synapses:
                if synapse.convolution is None or synapse.norm is None:
                    continue
                self.convolutions[_key(synapse.convolution)] = nn.Conv2d(
                    synapse.inputs,
                    synapse.outputs,
                    synapse.kernel,
                    stride=synapse.stride,
                    padding=synapse.kernel // 2,
                    groups=synapse.groups,
                    bias=False,
                )
                self.norms[_key(synapse.norm)] = nn.BatchNorm2d(synapse.outputs)
        params = params._replace(reset=architecture.reset)
        self.neurons = nn.ModuleList(
            LIF(params, timesteps=self.timesteps, fused=fused) for _ in self.layers
        )

    def forward(self, images: torch.Tensor) -> HeadOutput:
        """Run normalised images [B, 3, H, W], or event frames [B, T * 2, H, W].

        An image's first current is computed once for all T.
        """
        images = by_frame(images, self.frames)
        spikes: list[torch.Tensor] = []
        currents: list[torch.Tensor] = []
        for index, layer in enumerate(self.layers):
            parts = [
                self.synapse_current(index, s, images, spikes, currents) for s in layer.synapses
            ]
            current = parts[0] if len(parts) == 1 else parts[0] + parts[1]
            currents.append(current)
            spikes.append(sent_on(layer, self.neurons[index](current), spikes))
        rates = torch.stack([layer_spikes.mean(dtype=torch.float32) for layer_spikes in spikes])
        return HeadOutput(spikes[-1].unflatten(0, (self.timesteps, -1)), rates)

    def synapse_current(
        self,
        index: int,
        synapse: Synapse,
        images: torch.Tensor,
        spikes: list[torch.Tensor],
        currents: list[torch.Tensor],
    ) -> torch.Tensor:
        """Current [T * B, C, H, W] of one synapse into layer ``index``."""
        if synapse.convolution is None or synapse.norm is None:
            if synapse.membrane:
                ratio = self._threshold(index) / self._threshold(synapse.source)
                return _scaled(currents[synapse.source], ratio)
            return _scaled(spikes[synapse.source], self._threshold(index))
        source = images if synapse.source == IMAGE else spikes[synapse.source]
        convolution = self.convolutions[_key(synapse.convolution)]
        norm = self.norms[_key(synapse.norm)]
        if self.weight_bits is None or synapse.source == IMAGE:
            current = convolution(source)
        else:
            weight = cast("torch.Tensor", convolution.weight)
            seen = self._as_integers(weight, norm, self._threshold(index))
            current = functional_call(convolution, {"weight": seen}, source)
        current = norm(current)
        if synapse.source == IMAGE and self.frames < self.timesteps:
            current = current.repeat(self.timesteps, 1, 1, 1)
        return current  # type: ignore[no-any-return]  # modules are untyped

    def _as_integers(
        self, weight: torch.Tensor, norm: nn.Module, threshold: torch.Tensor | float
    ) -> torch.Tensor:
        """The weight as it will be on integers, rounded with norm and threshold folded in."""
        if self.weight_bits is None or not isinstance(norm, nn.BatchNorm2d):
            raise TypeError("the head has no weight bits, or a norm that is no batch norm")
        with torch.no_grad():
            deviation = (cast("torch.Tensor", norm.running_var) + norm.eps).sqrt()
            gain = (norm.weight / deviation / threshold * THRESHOLD)[:, None, None, None]
            no_bias = torch.zeros_like(norm.bias)  # it is rounded by itself
            integers, scale = nearest_weights(weight * gain, no_bias, top_weight(self.weight_bits))
            rounded = integers * scale[:, None, None, None]
            # A channel without gain is silent whatever its weights.
            rounding = torch.where(gain == 0, 0.0, rounded / gain - weight)
        return weight + rounding

    def _threshold(self, index: int) -> torch.Tensor | float:
        neuron = self.neurons[index]
        if not isinstance(neuron, LIF):
            raise TypeError(f"layer {index} has {type(neuron).__name__} for neurons, wanted LIF")
        learned = neuron.threshold()
        return neuron.params.threshold if learned is None else learned

    def learned(self, architecture: Architecture) -> Architecture:
        """The architecture with the constants that this head has learned, layer by layer."""
        leaks, thresholds = [], []
        for neuron in self.neurons:
            if isinstance(neuron, LIF):
                leak, threshold = neuron.leak(), neuron.threshold()
                leaks += [] if leak is None else [float(leak.detach())]
                thresholds += [] if threshold is None else [float(threshold.detach())]
        return architecture.model_copy(
            update={"leaks": tuple(leaks), "thresholds": tuple(thresholds)}
        )

    def load_uncut(self, weights: dict[str, torch.Tensor]) -> None:
        """Start from an un-cut network's weights; the encoder keeps its own.

        That network's first convolution has weights for each event frame, of which this head's are
        the mean.
        """
        if self.frames > 1:
            first = _first_weight(self.layers)
            mean = weights[first].unflatten(1, (self.frames, -1)).mean(1)
            weights = weights | {first: mean}
        for modules in (self.convolutions, self.norms):
            for key, module in modules.items():
                prefix = key.replace("/", ".") + "."
                found = {
                    name.removeprefix(prefix): value
                    for name, value in weights.items()
                    if name.startswith(prefix)
                }
                if found:
                    module.load_state_dict(found)
