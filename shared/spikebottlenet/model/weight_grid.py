"""Weights on integers: the power of two a channel whose multiples are nearest to them.

What ``model.integer_head`` runs on, and what ``model.head`` sees in quantization-aware training.
"""

import torch

THRESHOLD = 64  # units of a current; even, so that a sum of 63.5 units rounds to it
EIGHT, FLOAT = 8, 32  # bits of a weight; the second is no integer
_FINEST = 24  # a step finer than 2^-24 says nothing that a unit could
_TOP_BIAS = 2**22  # integers
_CLIPPED = 3  # steps tried: the one that clips no weight, and halves of it


def top_weight(bits: int) -> int:
    """Greatest weight of so many bits; the least is its negative."""
    return int(2 ** (bits - 1) - 1)


def nearest_weights(
    weight: torch.Tensor, bias: torch.Tensor, top: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers in -top .. top and a power of two [outputs], their product nearest to ``weight``.

    The power is so large that ``bias`` [outputs] over it fits beside the sums too.
    """
    flat = weight.flatten(1)
    largest = torch.maximum(flat.abs().amax(1) / top, bias.abs() / _TOP_BIAS)
    whole = torch.ceil(torch.log2(largest.clamp(min=2.0**-_FINEST)))
    errors, candidates = [], []
    for halvings in range(_CLIPPED):
        scale = torch.pow(2.0, whole - halvings)[:, None]
        integers = torch.round(flat / scale).clamp(-top, top)
        errors.append((integers * scale - flat).square().sum(1))
        candidates.append(scale[:, 0])
    best = torch.stack(errors).argmin(0)
    scale = torch.stack(candidates).gather(0, best[None])[0]
    integers = torch.round(flat / scale[:, None]).clamp(-top, top)
    return integers.reshape(weight.shape), scale
