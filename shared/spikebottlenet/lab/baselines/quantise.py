"""Uniform quantisation, as integers that are sent and as the real numbers that they stand for.

    q = round(clamp(x / scale, 0, 2^bits - 1))        x' = q * scale        x >= 0

Weights are signed, one scale an output channel. A norm behind a convolution scales whole channels,
so quantising its weights before or after folding gives the same integers.
"""

import torch

# Quantiles of what calibration saw that may be the largest number that can be told apart.
CLIPS = (0.99, 0.999, 0.9999, 1.0)
_MAX_SAMPLE = 1 << 20  # values that a quantile is taken of


def levels(values: torch.Tensor, scale: float, bits: int) -> torch.Tensor:
    """Integers of non-negative ``values``, as floats."""
    return torch.clamp(torch.round(values / scale), 0, 2**bits - 1)


def scale_for(values: torch.Tensor, quantile: float, bits: int) -> float:
    """The scale whose largest level is a quantile of ``values``; never zero."""
    flat = values.detach().flatten().float()
    if quantile < 1.0:
        flat = flat[:: max(1, -(-flat.numel() // _MAX_SAMPLE))]
        top = float(torch.quantile(flat, quantile))
    else:
        top = float(flat.max())
    return float(max(top, 1e-6) / (2**bits - 1))


def rounded_weights(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Weights [outputs, ...] at the nearest of 2^bits - 1 levels, symmetric, a scale a channel."""
    most = 2 ** (bits - 1) - 1
    peak = weight.flatten(1).abs().amax(dim=1).clamp_min(1e-12)
    scale = (peak / most).view(-1, *[1] * (weight.dim() - 1))
    rounded: torch.Tensor = torch.clamp(torch.round(weight / scale), -most, most) * scale
    return rounded
