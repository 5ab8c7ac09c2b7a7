"""The fair rival on energy: an ordinary head of 8-bit weights and features, sending 8-bit symbols.

It is a trained BottleNet++ put on 8 bits without training on: weights with a scale an output
channel, what each convolution of head and encoder takes with one scale, calibrated on training
images; the image is 8-bit as it is. Biases and sums are taken for exact (32 bits). Energy: 0.23 pJ
a multiply-accumulate (8-bit multiply 0.2, add 0.03; 45 nm, Horowitz, ISSCC 2014).
"""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from spikebottlenet.accounting.energy import PJ_PER_UJ
from spikebottlenet.accounting.operations import ann_head_macs
from spikebottlenet.lab.baselines.bottlenetpp import (
    BottleNetPP,
    Symbols,
    both_codings,
    encoder_macs,
)
from spikebottlenet.lab.baselines.ground import Ground
from spikebottlenet.lab.baselines.quantise import CLIPS, levels, rounded_weights, scale_for
from spikebottlenet.lab.baselines.training import accuracy
from spikebottlenet.lab.results import EnergyEstimate, Method, Point
from spikebottlenet.lab.subject import INT8_MAC_PJ, INT8_MODEL

BITS = 8
_CALIBRATION = 200  # training images


def head_convolutions(network: BottleNetPP) -> list[nn.Conv2d]:
    """Convolutions that run on the edge, the one that sees the image first."""
    used: list[nn.Conv2d] = []
    hooks = [
        module.register_forward_pre_hook(lambda m, _: used.append(m))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        first = next(m for m in network.uncut.modules() if isinstance(m, nn.Conv2d))
        image = torch.zeros(1, first.in_channels, 32, 32)
        network.encode(network.uncut.features(image, network.cut))
    for hook in hooks:
        hook.remove()
    return used


def eight_bit_head(ground: Ground, trained: BottleNetPP) -> BottleNetPP:
    """The network with head and encoder on 8 bits; the clip is chosen on held-out images."""
    best, found = trained, -1.0
    seen = _seen_inputs(ground, trained)
    for clip in CLIPS:
        network = copy.deepcopy(trained)
        for index, convolution in enumerate(head_convolutions(network)):
            convolution.weight.data = rounded_weights(convolution.weight.data, BITS)
            if index:  # the first one's input is the image's own 8 bits
                _round_input(convolution, scale_for(seen[index], clip, BITS))
        right = accuracy(ground, network)
        if right >= found:
            best, found = network, right
    return best


def _round_input(convolution: nn.Conv2d, scale: float) -> None:
    convolution.register_forward_pre_hook(
        lambda _, inputs: (levels(inputs[0], scale, BITS) * scale,)
    )


def _seen_inputs(ground: Ground, network: BottleNetPP) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    hooks = [
        each.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
        for each in head_convolutions(network)
    ]
    chosen = ground.train_split.sample(_CALIBRATION).images
    images = torch.from_numpy(np.ascontiguousarray(chosen))
    with torch.inference_mode():
        features = network.uncut.features(ground.pixels.normalise(images), network.cut)
        network.encode(features)
    for hook in hooks:
        hook.remove()
    return seen


def integer_points(
    ground: Ground, trained: Sequence[tuple[Symbols, BottleNetPP]], *, command: str
) -> Iterator[Point]:
    """Two points for each trained network."""
    ordinary = ann_head_macs(ground.architecture)
    for symbols, network in trained:
        energy = EnergyEstimate(
            model=INT8_MODEL,
            edge_uj=round((ordinary + encoder_macs(ground, symbols)) * INT8_MAC_PJ / PJ_PER_UJ, 4),
        )
        log = f"{symbols.log}.jsonl"
        yield from both_codings(
            ground,
            eight_bit_head(ground, network),
            symbols,
            Method.INTEGER,
            energy,
            log=log,
            command=command,
            chosen_on=ground.chosen_on,
        )
