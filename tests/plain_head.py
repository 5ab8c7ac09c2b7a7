"""The exact head written out once more, plainly and in float64: what the real one is held to."""

import torch
from torch.nn import functional

from spikebottlenet.model.architecture import IMAGE, head_layers
from spikebottlenet.model.exact import ExactHead, parameter_names


def plain_layers(head: ExactHead, pixels: torch.Tensor) -> list[torch.Tensor]:
    """What every layer sends on, float64 [T, B, C, H, W], for uint8 [B, side, side, samples]."""
    inputs = len(head.mean_colour)
    colour = torch.tensor(head.mean_colour).double()
    images = [(frame.double() - colour).permute(0, 3, 1, 2) for frame in pixels.split(inputs, 3)]
    layers: list[torch.Tensor] = []
    currents: list[torch.Tensor] = []
    for layer in head_layers(head.architecture):
        names, bias_name = parameter_names(layer)
        potential, steps, passed_on = torch.zeros(()), [], []
        for t in range(head.architecture.timesteps):
            current = head.weights[bias_name].double()[None, :, None, None]
            for synapse, name in zip(layer.synapses, names, strict=True):
                before = currents if synapse.membrane else layers
                seen = images * (t + 1) if synapse.source == IMAGE else before[synapse.source]
                source = seen[t]
                if name is not None:
                    weight, pad = head.weights[name].double(), synapse.kernel // 2
                    source = functional.conv2d(
                        source, weight, stride=synapse.stride, padding=pad, groups=synapse.groups
                    )
                current = current + source
            potential = layer.leak * potential + current
            fired = (potential >= 1.0).double()
            hard = head.architecture.reset == "hard"
            potential = torch.where(fired > 0, 0.0, potential) if hard else potential - fired
            passed_on.append(current)
            if layer.pool:
                fired = functional.max_pool2d(fired, 3, 2, padding=1)
            if layer.gate is not None:
                other = layers[layer.gate.source][t]
                both = {"sew_and": fired * other, "sew_iand": (1 - fired) * other}
                fired = both.get(layer.gate.residual.value, fired + other)
            steps.append(fired)
        layers.append(torch.stack(steps))
        currents.append(torch.stack(passed_on))
    return layers
