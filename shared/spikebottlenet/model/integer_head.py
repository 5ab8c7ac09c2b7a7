"""The head on weights of at most 8 bits and 8-bit currents: a quarter of the file, twice as fast.

The stem is the exact head's (``model.exact``). Every other convolution has weights k * 2^-e with k
in -127 .. 127 (of fewer bits in fewer, in a byte all the same), one e for each output channel, and
meets only spikes, so that its sums are integers. With the threshold at 64 units, [x] for rounding
to the nearest integer (halves to even) and every result held between -64 and 191, what one byte can
say:

    I_t = [m * (sum k * spike + bias)]       m = 64 * 2^-e; a shortcut adds 64 * spike or its own I,
                                             a ``membrane`` one the I of its source
    u_t = [leak * v_{t-1} + I_t]
    s_t = 1 if u_t >= 64 else 0
    v_t = u_t - 64 * s_t, or with a hard reset u_t * (1 - s_t)

The bias is half a unit short, which turns rounding into rounding down: the first timestep then
fires as it would without rounding. All of it is integers and halves far below 2^24, so every
engine on every machine gives the same spikes.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from spikebottlenet.errors import ConfigError
from spikebottlenet.model.architecture import (
    IMAGE,
    Architecture,
    NeuronLayer,
    Synapse,
    head_layers,
)
from spikebottlenet.model.exact import ExactHead, parameter_names, run_layers
from spikebottlenet.model.layers import Reset
from spikebottlenet.model.weight_grid import EIGHT, THRESHOLD, nearest_weights, top_weight

LOWEST = -64  # units; the byte 0
HIGHEST = LOWEST + 255  # units; the byte 255
_QUARTERS = 4
_EXACT = 2**24  # whole numbers below it are exact in float32


def scale_name(weight_name: str) -> str:
    """Name of the units [outputs] that one step of a weight is worth."""
    return weight_name.replace(".weight.", ".scale.")


def quantise_head(
    weights: dict[str, torch.Tensor], architecture: Architecture, bits: int = EIGHT
) -> dict[str, torch.Tensor]:
    """A head on weights of 4 to 8 bits from an exact head's (``fold_head``): no images needed.

    Each channel takes the power of two that errs least. A sum of 63.5 units rounds to 64, as
    64 is even, so a tie fires.

    Raises:
        ConfigError: the leak is not a multiple of 1/4, so sums would not be exact.
    """
    check_eight_bit(architecture)
    folded: dict[str, torch.Tensor] = {}
    for layer in head_layers(architecture):
        names, bias_name = parameter_names(layer)
        bias = weights[bias_name].double() * THRESHOLD - 0.5
        for order, (synapse, name) in enumerate(zip(layer.synapses, names, strict=True)):
            if name is None:
                continue
            if synapse.source == IMAGE:
                folded[name] = weights[name]
                folded[bias_name] = (bias / THRESHOLD).float()
                continue
            added = bias if order == 0 else torch.zeros_like(bias)
            units = weights[name].double() * THRESHOLD
            integers, scale = nearest_weights(units, added, top_weight(bits))
            folded[name] = integers.to(torch.int8)
            folded[scale_name(name)] = scale.float()
            if order == 0:
                folded[bias_name] = torch.round(bias / scale).to(torch.int32)
    return folded


def check_eight_bit(architecture: Architecture) -> None:
    """Refuse a head that cannot run on 8 bits exactly, whatever its weights.

    Raises:
        ConfigError: names the option.
    """
    layers = head_layers(architecture)
    for layer in layers:
        if layer.leak * _QUARTERS % 1:
            raise ConfigError(
                f"leak is {layer.leak}, an 8-bit head wants a multiple of 0.25: train with one, "
                "or keep the float32 head"
            )
        for synapse in layer.synapses:
            if synapse.source == IMAGE or synapse.convolution is None:
                continue
            taps = synapse.inputs // synapse.groups * synapse.kernel**2
            if top_weight(EIGHT) * taps * layers[synapse.source].levels >= _EXACT:
                raise ConfigError(
                    f"residual {architecture.residual.value}: sums of {synapse.convolution} can "
                    "need more bits than a float32 has in an 8-bit head: use another residual "
                    "form, or the float32 head (head_bits: 32)"
                )


@dataclass(frozen=True)
class IntegerHead:
    """The reference of the 8-bit head, in torch."""

    architecture: Architecture
    weights: dict[str, torch.Tensor]
    mean_colour: tuple[int, ...]  # of a frame's channels

    def run(self, pixels: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Run uint8 pixels [B, side, side, samples].

        Returns spikes uint8 [T, B, C, H, W] and, for each neuron layer, its spikes summed over
        timesteps and channels [B, H, W].
        """
        return run_layers(self.architecture, self.mean_colour, pixels, self._current, self._fire)

    def _current(self, layer: NeuronLayer, sources: list[torch.Tensor]) -> torch.Tensor:
        names, bias_name = parameter_names(layer)
        current: torch.Tensor | None = None
        for synapse, name, source in zip(layer.synapses, names, sources, strict=True):
            if name is None:
                part = source if synapse.membrane else _byte(THRESHOLD * source)
            else:
                bias = self.weights[bias_name] if current is None else None
                part = self._convolve(source, name, bias, synapse)
            current = part if current is None else _byte(current + part)
        if current is None:
            raise ValueError(f"layer {layer.name} has no synapse")
        return current

    def _convolve(
        self, source: torch.Tensor, name: str, bias: torch.Tensor | None, synapse: Synapse
    ) -> torch.Tensor:
        scale = self.weights.get(scale_name(name))
        unit = torch.tensor(float(THRESHOLD)) if scale is None else scale[:, None, None]
        sums = functional.conv2d(
            source,
            self.weights[name].float(),
            None if bias is None else bias.float(),
            stride=synapse.stride,
            padding=synapse.kernel // 2,
            groups=synapse.groups,
        )
        return _byte(torch.round(sums * unit))

    def _fire(self, steps: torch.Tensor, layer: NeuronLayer) -> torch.Tensor:
        """Spikes [T, B, C, H, W] of currents in units."""
        rest = torch.zeros_like(steps[0])
        spikes = []
        for step in steps.unbind(0):
            potential = _byte(torch.round(layer.leak * rest + step))
            fired = (potential >= THRESHOLD).float()
            spikes.append(fired)
            hard = self.architecture.reset is Reset.HARD
            rest = potential * (1.0 - fired) if hard else potential - THRESHOLD * fired
        return torch.stack(spikes)


def reference_head(
    architecture: Architecture, weights: dict[str, torch.Tensor], mean_colour: tuple[int, ...]
) -> ExactHead | IntegerHead:
    """The head of a bundle's ``head.safetensors``, by the type of its weights."""
    integer = any(tensor.dtype == torch.int8 for tensor in weights.values())
    return (IntegerHead if integer else ExactHead)(architecture, weights, mean_colour)


def _byte(units: torch.Tensor) -> torch.Tensor:
    return units.clamp(LOWEST, HIGHEST)
