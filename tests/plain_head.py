"""The exact head written out once more, plainly and in float64: what the real one is held to."""

import torch
from torch.nn import functional

from spikebottlenet.model.architecture import IMAGE, head_layers
from spikebottlenet.model.exact import ExactHead, parameter_names


def plain_layers(head: ExactHead, pixels: torch.Tensor) -> list[torch.Tensor]:
    """Spikes float64 [T, B, C, H, W] of every layer, for uint8 pixels [B, side, side, 3]."""
    image = pixels.double() - torch.tensor(head.mean_colour).double()
    image = image.permute(0, 3, 1, 2)
    layers: list[torch.Tensor] = []
    for layer in head_layers(head.architecture):
        names, bias_name = parameter_names(layer)
        potential, steps = torch.zeros(()), []
        for t in range(head.architecture.timesteps):
            current = head.weights[bias_name].double()[None, :, None, None]
            for synapse, name in zip(layer.synapses, names, strict=True):
                source = image if synapse.source == IMAGE else layers[synapse.source][t]
                if name is not None:
                    weight, pad = head.weights[name].double(), synapse.kernel // 2
                    source = functional.conv2d(source, weight, stride=synapse.stride, padding=pad)
                current = current + source
            potential = head.architecture.leak * potential + current
            steps.append((potential >= 1.0).double())
            potential = potential - steps[-1]
        layers.append(torch.stack(steps))
    return layers
