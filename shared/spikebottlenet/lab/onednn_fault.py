"""A way around a fault of oneDNN, which writes past its memory in the narrowest networks.

The weight gradient of a strided 1x1 convolution over channels-last memory, with fewer input
channels than one vector register holds floats (8 with AVX2, 16 with AVX-512), goes past the end of
a workspace: the process crashes, or its gradients are wrong. Reported as uxlfoundation/oneDNN#6035.
Only toy networks have such layers; they train without oneDNN, and on one thread, as torch's own
convolutions of that size lose far more to a second thread than they gain.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_WIDE, _NARROW = 16, 8  # floats of a register with AVX-512, and without


@contextmanager
def without_fault(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Around training: torch's own convolutions, where a layer would be met by it."""
    vector = _WIDE if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else _NARROW
    met = device.type == "cpu" and any(
        isinstance(module, nn.Conv2d)
        and max(module.kernel_size) == 1
        and max(module.stride) > 1
        and module.in_channels < vector
        for module in network.modules()
    )
    if not met:
        yield
        return
    before, threads = torch._C._get_mkldnn_enabled(), torch.get_num_threads()
    # `torch.backends.mkldnn.flags` warns of Intel GPUs, whatever is set by it.
    torch._C._set_mkldnn_enabled(False)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)
        torch.set_num_threads(threads)
