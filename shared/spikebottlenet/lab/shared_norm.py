"""Batch norm over the batches of all processes at once, on any device.

torch's SyncBatchNorm is for CUDA alone. Statistics are those of the whole batch:

    mean = mean over processes of their means;  var = mean of their mean squared deviations from it

so that the gradient and the running statistics are one process's. Every process's batch has the
same size (``Workers.share``).
"""

from typing import Any

import torch
from torch import distributed, nn


class _MeanOverProcesses(torch.autograd.Function):
    """The mean over processes; its gradient is the mean of all processes' gradients."""

    @staticmethod
    def forward(_: Any, value: torch.Tensor) -> torch.Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total / distributed.get_world_size()

    @staticmethod
    def backward(_: Any, *grads: torch.Tensor) -> torch.Tensor:
        total = grads[0].contiguous().clone()
        distributed.all_reduce(total)
        return total / distributed.get_world_size()


def _mean(value: torch.Tensor) -> torch.Tensor:
    # torch leaves Function.apply untyped.
    shared: torch.Tensor = _MeanOverProcesses.apply(value)  # type: ignore[no-untyped-call]
    return shared


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of all processes; alone, or in evaluation, torch's own."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalise [B, C, H, W]."""
        if not self.training or not distributed.is_initialized():
            return super().forward(features)
        wide = features if features.dtype == torch.float64 else features.float()
        mean = _mean(wide.mean(dim=(0, 2, 3)))
        centred = wide - mean[:, None, None]
        variance = _mean(centred.square().mean(dim=(0, 2, 3)))
        self._remember(mean, variance, wide.numel() // wide.shape[1])
        scale = torch.rsqrt(variance + self.eps)
        normal = centred * (scale * self.weight)[:, None, None] + self.bias[:, None, None]
        return normal.to(features.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, local: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        count = local * distributed.get_world_size()
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 0.1
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), share)


def share_norms(network: nn.Module) -> None:
    """Let every plain batch norm count all processes; weights and their names stay."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
