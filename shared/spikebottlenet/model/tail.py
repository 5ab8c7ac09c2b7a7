"""The tail: the decoder, the stages after the cut and the classifier, as an ordinary network.

Decoder, for the first t of T timesteps of spikes s (each convolution W_i has weights of its own):

    d = ReLU(BN(pixel_shuffle((1 / t) * sum_{i <= t} W_i * s_i)))

then one basic block. Any t from 1 to T is a valid input, so a message may stop at any timestep.
"""

import torch
from torch import nn
from torch.nn import functional

from spikebottlenet.model.architecture import STAGES, Architecture, stage_channels
from spikebottlenet.model.resnet import BasicBlock, make_stage


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
        self.block = BasicBlock(features, features, stride=1, act=_relu)

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

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.decoder = Decoder(architecture)
        self.stages = nn.ModuleDict(
            {
                f"layer{stage}": make_stage(stage, width=architecture.width, act=_relu)
                for stage in range(architecture.after_stage + 1, STAGES + 1)
            }
        )
        self.fc = nn.Linear(stage_channels(architecture.width, STAGES), architecture.classes)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Map features at the cut [B, F, H, W] to logits [B, classes]."""
        for stage in self.stages.values():
            features = stage(features)
        logits: torch.Tensor = self.fc(features.mean(dim=(2, 3)))
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
