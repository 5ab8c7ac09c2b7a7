"""A way around a fault of oneDNN, which writes past its memory in the narrowest networks.

The weight gradient of a strided 1x1 convolution over channels-last memory, with fewer input
channels than one vector register holds floats (8 with AVX2, 16 with AVX-512), goes past the end of
a workspace: the process crashes, or its gradients are wrong. Reported as uxlfoundation/oneDNN#6035.
Only toy networks have such layers; they train without oneDNN.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

_VECTOR = 16  # floats of the widest register


def without_fault(network: nn.Module, device: torch.device) -> AbstractContextManager[None]:
    """Around training: torch's own convolutions, where a layer would be met by it."""
    met = device.type == "cpu" and any(
        isinstance(module, nn.Conv2d)
        and max(module.kernel_size) == 1
        and max(module.stride) > 1
        and module.in_channels < _VECTOR
        for module in network.modules()
    )
    if not met:
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.mkldnn.flags(enabled=False)
    return flags
