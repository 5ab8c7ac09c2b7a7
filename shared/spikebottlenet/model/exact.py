"""The head as it runs: norms folded into convolutions, on a grid where float32 sums are exact.

Each output channel's weights and bias are whole multiples k * 2^-s of one power of two. With a leak
that is a multiple of 2^-b, a membrane potential after t timesteps is one of 2^-(s + b (t - 1)), and
it stays below the current's bound times g = 1 + leak + ... + leak^(T - 1). So s is the largest for
which no potential can need more than float32's 24 bits:

    (g * (sum |k| * max |input| + |bias|) + 1) * 2^(b (T - 1)) < 2^24     in units of 2^-s

Every partial sum is then exact in any order, so every engine on every machine gives the same
spikes. The pixels' mean, rounded to a whole number, is taken off first and their deviation is
folded into the first convolution; the threshold is folded to 1, a shortcut's spike is one. Layers
that hand a current on to one another (``membrane`` shortcuts) share one s. Where no s is small
enough (a leak of many digits, too many timesteps), folding is refused: nothing runs that is not
exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from spikebottlenet.errors import ConfigError
from spikebottlenet.model.architecture import IMAGE, Architecture, NeuronLayer, head_layers
from spikebottlenet.model.head import SpikingHead, by_frame, sent_on
from spikebottlenet.model.neuron import LIFParams, rollout

_EXACT_BITS = 24
_MOST_LEAK_BITS = 8
_PIXEL_MAX = 255
_NORM_EPSILON = 1e-5  # of nn.BatchNorm2d


@dataclass(frozen=True)
class PixelScale:
    """How training saw samples: mean and deviation of samples / 255, of each channel of a frame."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def mean_colour(self) -> tuple[int, ...]:
        """Mean sample of each channel as a whole number: what is taken off."""
        return tuple(round(_PIXEL_MAX * channel) for channel in self.mean)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 [B, H, W, C] to float32 channels-last [B, C, H, W]: (x / 255 - mean) / std.

        C is the channels of one frame or of several.
        """
        frames = images.shape[-1] // len(self.mean)
        mean, deviation = (torch.tensor(each).repeat(frames) for each in (self.mean, self.std))
        scaled = images.to(torch.float32) / _PIXEL_MAX - mean
        return (scaled / deviation).permute(0, 3, 1, 2)


def parameter_names(layer: NeuronLayer) -> tuple[list[str | None], str]:
    """Names of a layer's weights, one a synapse (None for an identity), and of its bias."""
    weights = [
        None if synapse.convolution is None else f"{layer.name}.weight.{index}"
        for index, synapse in enumerate(layer.synapses)
    ]
    return weights, f"{layer.name}.bias"


@dataclass
class _Folding:
    """One layer on its way to the grid: float64, normalised to threshold 1."""

    weights: list[torch.Tensor]
    bias: torch.Tensor  # [outputs]
    bound: torch.Tensor  # [outputs]; no current is above it
    half_steps: float  # what rounding can add to it, in units of the grid
    exponent: torch.Tensor  # [outputs], s


def fold_head(
    head: SpikingHead, architecture: Architecture, pixels: PixelScale
) -> dict[str, torch.Tensor]:
    """Exact float32 weights and biases of every layer, by ``parameter_names``.

    ``architecture`` has the constants that the head has learned (``SpikingHead.learned``).

    Raises:
        ConfigError: the leak or the number of timesteps leaves no grid that is exact.
    """
    check_exact(architecture)
    layers = head_layers(architecture)
    state = {name.replace("/", "."): value for name, value in head.state_dict().items()}
    foldings: list[_Folding] = []
    chain = list(range(len(layers)))  # first layer of those that share currents with this one
    for index, layer in enumerate(layers):
        folding = _fold_layer(layer, layers, state, pixels)
        for synapse in layer.synapses:
            if synapse.membrane:
                before = foldings[synapse.source]
                folding.bound += before.bound
                folding.half_steps += before.half_steps
                chain[index] = chain[synapse.source]
        room = _room(layer, architecture.timesteps, folding.half_steps)
        growth = _growth(layer.leak, architecture.timesteps)
        folding.exponent = torch.floor(torch.log2(room / (growth * folding.bound + 1.0)))
        foldings.append(folding)
        shared = foldings[chain[index]]
        shared.exponent = torch.minimum(shared.exponent, folding.exponent)
    folded: dict[str, torch.Tensor] = {}
    for index, (layer, folding) in enumerate(zip(layers, foldings, strict=True)):
        names, bias_name = parameter_names(layer)
        step = torch.pow(2.0, -foldings[chain[index]].exponent)
        grid = step[:, None, None, None]
        remaining = iter(folding.weights)
        for name in names:
            if name is not None:
                folded[name] = (torch.round(next(remaining) / grid) * grid).float()
        folded[bias_name] = (torch.round(folding.bias / step) * step).float()
    return folded


def _fold_layer(
    layer: NeuronLayer,
    layers: tuple[NeuronLayer, ...],
    state: dict[str, torch.Tensor],
    pixels: PixelScale,
) -> _Folding:
    """A layer with its norms folded; what other layers' currents add to its bound is left out."""
    weights: list[torch.Tensor] = []
    bias = torch.zeros(layer.channels, dtype=torch.float64)
    bound = torch.zeros(layer.channels, dtype=torch.float64)
    for synapse in layer.synapses:
        if synapse.convolution is None:
            bound += 0.0 if synapse.membrane else float(layers[synapse.source].levels)
            continue
        norm = {
            part: state[f"norms.{synapse.norm}.{part}"].double()
            for part in ("weight", "bias", "running_mean", "running_var")
        }
        scale = norm["weight"] / (norm["running_var"] + _NORM_EPSILON).sqrt()
        weight = state[f"convolutions.{synapse.convolution}.weight"].double()
        weight = weight * scale[:, None, None, None] / layer.threshold
        bias += (norm["bias"] - scale * norm["running_mean"]) / layer.threshold
        if synapse.source == IMAGE:
            colour = torch.tensor(pixels.mean_colour, dtype=torch.float64)
            mean = _PIXEL_MAX * torch.tensor(pixels.mean, dtype=torch.float64)
            deviation = _PIXEL_MAX * torch.tensor(pixels.std, dtype=torch.float64)
            weight = weight / deviation[None, :, None, None]
            bias += (weight.sum(dim=(2, 3)) * (colour - mean)).sum(1)
            reach = torch.maximum(colour, _PIXEL_MAX - colour)
            bound += (weight.abs().sum(dim=(2, 3)) * reach).sum(1)
        else:
            bound += weight.abs().flatten(1).sum(1) * layers[synapse.source].levels
        weights.append(weight)
    return _Folding(weights, bias, bound + bias.abs(), _half_steps(layer, layers), bias)


def check_exact(architecture: Architecture) -> None:
    """Refuse a head that no grid makes exact, whatever its weights.

    Raises:
        ConfigError: names the layer, its leak and the timesteps.
    """
    layers = head_layers(architecture)
    half_steps: list[float] = []
    for layer in layers:
        own = _half_steps(layer, layers)
        own += sum(half_steps[s.source] for s in layer.synapses if s.membrane)
        half_steps.append(own)
        _room(layer, architecture.timesteps, own)


def _half_steps(layer: NeuronLayer, layers: tuple[NeuronLayer, ...]) -> float:
    """What rounding every weight and the bias up by half a step can add to a current, in steps."""
    taps = 1.0
    for synapse in layer.synapses:
        if synapse.convolution is not None:
            largest = _PIXEL_MAX if synapse.source == IMAGE else layers[synapse.source].levels
            taps += synapse.inputs // synapse.groups * synapse.kernel**2 * largest
    return taps / 2.0


def _growth(leak: float, timesteps: int) -> float:
    """What a current's bound is multiplied by to bound the membrane potential."""
    return sum(leak**t for t in range(timesteps))


def _room(layer: NeuronLayer, timesteps: int, half_steps: float) -> float:
    """Units that a potential may have before the last timesteps' finer ones, rounding taken off."""
    lost = 0
    if timesteps > 1:
        fits = (b for b in range(_MOST_LEAK_BITS + 1) if layer.leak * 2**b % 1 == 0)
        bits = next(fits, None)
        if bits is None:
            raise ConfigError(
                f"leak {layer.leak} of layer {layer.name}: its potentials need more bits than a "
                "float32 has, so engines would not agree on spikes; "
                f"use {round(layer.leak * 16) / 16} (a multiple of 1/16), or 1 timestep"
            )
        lost = bits * (timesteps - 1)
    units = 2.0 ** (_EXACT_BITS - lost)
    room = units - _growth(layer.leak, timesteps) * half_steps
    if room < units / 2:  # a grid that is exact, and so coarse that rounding is most of it
        raise ConfigError(
            f"leak {layer.leak} of layer {layer.name} over {timesteps} timesteps: its potentials "
            "need more bits than a float32 has, so engines would not agree on spikes; use fewer "
            "timesteps, or a leak of fewer binary digits (0.5; 0 and 1 cost none)"
        )
    return room


Current = Callable[[NeuronLayer, list[torch.Tensor]], torch.Tensor]
Fire = Callable[[torch.Tensor, NeuronLayer], torch.Tensor]


def run_layers(
    architecture: Architecture,
    mean_colour: tuple[int, ...],
    pixels: torch.Tensor,
    current: Current,
    fire: Fire,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Run a folded head's layers on uint8 pixels [B, side, side, samples].

    ``current`` maps a layer and what its synapses see, [T * B, C, H, W] each (an image: [B, 3, H,
    W]), to its current; ``fire`` maps currents [T, B, C, H, W] of a layer to spikes. Returns spikes
    uint8 [T, B, C, H, W] and, for each layer, what it sends on, summed over timesteps and channels
    [B, H, W].
    """
    timesteps, frames = architecture.timesteps, architecture.frames
    colour = torch.tensor(mean_colour, dtype=torch.float32).repeat(frames)
    image = by_frame((pixels.to(torch.float32) - colour).permute(0, 3, 1, 2), frames)
    spikes: list[torch.Tensor] = []
    currents: list[torch.Tensor] = []
    for layer in head_layers(architecture):
        sources = [
            image if s.source == IMAGE else (currents if s.membrane else spikes)[s.source]
            for s in layer.synapses
        ]
        found = current(layer, sources)
        if layer.synapses[0].source == IMAGE and frames < timesteps:
            found = found.expand(timesteps, *found.shape).flatten(0, 1)
        fired = fire(found.unflatten(0, (timesteps, -1)), layer).flatten(0, 1)
        currents.append(found)
        spikes.append(sent_on(layer, fired, spikes))
    activity = [layer.unflatten(0, (timesteps, -1)).sum(dim=(0, 2)) for layer in spikes]
    return spikes[-1].unflatten(0, (timesteps, -1)).to(torch.uint8), activity


@dataclass(frozen=True)
class ExactHead:
    """The reference: the folded head in torch, float32."""

    architecture: Architecture
    weights: dict[str, torch.Tensor]
    mean_colour: tuple[int, ...]  # of a frame's channels

    def run(self, pixels: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Run uint8 pixels [B, side, side, samples].

        Returns spikes uint8 [T, B, C, H, W] and, for each neuron layer, what it sends on, summed
        over timesteps and channels [B, H, W].
        """
        return run_layers(self.architecture, self.mean_colour, pixels, self._current, self._fire)

    def _fire(self, steps: torch.Tensor, layer: NeuronLayer) -> torch.Tensor:
        reset = self.architecture.reset
        return rollout(steps, LIFParams(threshold=1.0, leak=layer.leak, reset=reset))

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
                    groups=synapse.groups,
                )
            current = current + part
        return current
