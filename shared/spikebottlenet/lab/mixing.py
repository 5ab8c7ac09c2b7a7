"""Mixup and CutMix over a whole batch: each image with a partner, and the share of its own label.

    mixup:  x = share * x + (1 - share) * x'              Zhang et al., arXiv 1710.09412
    cutmix: a rectangle of x, (1 - share) of its area, is x'   Yun et al., arXiv 1905.04899

One share a batch, from Beta(alpha, alpha); with both asked for, each batch draws one of them.
"""

import torch
from torch.nn import functional

from spikebottlenet.lab.config import Schedule


def mix(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    schedule: Schedule,
    classes: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [B, 3, H, W] and targets: class indices [B], or shares [B, classes] where mixed."""
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(schedule, kind) > 0]
    if not kinds:
        return images, labels
    kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
    share = _beta(getattr(schedule, kind), generator)
    partner = torch.randperm(len(labels), generator=generator)
    if kind == "mixup":
        mixed = torch.lerp(images[partner], images, share)
    else:
        mixed, share = _cut(images, partner, share, generator)
    own = functional.one_hot(labels, classes).float()
    return mixed, torch.lerp(own[partner], own, share)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw from Beta(alpha, alpha), by two draws from Gamma(alpha)."""
    first, second = torch._standard_gamma(
        torch.full((2,), alpha, dtype=torch.float64), generator=generator
    ).tolist()
    return float(first / (first + second)) if first + second > 0 else 1.0


def _cut(
    images: torch.Tensor, partner: torch.Tensor, share: float, generator: torch.Generator
) -> tuple[torch.Tensor, float]:
    height, width = images.shape[2:]
    tall, wide = (round(side * (1.0 - share) ** 0.5) for side in (height, width))
    top = int(torch.randint(height - tall + 1, (), generator=generator))
    left = int(torch.randint(width - wide + 1, (), generator=generator))
    mixed = images.clone()
    window = (..., slice(top, top + tall), slice(left, left + wide))
    mixed[window] = images[partner][window]
    return mixed, 1.0 - tall * wide / (height * width)
