"""The leaky integrate-and-fire neuron, over all timesteps at once.

With input current I, membrane potential u (v after reset), spike s, for t = 1 .. T and v_0 = 0:

    u_t = leak * v_{t-1} + I_t
    s_t = 1 if u_t >= threshold else 0
    v_t = u_t - threshold * s_t          (soft reset)
    v_t = u_t * (1 - s_t)                (hard reset)

Backward, with a surrogate d_t for ds_t/du_t and the reset taken as constant:

    dL/du_t = dL/ds_t * d_t + leak * k_t * dL/du_{t+1};   dL/dI_t = dL/du_t

where k_t is 1, but 0 after a spike with a hard reset. Leak and threshold of a layer can be learned.
dL/dleak is the sum of dL/du_t * v_{t-1}. A learned threshold divides the current, so that the
neuron fires at 1 and the surrogate's width is relative to the threshold. A learned leak runs as the
nearest multiple of 1/4 and passes its gradient straight through: what is trained is what is
exported, where every sum is exact (``model.exact``).

Forward and backward are each one loop over memory when compiled (``fused=True``): membrane
potentials never leave the processor's registers, and only I is kept for the backward pass.
Equations: Gerstner et al., "Neuronal Dynamics", 2014, section 1.3, in discrete time; soft reset:
Rueckauer et al., Frontiers in Neuroscience 11:682, 2017. Learned leak and threshold: Fang et al.,
"Incorporating Learnable Membrane Time Constant", arXiv 2007.05785; Rathi and Roy, "DIET-SNN",
arXiv 2008.03658. Straight through: Bengio et al., arXiv 1308.3432.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn

from spikebottlenet.model.layers import Reset
from spikebottlenet.model.surrogate import SURROGATES, Surrogate


class LIFParams(NamedTuple):
    """Leaky integrate-and-fire constants, dimensionless, per timestep."""

    threshold: float = 1.0  # membrane potential at which a neuron fires
    leak: float = 0.5  # fraction of the potential kept each timestep, [0, 1]
    surrogate: Surrogate = Surrogate.TRIANGLE
    surrogate_width: float = 1.0
    reset: Reset = Reset.SOFT
    learn_threshold: bool = False  # of each layer
    learn_leak: bool = False


Leak = float | torch.Tensor  # a scalar in either case


def rollout(current: torch.Tensor, params: LIFParams, leak: Leak | None = None) -> torch.Tensor:
    """Spikes [T, ...] in {0, 1}, of the current's type, for a current [T, ...].

    ``leak`` takes the place of the one of ``params``.
    """
    kept = params.leak if leak is None else leak
    potential = torch.zeros_like(current[0], dtype=torch.float32)
    spikes = []
    for step in current.unbind(0):
        potential = kept * potential + step.float()
        fired = (potential >= params.threshold).float()
        potential = _reset(potential, fired, params)
        spikes.append(fired.to(current.dtype))
    return torch.stack(spikes)


def _reset(potential: torch.Tensor, fired: torch.Tensor, params: LIFParams) -> torch.Tensor:
    if params.reset is Reset.HARD:
        return potential * (1.0 - fired)
    return potential - params.threshold * fired


def rollout_backward(
    current: torch.Tensor,
    grad_spikes: torch.Tensor,
    params: LIFParams,
    leak: Leak | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients at the current [T, ...] and at the leak [], from that at the spikes [T, ...]."""
    gradient = SURROGATES[params.surrogate]
    kept = params.leak if leak is None else leak
    potential = torch.zeros_like(current[0], dtype=torch.float32)
    slopes, rests = [], []
    silences: list[torch.Tensor | None] = []
    for step in current.unbind(0):
        rests.append(potential)
        potential = kept * potential + step.float()
        distance = potential - params.threshold
        slopes.append(gradient(distance, params.surrogate_width))
        fired = (distance >= 0).float()
        silences.append(1.0 - fired if params.reset is Reset.HARD else None)
        potential = _reset(potential, fired, params)
    carried = torch.zeros_like(potential)
    at_leak = torch.zeros((), device=current.device)
    grads = []
    for slope, rest, silence, grad in zip(
        reversed(slopes),
        reversed(rests),
        reversed(silences),
        reversed(grad_spikes.unbind(0)),
        strict=True,
    ):
        kept_on = carried if silence is None else carried * silence
        at_potential = grad.float() * slope + kept_on
        if leak is not None:
            at_leak = at_leak + (at_potential * rest).sum()
        carried = kept * at_potential
        grads.append(at_potential.to(current.dtype))
    grads.reverse()
    return torch.stack(grads), at_leak


@cache
def _compiled() -> tuple[Any, Any]:
    return (
        torch.compile(rollout, dynamic=True, fullgraph=True),
        torch.compile(rollout_backward, dynamic=True, fullgraph=True),
    )


class _FusedLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: torch.Tensor, leak: torch.Tensor | None, params: LIFParams, fused: bool
    ) -> torch.Tensor:
        ctx.save_for_backward(current, leak)
        ctx.params, ctx.fused = params, fused
        return (_compiled()[0] if fused else rollout)(current, params, leak)

    @staticmethod
    def backward(
        ctx: Any, *grads: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
        current, leak = ctx.saved_tensors
        run = _compiled()[1] if ctx.fused else rollout_backward
        at_current, at_leak = run(current, grads[0].contiguous(), ctx.params, leak)
        return at_current, None if leak is None else at_leak, None, None


def lif(
    current: torch.Tensor,
    params: LIFParams,
    *,
    fused: bool = False,
    leak: torch.Tensor | None = None,
) -> torch.Tensor:
    """Spikes [T, ...] for a current [T, ...], differentiable by the surrogate gradient.

    ``leak`` [] takes the place of the one of ``params`` and gets a gradient. ``fused`` compiles
    both passes once for all shapes (a C++ compiler must be there).
    """
    # torch leaves Function.apply untyped.
    spikes: torch.Tensor = _FusedLIF.apply(  # type: ignore[no-untyped-call]
        current, leak, params, fused
    )
    return spikes


LEAK_PARTS = 4  # a learned leak is a multiple of 1 / this


class LIF(nn.Module):
    """LIF neurons over a folded batch [T * B, C, H, W], timestep the slow part of the first.

    What is learned is kept as the distance from where it started, so that weight decay pulls there.
    """

    def __init__(self, params: LIFParams, *, timesteps: int, fused: bool = False) -> None:
        super().__init__()
        self.params, self.timesteps, self.fused = params, timesteps, fused
        self.leak_offset: nn.Parameter | None = None
        self.threshold_log_ratio: nn.Parameter | None = None
        if params.learn_leak:
            self.leak_offset = nn.Parameter(torch.zeros(()))
        if params.learn_threshold:
            self.threshold_log_ratio = nn.Parameter(torch.zeros(()))

    def leak(self) -> torch.Tensor | None:
        """The learned leak as it runs, []; None where it is fixed."""
        if self.leak_offset is None:
            return None
        free = (self.leak_offset + self.params.leak).clamp(0.0, 1.0)
        return free + (torch.round(free * LEAK_PARTS) / LEAK_PARTS - free).detach()

    def threshold(self) -> torch.Tensor | None:
        """The learned threshold, []; None where it is fixed."""
        if self.threshold_log_ratio is None:
            return None
        ratio: torch.Tensor = self.threshold_log_ratio.exp()
        return ratio * self.params.threshold

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """Run all timesteps; keeps channels-last memory as it is."""
        params, threshold = self.params, self.threshold()
        if threshold is not None:
            current = (current / threshold).to(current.dtype)
            params = params._replace(threshold=1.0)
        flat = current.permute(0, 2, 3, 1)
        shape = flat.shape
        flat = flat.reshape(self.timesteps, -1)
        spikes = lif(flat, params, fused=self.fused, leak=self.leak())
        return spikes.reshape(shape).permute(0, 3, 1, 2)
