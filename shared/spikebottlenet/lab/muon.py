"""Muon: momentum whose update for each convolution is the nearest semi-orthogonal matrix.

For a weight W [out, in, k, k] seen as a matrix [out, in * k * k] with gradient G:

    M <- momentum * M + G;   U = orthogonalise(G + momentum * M);   W <- W - lr * scale * U

``orthogonalise`` is five Newton-Schulz steps of the odd quintic 3.4445 x - 4.7750 x^3 + 2.0315 x^5,
which drives every singular value to about 1. W keeps the Frobenius norm sqrt(out), as batch norm
behind it makes its scale free, so ``lr`` is a relative step. The steps run in the training's
precision. Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
PyTorch's own Muon takes matrices only.
"""

from collections.abc import Callable, Iterable

import torch

from spikebottlenet.lab.config import Precision
from spikebottlenet.lab.precision import uses_bfloat16

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(
    gradient: torch.Tensor, steps: int = 5, *, precision: Precision = "auto"
) -> torch.Tensor:
    """Approximate U V^T of the singular value decomposition of a matrix [rows, columns]."""
    a, b, c = _NEWTON_SCHULZ
    small = uses_bfloat16(precision, gradient.device)
    x: torch.Tensor = gradient.to(torch.bfloat16 if small else torch.float32)
    wide = x.shape[0] <= x.shape[1]
    if not wide:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    upright: torch.Tensor = x if wide else x.T
    return upright.to(gradient.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for convolution weights that are followed by a norm."""

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.85,
        precision: Precision = "auto",
    ) -> None:
        self._precision: Precision = precision
        super().__init__(params, {"lr": lr, "momentum": momentum})

    # torch declares overloads with and without a closure; this one never has a use for it.
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step from the gradients at hand."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(weight.grad)
                buffer = state["momentum"].mul_(group["momentum"]).add_(weight.grad)
                update = weight.grad.add(buffer, alpha=group["momentum"])
                matrix = update.reshape(len(update), -1)
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                step = orthogonalise(matrix, precision=self._precision)
                weight.add_(step.reshape(update.shape), alpha=-group["lr"])
