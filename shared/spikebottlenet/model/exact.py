"""The head as it runs: norms folded into convolutions, on a grid where float32 sums are exact.

Each output channel's weights and bias are whole multiples k * 2^-s of one power of two, with s the
largest such that no sum of that channel can need more than float32's 24 bits:

    (2 * (sum |k| * max |input| + |bias|) + 1) * 2^(T - 1) < 2^24     in units of 2^-s

(the factor 2 bounds a membrane potential under leak 1/2; each further timestep halves it and so
needs one more bit). Every partial sum is then exact in any order, so every engine on every machine
gives the same spikes. The pixels' mean, rounded to a whole number, is taken off first and their
deviation is folded into the first convolution; the threshold is folded to 1. With a leak that is
not 0, 1/2 or 1 the sums of one timestep are still exact, the potential is not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from spikebottlenet.model.architecture import IMAGE, Architecture, NeuronLayer, head_layers
from spikebottlenet.model.head import SpikingHead
from spikebottlenet.model.neuron import LIFParams, rollout

_EXACT = 2.0**24
_PIXEL_MAX = 255
_NORM_EPSILON = 1e-5  # of nn.BatchNorm2d


@dataclass(frozen=True)
class PixelScale:
    """How training saw pixels: mean and deviation of pixels / 255, RGB."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """Mean pixel as whole numbers: what is taken off, and what transparency shows."""
        red, green, blue = (round(_PIXEL_MAX * channel) for channel in self.mean)
        return red, green, blue

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 [B, H, W, 3] to float32 channels-last [B, 3, H, W]: (x / 255 - mean) / std."""
        scaled = images.to(torch.float32) / _PIXEL_MAX - torch.tensor(self.mean)
        return (scaled / torch.tensor(self.std)).permute(0, 3, 1, 2)


def parameter_names(layer: NeuronLayer) -> tuple[list[str | None], str]:
    """Names of a layer's weights, one a synapse (None for an identity), and of its bias."""
    weights = [
        None if synapse.convolution is None else f"{layer.name}.weight.{index}"
        for index, synapse in enumerate(layer.synapses)
    ]
    return weights, f"{layer.name}.bias"


def fold_head(
    head: SpikingHead, architecture: Architecture, pixels: PixelScale
) -> dict[str, torch.Tensor]:
    """Exact float32 weights and biases of every layer, by ``parameter_names``."""
    state = {name.replace("/", "."): value for name, value in head.state_dict().items()}
    folded: dict[str, torch.Tensor] = {}
    for layer in head_layers(architecture):
        names, bias_name = parameter_names(layer)
        weights: list[torch.Tensor] = []
        bias = torch.zeros(layer.channels, dtype=torch.float64)
        bound = torch.zeros(layer.channels, dtype=torch.float64)
        for synapse in layer.synapses:
            if synapse.convolution is None:
                bound += 1.0
                continue
            norm = {
                part: state[f"norms.{synapse.norm}.{part}"].double()
                for part in ("weight", "bias", "running_mean", "running_var")
            }
            scale = norm["weight"] / (norm["running_var"] + _NORM_EPSILON).sqrt()
            weight = state[f"convolutions.{synapse.convolution}.weight"].double()
            weight = weight * scale[:, None, None, None] / architecture.threshold
            bias += (norm["bias"] - scale * norm["running_mean"]) / architecture.threshold
            reach = torch.ones(synapse.inputs, dtype=torch.float64)
            if synapse.source == IMAGE:
                colour = torch.tensor(pixels.mean_colour, dtype=torch.float64)
                mean = _PIXEL_MAX * torch.tensor(pixels.mean, dtype=torch.float64)
                deviation = _PIXEL_MAX * torch.tensor(pixels.std, dtype=torch.float64)
                weight = weight / deviation[None, :, None, None]
                bias += (weight.sum(dim=(2, 3)) * (colour - mean)).sum(1)
                reach = torch.maximum(colour, _PIXEL_MAX - colour)
            weights.append(weight)
            bound += (weight.abs().sum(dim=(2, 3)) * reach).sum(1)
        exponent = _exponent(bound + bias.abs(), weights, architecture.timesteps)
        step = torch.pow(2.0, -exponent)
        grid = step[:, None, None, None]
        remaining = iter(weights)
        for name in names:
            if name is not None:
                folded[name] = (torch.round(next(remaining) / grid) * grid).float()
        folded[bias_name] = (torch.round(bias / step) * step).float()
    return folded


def _exponent(bound: torch.Tensor, weights: list[torch.Tensor], timesteps: int) -> torch.Tensor:
    """Largest s for each channel, with room for rounding every weight up by half a step."""
    taps = sum(weight[0].numel() for weight in weights) * _PIXEL_MAX
    room = _EXACT / 2.0 ** (timesteps - 1) - 2.0 * taps
    return torch.floor(torch.log2(room / (2.0 * bound + 1.0)))


Current = Callable[[NeuronLayer, list[torch.Tensor]], torch.Tensor]
Fire = Callable[[torch.Tensor], torch.Tensor]


def run_layers(
    architecture: Architecture,
    mean_colour: tuple[int, int, int],
    pixels: torch.Tensor,
    current: Current,
    fire: Fire,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Run a folded head's layers on uint8 pixels [B, side, side, 3].

    ``current`` maps a layer and what its synapses see, [T * B, C, H, W] each (the image: [B, 3, H,
    W]), to its current; ``fire`` maps currents [T, B, C, H, W] to spikes. Returns spikes uint8 [T,
    B, C, H, W] and, for each layer, its spikes summed over timesteps and channels [B, H, W].
    """
    timesteps = architecture.timesteps
    image = pixels.to(torch.float32) - torch.tensor(mean_colour, dtype=torch.float32)
    image = image.permute(0, 3, 1, 2)
    spikes: list[torch.Tensor] = []
    for layer in head_layers(architecture):
        sources = [image if s.source == IMAGE else spikes[s.source] for s in layer.synapses]
        found = current(layer, sources)
        first = layer.synapses[0].source == IMAGE
        steps = (
            found.expand(timesteps, *found.shape) if first else found.unflatten(0, (timesteps, -1))
        )
        spikes.append(fire(steps).flatten(0, 1))
    activity = [layer.unflatten(0, (timesteps, -1)).sum(dim=(0, 2)) for layer in spikes]
    return spikes[-1].unflatten(0, (timesteps, -1)).to(torch.uint8), activity


@dataclass(frozen=True)
class ExactHead:
    """The reference: the folded head in torch, float32."""

    architecture: Architecture
    weights: dict[str, torch.Tensor]
    mean_colour: tuple[int, int, int]

    def run(self, pixels: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Run uint8 pixels [B, side, side, 3].

        Returns spikes uint8 [T, B, C, H, W] and, for each neuron layer, its spikes summed over
        timesteps and channels [B, H, W].
        """
        params = LIFParams(threshold=1.0, leak=self.architecture.leak)
        return run_layers(
            self.architecture, self.mean_colour, pixels, self._current, lambda i: rollout(i, params)
        )

    def _current(self, layer: NeuronLayer, sources: list[torch.Tensor]) -> torch.Tensor:
        names, bias_name = parameter_names(layer)
        current = self.weights[bias_name][None, :, None, None]
        for synapse, name, part in zip(layer.synapses, names, sources, strict=True):
            if name is not None:
                part = functional.conv2d(
                    part,
                    self.weights[name],
                    stride=synapse.stride,
                    padding=synapse.kernel // 2,
                )
            current = current + part
        return current
