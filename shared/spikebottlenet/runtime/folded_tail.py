"""The tail as it runs: norms folded into convolutions, the decoder's timesteps in one convolution.

With a norm's scale g and shift b (each repeated for the pixels that a channel is shuffled to), the
decoder is ``ReLU(pixel_shuffle(sum_{i <= t} g W_i * (s_i / t) + b))``: one convolution over the
t C channels of all timesteps. Equal to ``model.tail`` up to float32's rounding.
"""

import copy

import torch
from torch import nn
from torch.nn import functional

from spikebottlenet.model.blocks import Block
from spikebottlenet.model.tail import Decoder, Tail


class FoldedDecoder(nn.Module):
    """A decoder in one convolution; fewer timesteps use the front of its weights."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.side, self.up, self.block = decoder.side, decoder.up, decoder.block
        norm = decoder.norm
        if norm.running_var is None or norm.running_mean is None:
            raise ValueError("decoder's norm keeps no running statistics: only such can be folded")
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        scale, shift = (part.repeat_interleave(self.up**2) for part in (scale, shift))
        weights = [
            step.get_parameter("weight") * scale[:, None, None, None] for step in decoder.steps
        ]
        self.weight = nn.Parameter(torch.cat(weights, dim=1))
        self.shift = nn.Parameter(shift)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Map spikes [t, B, C, H, W], t <= T, to features [B, F, H * stride, W * stride]."""
        timesteps, images, channels, height, width = spikes.shape
        stacked = spikes.transpose(0, 1).reshape(images, timesteps * channels, height, width)
        stacked = stacked.contiguous(memory_format=torch.channels_last)
        return self.decode(stacked / timesteps)

    def decode(self, rates: torch.Tensor) -> torch.Tensor:
        """Map [B, t * C, H, W], each timestep's spikes over t, to the same features."""
        weight = self.weight[:, : rates.shape[1]]
        features = functional.conv2d(rates, weight, self.shift, padding=weight.shape[-1] // 2)
        features = functional.pixel_shuffle(features, self.up)[..., : self.side, : self.side]
        features = features.contiguous(memory_format=torch.channels_last)
        return self.block(functional.relu(features, inplace=True))  # type: ignore[no-any-return]


def fold_tail(tail: Tail) -> nn.Module:
    """A folded copy of a tail, in evaluation.

    It maps spikes [t, B, C, H, W], t <= T, to logits [B, classes].
    """
    folded = copy.deepcopy(tail).eval()
    for block in folded.modules():
        if isinstance(block, Block):
            block.fold_norms()
    with torch.no_grad():
        folded.add_module("decoder", FoldedDecoder(folded.decoder))
    return folded.requires_grad_(False)
