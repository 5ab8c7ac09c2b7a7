"""Terms of the cut network's loss, each a function of what a pass gave.

Kilobits: entropy of the bottleneck spikes of one image under a learned prior for each timestep and
channel. Microjoules: mean firing rates times each layer's fan-out, 0.9 pJ an accumulate.
Distillation: Hinton et al., arXiv 1503.02531; of shorter prefixes by the longest: after Zhang et
al., "Be Your Own Teacher", arXiv 1905.08094.
"""

import math

import torch
from torch.nn import functional

from spikebottlenet.model.split import SplitOutput


def bits_per_image(output: SplitOutput, prior_logits: torch.Tensor, sites: int) -> torch.Tensor:
    """Entropy of one image's spikes [T, B, C, H, W] under the prior, scaled to ``sites`` sites."""
    spikes = output.spikes.float()
    nats = functional.binary_cross_entropy_with_logits(
        prior_logits[:, None, :, None, None].expand_as(spikes), spikes, reduction="mean"
    )
    return nats / math.log(2.0) * sites


def distillation_loss(
    logits: torch.Tensor, teacher: torch.Tensor, temperature: float
) -> torch.Tensor:
    """KL divergence from the teacher at a temperature, times its square to keep gradients' size."""
    divergence = functional.kl_div(
        functional.log_softmax(logits / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def task_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    teacher: torch.Tensor | None,
    *,
    share: float,
    temperature: float,
    label_smoothing: float,
) -> torch.Tensor:
    """A teacher's ``share`` of distillation, the rest cross-entropy; without one, all of that."""
    labelled = functional.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    if teacher is None:
        return labelled
    return share * distillation_loss(logits, teacher, temperature) + (1.0 - share) * labelled


def ramp_factor(progress: float, ramp: float) -> float:
    """What lambdas are multiplied by at ``progress`` in [0, 1): linear up to 1 at ``ramp``."""
    return min(progress / ramp, 1.0) if ramp > 0 else 1.0


def batch_top1(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Percent of a batch whose greatest logit is the label's."""
    return 100.0 * (logits.argmax(1) == labels).float().mean()
