"""Deep convolutions, over few sites and many channels, trained as matrix products.

oneDNN's bfloat16 convolutions lose most of the processor there: the weight gradient at 3 x 3 sites
and 512 channels runs at a tenth of a matrix product's rate, the other two passes at half of it. So
the inputs are laid out as the columns that each output sees [B * sites, kernel^2 * inputs], and
weight gradients, and in the deepest layers all three passes, are products with them. Precision is
the same. float32 gains nothing and keeps to oneDNN. `spikebottlenet bench train` has the ratio.
Source: Chellapilla et al., "High Performance Convolutional Neural Networks for Document
Processing", 2006.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

# Where products were measured to win, in output channels for each output site.
_WEIGHT_CHANNELS, _ALL_CHANNELS = 4, 32


def columns(images: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """What each output site sees of [B, C, H, W], padded: [B * sites, kernel^2 * C]."""
    edge = kernel // 2
    padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, edge, edge, edge, edge))
    seen = padded.unfold(1, kernel, stride).unfold(2, kernel, stride)  # [B, Ho, Wo, C, k, k]
    return seen.permute(0, 1, 2, 4, 5, 3).reshape(-1, kernel * kernel * images.shape[1])


def overlaid(seen: torch.Tensor, shape: torch.Size, kernel: int, stride: int) -> torch.Tensor:
    """Sum of columns where they lie in [B, C, H, W] of ``shape``: the adjoint of ``columns``."""
    batch, channels, height, width = shape
    edge = kernel // 2
    rows, across = -(-height // stride), -(-width // stride)
    windows = seen.view(batch, rows, across, kernel, kernel, channels)
    padded = seen.new_zeros(batch, height + 2 * edge, width + 2 * edge, channels)
    for i in range(kernel):
        for j in range(kernel):
            padded[:, i : i + stride * rows : stride, j : j + stride * across : stride] += windows[
                :, :, :, i, j
            ]
    return padded[:, edge : edge + height, edge : edge + width].permute(0, 3, 1, 2)


class _DeepConv(torch.autograd.Function):
    """``whole``: all three passes are products, not the weight gradient alone."""

    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, weight: torch.Tensor, stride: int, whole: bool
    ) -> torch.Tensor:
        ctx.stride, ctx.shape = stride, images.shape
        outputs, kernel = len(weight), weight.shape[-1]
        if not whole:
            ctx.save_for_backward(images, weight, None)
            return functional.conv2d(images, weight, None, stride, kernel // 2)
        seen = columns(images, kernel, stride)
        ctx.save_for_backward(None, weight, seen)
        rows, across = (-(-side // stride) for side in images.shape[2:])
        flat = seen @ _flat(weight).T
        return flat.view(len(images), rows, across, outputs).permute(0, 3, 1, 2)

    @staticmethod
    def backward(
        ctx: Any, *grads: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        images, weight, seen = ctx.saved_tensors
        kernel, stride, at_images, at_weight = weight.shape[-1], ctx.stride, None, None
        flat = grads[0].permute(0, 2, 3, 1).reshape(-1, len(weight))
        if ctx.needs_input_grad[0] and seen is not None:
            at_images = overlaid(flat @ _flat(weight), ctx.shape, kernel, stride)
        elif ctx.needs_input_grad[0]:
            at_images = conv2d_input(ctx.shape, weight, grads[0], stride, kernel // 2)
        if ctx.needs_input_grad[1]:
            seen = columns(images, kernel, stride) if seen is None else seen
            at_weight = (flat.T @ seen).view(len(weight), kernel, kernel, -1).permute(0, 3, 1, 2)
        return at_images, at_weight, None, None


def _flat(weight: torch.Tensor) -> torch.Tensor:
    """[O, C, k, k] in the order of columns: [O, k^2 * C]."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _forward(module: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    stride, outputs = module.stride[0], module.out_channels
    sites = -(-images.shape[2] // stride) * -(-images.shape[3] // stride)
    small = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if not (small and torch.is_grad_enabled() and sites * _WEIGHT_CHANNELS <= outputs):
        return nn.Conv2d.forward(module, images)
    # torch leaves Function.apply untyped.
    found: torch.Tensor = _DeepConv.apply(  # type: ignore[no-untyped-call]
        images.to(torch.bfloat16),
        module.weight.to(torch.bfloat16),
        stride,
        sites * _ALL_CHANNELS <= outputs,
    )
    return found


def _fits(module: nn.Conv2d) -> bool:
    return (
        module.groups == 1
        and module.bias is None
        and module.kernel_size == (3, 3)
        and module.padding == (1, 1)
        and module.dilation == (1, 1)
        and module.stride[0] == module.stride[1]
    )


@contextmanager
def deep_convolutions(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Around training on a processor: the deep convolutions of ``network`` run as products."""
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    chosen = [each for each in convolutions if _fits(each)] if device.type == "cpu" else []
    for module in chosen:
        # Of this object, found before its class's.
        module.forward = partial(_forward, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in chosen:
            del module.forward
