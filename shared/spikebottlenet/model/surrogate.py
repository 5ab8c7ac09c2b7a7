"""Surrogate gradients: what stands in for the derivative of the step at the threshold.

For x = membrane potential - threshold and a width w (a potential, dimensionless):

    triangle  max(0, 1 - |x| / w) / w
    arctan    1 / (w * (1 + (pi * x / w)^2))
    sigmoid   s * (1 - s) * 4 / w,  s = 1 / (1 + exp(-4 x / w))

Each has area 1 but for rounding, and its peak, 1 / w, at the threshold. Sources: Neftci, Mostafa
and Zenke, "Surrogate gradient learning in spiking neural networks", arXiv 1901.09948 (the idea and
the sigmoid); Bellec et al., arXiv 1803.09574 (triangle); Fang et al., arXiv 2007.05785 (arctan).
"""

import math
from collections.abc import Callable
from enum import StrEnum

import torch

SurrogateGradient = Callable[[torch.Tensor, float], torch.Tensor]


class Surrogate(StrEnum):
    """Name of a surrogate gradient."""

    TRIANGLE = "triangle"
    ARCTAN = "arctan"
    SIGMOID = "sigmoid"


def triangle(x: torch.Tensor, width: float) -> torch.Tensor:
    """Triangle of base 2 * width."""
    return torch.clamp(1.0 - x.abs() / width, min=0.0) / width


def arctan(x: torch.Tensor, width: float) -> torch.Tensor:
    """Derivative of the arctangent, scaled to area 1."""
    return 1.0 / (width * (1.0 + (math.pi * x / width) ** 2))


def sigmoid(x: torch.Tensor, width: float) -> torch.Tensor:
    """Derivative of the logistic function of slope 4 / width."""
    value = torch.sigmoid(4.0 * x / width)
    return value * (1.0 - value) * 4.0 / width


SURROGATES: dict[Surrogate, SurrogateGradient] = {
    Surrogate.TRIANGLE: triangle,
    Surrogate.ARCTAN: arctan,
    Surrogate.SIGMOID: sigmoid,
}
