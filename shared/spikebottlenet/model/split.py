"""Head and tail joined for training: images in, logits out, spikes and rates beside."""

from typing import NamedTuple

import torch
from torch import nn

from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.head import SpikingHead
from spikebottlenet.model.neuron import LIFParams
from spikebottlenet.model.tail import Tail


class SplitOutput(NamedTuple):
    """One pass of the whole split network."""

    logits: torch.Tensor  # [B, classes]
    features: torch.Tensor  # [B, F, H, W], the decoder's
    spikes: torch.Tensor  # [T, B, C, H, W], all timesteps, in {0, 1}
    rates: torch.Tensor  # [layers], mean firing rates


class SplitNetwork(nn.Module):
    """The cut network, with the prior that its bottleneck spikes are coded under."""

    def __init__(
        self,
        architecture: Architecture,
        params: LIFParams,
        *,
        fused: bool,
        weight_bits: int | None = None,  # of the head in quantization-aware training
    ) -> None:
        super().__init__()
        self.head = SpikingHead(architecture, params, fused=fused, weight_bits=weight_bits)
        self.tail = Tail(architecture, params, fused=fused)
        self.prior_logits = nn.Parameter(
            torch.full((architecture.timesteps, architecture.channels), -1.0)
        )

    def forward(self, images: torch.Tensor, timesteps: int) -> SplitOutput:
        """Run images [B, 3, H, W] or event frames [B, T * 2, H, W]; of the head's timesteps the
        tail sees the first ``timesteps``.
        """
        spikes, rates = self.head(images)
        features = self.tail.decoder(spikes[:timesteps])
        return SplitOutput(self.tail.classify(features), features, spikes, rates)

    def load_uncut(self, weights: dict[str, torch.Tensor]) -> None:
        """Start from an un-cut network's weights."""
        self.head.load_uncut(weights)
        self.tail.load_uncut(weights)
