"""The spiking head as it is trained: stem, stages and encoder with batch norm and LIF neurons.

It is built by walking ``architecture.head_layers``, with torchvision's parameter names, so an
un-cut network's weights load into it. What runs on the edge is its folded, exact form
(``model.exact``).
"""

from typing import NamedTuple

import torch
from torch import nn

from spikebottlenet.model.architecture import IMAGE, Architecture, head_layers
from spikebottlenet.model.neuron import LIF, LIFParams


class HeadOutput(NamedTuple):
    """What the head sends on, and what it is accounted by."""

    spikes: torch.Tensor  # [T, B, C, H, W] in {0, 1}
    rates: torch.Tensor  # [layers], mean firing rate of each neuron layer, spikes a site a timestep


def _key(name: str) -> str:
    return name.replace(".", "/")


class SpikingHead(nn.Module):
    """Images to bottleneck spikes; every convolution but the first has a binary input."""

    def __init__(self, architecture: Architecture, params: LIFParams, *, fused: bool) -> None:
        super().__init__()
        self.timesteps = architecture.timesteps
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
                    bias=False,
                )
                self.norms[_key(synapse.norm)] = nn.BatchNorm2d(synapse.outputs)
        self.act = LIF(params, timesteps=self.timesteps, fused=fused)

    def forward(self, images: torch.Tensor) -> HeadOutput:
        """Run normalised images [B, 3, H, W]; the first current is computed once for all T."""
        spikes: list[torch.Tensor] = []
        for layer in self.layers:
            currents = []
            for synapse in layer.synapses:
                source = images if synapse.source == IMAGE else spikes[synapse.source]
                if synapse.convolution is not None and synapse.norm is not None:
                    source = self.convolutions[_key(synapse.convolution)](source)
                    source = self.norms[_key(synapse.norm)](source)
                if synapse.source == IMAGE:
                    source = source.repeat(self.timesteps, 1, 1, 1)
                currents.append(source)
            current = currents[0] if len(currents) == 1 else currents[0] + currents[1]
            spikes.append(self.act(current))
        rates = torch.stack([layer_spikes.mean(dtype=torch.float32) for layer_spikes in spikes])
        return HeadOutput(spikes[-1].unflatten(0, (self.timesteps, -1)), rates)

    def load_uncut(self, weights: dict[str, torch.Tensor]) -> None:
        """Start from an un-cut network's weights; the encoder keeps its own."""
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
