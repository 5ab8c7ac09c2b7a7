"""A way around a fault of oneDNN, which writes past its memory in the narrowest networks.

The weight gradient of a strided 1x1 convolution over channels-last memory, with fewer input
channels than one vector register holds floats (8 with AVX2, 16 with AVX-512), goes past the end of
a workspace: the process crashes, or its gradients are wrong. Reported as uxlfoundation/oneDNN#6035.
Only toy networks have such layers; they train without oneDNN.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_VECTOR = 16  # floats of the widest register


@contextmanager
def without_fault(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Around training: torch's own convolutions, where a layer would be met by it."""
    met = device.type == "cpu" and any(
        isinstance(module, nn.Conv2d)
        and max(module.kernel_size) == 1
        and max(module.stride) > 1
        and module.in_channels < _VECTOR
        for module in network.modules()
    )
    before = torch._C._get_mkldnn_enabled()
    # `torch.backends.mkldnn.flags` warns of Intel GPUs, whatever is set by it.
    torch._C._set_mkldnn_enabled(before and not met)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)
