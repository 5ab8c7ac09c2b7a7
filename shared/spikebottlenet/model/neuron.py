"""The leaky integrate-and-fire neuron, over all timesteps at once.

With input current I, membrane potential u (v after reset), spike s, for t = 1 .. T and v_0 = 0:

    u_t = leak * v_{t-1} + I_t
    s_t = 1 if u_t >= threshold else 0
    v_t = u_t - threshold * s_t          (soft reset)

Backward, with a surrogate d_t for ds_t/du_t and the reset taken as constant:

    dL/du_t = dL/ds_t * d_t + leak * dL/du_{t+1};   dL/dI_t = dL/du_t

Forward and backward are each one loop over memory when compiled (``fused=True``): membrane
potentials never leave the processor's registers, and only I is kept for the backward pass.
Equations: Gerstner et al., "Neuronal Dynamics", 2014, section 1.3, in discrete time; soft reset:
Rueckauer et al., Frontiers in Neuroscience 11:682, 2017.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn

from spikebottlenet.model.surrogate import SURROGATES, Surrogate


class LIFParams(NamedTuple):
    """Leaky integrate-and-fire constants, dimensionless, per timestep."""

    threshold: float = 1.0  # membrane potential at which a neuron fires
    leak: float = 0.5  # fraction of the potential kept each timestep, [0, 1]
    surrogate: Surrogate = Surrogate.TRIANGLE
    surrogate_width: float = 1.0


def rollout(current: torch.Tensor, params: LIFParams) -> torch.Tensor:
    """Spikes [T, ...] in {0, 1}, of the current's type, for a current [T, ...]."""
    potential = torch.zeros_like(current[0], dtype=torch.float32)
    spikes = []
    for step in current.unbind(0):
        potential = params.leak * potential + step.float()
        fired = (potential >= params.threshold).float()
        potential = potential - params.threshold * fired
        spikes.append(fired.to(current.dtype))
    return torch.stack(spikes)


def rollout_backward(
    current: torch.Tensor, grad_spikes: torch.Tensor, params: LIFParams
) -> torch.Tensor:
    """Gradient at the current [T, ...], from the gradient at the spikes [T, ...]."""
    gradient = SURROGATES[params.surrogate]
    potential = torch.zeros_like(current[0], dtype=torch.float32)
    slopes = []
    for step in current.unbind(0):
        potential = params.leak * potential + step.float()
        distance = potential - params.threshold
        slopes.append(gradient(distance, params.surrogate_width))
        potential = torch.where(distance >= 0, distance, potential)
    carried = torch.zeros_like(potential)
    grads = []
    for slope, grad in zip(reversed(slopes), reversed(grad_spikes.unbind(0)), strict=True):
        at_potential = grad.float() * slope + carried
        carried = params.leak * at_potential
        grads.append(at_potential.to(current.dtype))
    grads.reverse()
    return torch.stack(grads)


@cache
def _compiled() -> tuple[Any, Any]:
    return (
        torch.compile(rollout, dynamic=True, fullgraph=True),
        torch.compile(rollout_backward, dynamic=True, fullgraph=True),
    )


class _FusedLIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: torch.Tensor, params: LIFParams, fused: bool) -> torch.Tensor:
        ctx.save_for_backward(current)
        ctx.params, ctx.fused = params, fused
        return (_compiled()[0] if fused else rollout)(current, params)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (current,) = ctx.saved_tensors
        run = _compiled()[1] if ctx.fused else rollout_backward
        return run(current, grads[0].contiguous(), ctx.params), None, None


def lif(current: torch.Tensor, params: LIFParams, *, fused: bool = False) -> torch.Tensor:
    """Spikes [T, ...] for a current [T, ...], differentiable by the surrogate gradient.

    ``fused`` compiles both passes once for all shapes (a C++ compiler must be there).
    """
    # torch leaves Function.apply untyped.
    spikes: torch.Tensor = _FusedLIF.apply(current, params, fused)  # type: ignore[no-untyped-call]
    return spikes


class LIF(nn.Module):
    """LIF neurons over a folded batch [T * B, C, H, W], timestep the slow part of the first."""

    def __init__(self, params: LIFParams, *, timesteps: int, fused: bool = False) -> None:
        super().__init__()
        self.params, self.timesteps, self.fused = params, timesteps, fused

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """Run all timesteps; keeps channels-last memory as it is."""
        flat = current.permute(0, 2, 3, 1)
        shape = flat.shape
        spikes = lif(flat.reshape(self.timesteps, -1), self.params, fused=self.fused)
        return spikes.reshape(shape).permute(0, 3, 1, 2)
