"""The spiking head with its features passed whole: what the bottleneck costs is told against it.

    bottleneck drop = top-1 with features passed whole - top-1 with the bottleneck

The trained head stays as it is. Its last stage's spikes, [T, F, H, W], cross the cut one bit a site
through Zstandard, to a tail of the same build whose decoder takes F channels; that tail is trained
by the cut network's own schedule and under the same teacher, from the un-cut network's weights. The
head is the trained float32 one, also where a run exports 8-bit weights.
"""

import numpy as np
import torch
from torch import nn

from spikebottlenet.accounting.operations import (
    dense_accumulates,
    fixed_accumulates,
    stem_macs,
)
from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.baselines.features import zstd_bytes
from spikebottlenet.lab.baselines.ground import CUT_WEIGHTS, Ground, network_state
from spikebottlenet.lab.baselines.tally import Answers, count, rival_point
from spikebottlenet.lab.baselines.training import train_rival
from spikebottlenet.lab.bundle_point import head_estimates
from spikebottlenet.lab.results import Method, Point
from spikebottlenet.model.head import SpikingHead
from spikebottlenet.model.layers import Residual
from spikebottlenet.model.tail import Tail

_NAME = "features-whole"
_BARELY = 1.001  # times the threshold: a spike in is a spike out, and nearly nothing stays


class WholeNetwork(nn.Module):
    """The trained head up to the cut, frozen, and a tail of its own."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        own = ground.architecture
        if own.residual is Residual.SEW_ADD:
            raise ConfigError(
                "residual sew_add sends counts above 1, which no bit a site can hold: leave "
                "'whole' out with --only"
            )
        self.architecture = own.model_copy(update={"channels": own.cut_channels, "stride": 1})
        params = ground.config.neuron.lif_params()
        self.head = SpikingHead(self.architecture, params, fused=ground.config.neuron.fused)
        trained = network_state(ground.run / CUT_WEIGHTS)
        head = {n.removeprefix("head."): v for n, v in trained.items() if n.startswith("head.")}
        last = f"neurons.{len(self.head.layers) - 1}."  # the encoder's own learned constants
        kept = {n: v for n, v in head.items() if "encoder" not in n and not n.startswith(last)}
        self.head.load_state_dict(kept, strict=False)
        self._pass_on(params.threshold)
        self.head.requires_grad_(False)
        self.tail = Tail(self.architecture, params, fused=ground.config.neuron.fused)
        self.tail.load_uncut(ground.uncut.state_dict())

    def _pass_on(self, threshold: float) -> None:
        """Make the encoder hand on each spike of its input, channel by channel."""
        convolution = self.head.get_submodule("convolutions.encoder/conv")
        norm = self.head.get_submodule("norms.encoder/bn")
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            raise TypeError("the head's encoder is not a convolution and a batch norm")
        nn.init.dirac_(convolution.weight)
        norm.reset_parameters()
        gain = _BARELY * threshold * (1.0 + norm.eps) ** 0.5
        with torch.no_grad():
            norm.weight.fill_(gain)

    def train(self, mode: bool = True) -> "WholeNetwork":
        """Only the tail trains."""
        super().train(mode)
        self.head.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalised images [B, 3, H, W] to logits [B, classes]."""
        logits: torch.Tensor = self.tail(self.head(images).spikes)
        return logits


def whole_point(ground: Ground, *, command: str) -> Point:
    """Train the tail (kept, and taken up again) and measure it once."""
    torch.manual_seed(ground.config.seed)
    network = WholeNetwork(ground)
    train_rival(ground, network, _NAME, taught=True)
    network.eval()
    rates = torch.zeros(len(network.head.layers), dtype=torch.float64)

    def answer(images: torch.Tensor) -> Answers:
        output = network.head(ground.pixels.normalise(images))
        rates.add_(output.rates.double() * len(images))
        first = output.spikes.transpose(0, 1).flatten(1).to(torch.uint8).numpy()
        return Answers(network.tail(output.spikes), zstd_bytes(np.packbits(first, axis=1)))

    found = count(answer, ground.test, title="features whole")
    own = dense_accumulates(ground.architecture)
    full = torch.from_numpy(own)
    full[-2:] = 0  # the encoder is not run, so what feeds it makes no accumulate
    adds = float((rates / len(ground.test) * full).sum()) + fixed_accumulates(ground.architecture)
    return rival_point(
        ground,
        Method.SPIKES_WHOLE,
        "features whole + zstd",
        found,
        bits=network.architecture.spike_shape.bits,
        energy=head_estimates(ground.architecture, stem_macs(ground.architecture), adds),
        log=f"{_NAME}.jsonl",
        command=command,
    )
