"""The context model fitted: logistic regressions of every spike on its decoded neighbours.

    loss = information of an image's spikes (nats) + ridge x sum of squared weights

fitted in float32 on spikes less their rates, then rounded to the integers that both sides compute
with (``codec.context``). The settings below were chosen on held-out images of the training split.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from spikebottlenet.codec.context_tables import COLOURS, ContextTables, known_neighbours
from spikebottlenet.codec.entropy import PRIOR_ONE
from spikebottlenet.model.shape import SpikeShape

STEPS = 600
_BATCH = 250  # images
_LR = 0.02
_RIDGE = 100.0  # over the number of images
_UNITS = 64  # logits a nat, fewer where a weight would not fit 8 bits
_LIMIT = 9.0  # nats, beyond which the table ends
_MAX_WEIGHT = 127
_MAX_BIAS = 32_767


class _Regression(torch.nn.Module):
    """Logits of a batch of spikes, in float32."""

    def __init__(self, shape: SpikeShape, rates: torch.Tensor) -> None:
        super().__init__()
        t, c = shape.timesteps, shape.channels
        known = torch.from_numpy(known_neighbours(c)).float().repeat(t, 1, 1, 1, 1)
        known[0, :, :, :c] = 0
        self.shape = shape
        self.rates = rates  # [T, C, H, W]
        self.known = known  # [T, colour, 9, 2 C, C]
        self.weight = torch.nn.Parameter(torch.zeros_like(known))
        self.bias = torch.nn.Parameter(torch.logit(rates))
        y, x = torch.meshgrid(torch.arange(shape.height), torch.arange(shape.width), indexing="ij")
        self.black = (y + x) % COLOURS == 1

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Logits of spikes [B, T, C, H, W]."""
        return self.bias + self.drive(spikes - self.rates, self.weight * self.known)

    def drive(self, centred: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """What the neighbours add, for [B, T, C, H, W]; beyond the border is 0."""
        before = torch.zeros_like(centred[:, 0])
        steps = []
        for t in range(self.shape.timesteps):
            near = torch.cat([before, centred[:, t]], dim=1)
            # [colour, 9, 2 C, C] to the [out, in, 3, 3] of a convolution
            kernel = weight[t].permute(0, 3, 2, 1).reshape(-1, near.shape[1], 3, 3)
            white, black = functional.conv2d(near, kernel, padding=1).chunk(COLOURS, dim=1)
            steps.append(torch.where(self.black, black, white))
            before = centred[:, t]
        return torch.stack(steps, dim=1)


def fit_context(
    packed: npt.NDArray[np.uint8],
    prior: npt.NDArray[np.uint16],
    shape: SpikeShape,
    *,
    seed: int,
    steps: int = STEPS,
) -> ContextTables:
    """Fit to spikes [N, ceil(T * C * H * W / 8)], each image's bits packed in that order."""
    torch.manual_seed(seed)
    rates = torch.from_numpy(prior.astype(np.float32) / PRIOR_ONE)
    network = _Regression(shape, rates)
    optimizer = torch.optim.Adam(network.parameters(), lr=_LR)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    order = np.random.default_rng(seed)
    for _ in range(steps):
        rows = order.integers(0, len(packed), min(_BATCH, len(packed)))
        spikes = _unpack(packed[rows], shape)
        information = functional.binary_cross_entropy_with_logits(
            network(spikes), spikes, reduction="sum"
        ) / len(spikes)
        loss = information + _RIDGE / len(packed) * network.weight.pow(2).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
    return _rounded(network)


def _unpack(packed: npt.NDArray[np.uint8], shape: SpikeShape) -> torch.Tensor:
    bits = np.unpackbits(packed, axis=1, count=shape.bits)
    return torch.from_numpy(bits).reshape(-1, *shape).float()


@torch.no_grad()
def _rounded(network: _Regression) -> ContextTables:
    weight = network.weight * network.known
    units = min(float(_UNITS), _MAX_WEIGHT / max(float(weight.abs().max()), 1e-6))
    weight = torch.round(weight * units)
    # Both sides feed spikes, not spikes less their rates: the difference goes into the bias.
    shift = network.drive(network.rates[None], weight)[0]
    bias = torch.round(network.bias * units - shift).clamp(-_MAX_BIAS, _MAX_BIAS)
    logits = np.arange(-round(_LIMIT * units), round(_LIMIT * units) + 1) / units
    table = np.clip(np.rint(PRIOR_ONE / (1 + np.exp(-logits))), 1, PRIOR_ONE - 1)
    return ContextTables(
        weights=weight.numpy().astype(np.int8),
        bias=bias.numpy().astype(np.int16),
        table=table.astype(np.uint16),
    )
