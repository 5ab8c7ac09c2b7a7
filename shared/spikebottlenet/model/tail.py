"""The tail: the decoder, the stages after the cut and the classifier.

Decoder, for the first t of T timesteps of spikes s (each convolution W_i has weights of its own):

    d = ReLU(BN(pixel_shuffle((1 / t) * sum_{i <= t} W_i * s_i)))

then one block of the backbone's kind. Any t from 1 to T is a valid input, so a message may stop at
any timestep. The stages are an ordinary network, or spike (``tail: snn``): the decoder's features
are then the constant current of LIF neurons, whose spikes the stages' blocks take for T timesteps,
and the classifier sees the firing rates of the last ones.
"""

import torch
from torch import nn
from torch.nn import functional

from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.backbones import same_block
from spikebottlenet.model.blocks import Block, make_stage
from spikebottlenet.model.layers import TailKind
from spikebottlenet.model.neuron import LIF, LIFParams


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class Decoder(nn.Module):
    """Bottleneck spikes to the features that the tail's first stage takes."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        features, up = architecture.cut_channels, architecture.stride
        self.side = architecture.cut_side
        self.up = up
        self.steps = nn.ModuleList(
            nn.Conv2d(architecture.channels, features * up * up, 3, padding=1, bias=False)
            for _ in range(architecture.timesteps)
        )
        self.norm = nn.BatchNorm2d(features)
        self.block = Block(same_block(architecture.backbone, features), act=_relu)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Map spikes [t, B, C, H, W], t <= T, to features [B, F, H * stride, W * stride]."""
        total = torch.stack(
            [step(part) for step, part in zip(self.steps, spikes.unbind(0), strict=False)]
        ).mean(0)
        features: torch.Tensor = functional.pixel_shuffle(total, self.up)
        # A stride that does not divide the side left the encoder's last window half outside.
        features = features[..., : self.side, : self.side]
        features = features.contiguous(memory_format=torch.channels_last)
        return self.block(functional.relu(self.norm(features)))  # type: ignore[no-any-return]


class Tail(nn.Module):
    """Everything that runs in the cloud."""

    def __init__(
        self, architecture: Architecture, params: LIFParams | None = None, *, fused: bool = False
    ) -> None:
        """``params`` and ``fused`` are for training a spiking tail: they say how gradients pass."""
        super().__init__()
        self.timesteps = architecture.timesteps
        self.spiking = architecture.tail is TailKind.SNN
        # Constants are learned in the head alone.
        constants = (params or LIFParams())._replace(
            threshold=architecture.threshold,
            leak=architecture.leak,
            reset=architecture.reset,
            learn_threshold=False,
            learn_leak=False,
        )

        def neurons() -> nn.Module:
            return LIF(constants, timesteps=architecture.timesteps, fused=fused)

        self.decoder = Decoder(architecture)
        self.neurons = neurons() if self.spiking else nn.Identity()
        act = neurons if self.spiking else _relu
        stages = architecture.stages
        self.stages = nn.ModuleDict(
            {stage.name: make_stage(stage, act=act) for stage in stages[architecture.after_stage :]}
        )
        self.fc = nn.Linear(stages[-1].outputs, architecture.classes)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Map features at the cut [B, F, H, W] to logits [B, classes]."""
        if self.spiking:
            features = self.neurons(features.repeat(self.timesteps, 1, 1, 1))
        for stage in self.stages.values():
            features = stage(features)
        pooled = features.mean(dim=(2, 3))
        if self.spiking:
            pooled = pooled.unflatten(0, (self.timesteps, -1)).mean(0)
        logits: torch.Tensor = self.fc(pooled)
        return logits

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Map spikes [t, B, C, H, W] in {0, 1}, t <= T, to logits [B, classes]."""
        return self.classify(self.decoder(spikes))

    def load_uncut(self, weights: dict[str, torch.Tensor]) -> None:
        """Start from an un-cut network's weights; the decoder keeps its own."""
        wanted = self.state_dict()
        renamed = {
            (name if name.startswith("fc.") else f"stages.{name}"): value
            for name, value in weights.items()
        }
        self.load_state_dict({**wanted, **{k: v for k, v in renamed.items() if k in wanted}})
