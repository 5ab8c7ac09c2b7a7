"""Training's neuron: the fused forward and backward against a plain loop under autograd."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from spikebottlenet.bench.figures import Cell, Part, Table
from spikebottlenet.bench.measuring import in_turns, ratios, spread, timed
from spikebottlenet.bench.subject import Subject
from spikebottlenet.model.neuron import LIFParams, lif
from spikebottlenet.model.surrogate import SURROGATES, Surrogate

_SHAPE = (64, 64, 32, 32)  # of one layer of a batch, [B, C, H, W]


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distance: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0] * SURROGATES[Surrogate.TRIANGLE](ctx.saved_tensors[0], 1.0)


def plain_lif(current: torch.Tensor, params: LIFParams) -> torch.Tensor:
    """The neuron as most code bases write it: a loop under autograd."""
    potential, spikes = torch.zeros_like(current[0]), []
    for step in current:
        potential = params.leak * potential + step
        fired: torch.Tensor = _Fire.apply(potential - params.threshold)  # type: ignore[no-untyped-call]
        spikes.append(fired)
        potential = potential - params.threshold * fired.detach()
    return torch.stack(spikes)


def measure_neuron(subject: Subject) -> Part:
    """Forward and backward of one layer, both ways in turns."""
    if not subject.quick and not _compiles():
        return Part("neuron", notes=("neuron: not measured: no C++ compiler to fuse it with",))
    rows: list[tuple[Cell, ...]] = []
    for timesteps in (2,) if subject.quick else (2, 4):
        plain_s, fused_s = in_turns(
            2 if subject.quick else 7,
            timed(_training_pass(timesteps, plain_lif)),
            timed(_training_pass(timesteps, partial(lif, fused=not subject.quick))),
        )
        over = spread(ratios(plain_s, fused_s))
        figures = (1e3 * spread(plain_s).median, 1e3 * spread(fused_s).median, over.median)
        rows.append((f"T={timesteps}, {list(_SHAPE)}", *(round(value, 2) for value in figures)))
    columns = ("LIF, forward and backward", "plain loop ms", "fused ms", "plain / fused")
    note = "a quick run does not compile" if subject.quick else ""
    return Part("neuron", (), (Table("neuron", "Training's neuron", columns, tuple(rows), note),))


def _compiles() -> bool:
    """Whether the fused neuron runs here: it is compiled by the C++ compiler on the first call."""
    try:
        _training_pass(2, partial(lif, fused=True))()
    except Exception:  # inductor raises its own errors, and those of the compiler it starts
        return False
    return True


def _training_pass(
    timesteps: int, neuron: Callable[[torch.Tensor, LIFParams], torch.Tensor]
) -> Callable[[], None]:
    current = torch.randn(timesteps * _SHAPE[0], *_SHAPE[1:])
    current = current.contiguous(memory_format=torch.channels_last)
    leaf = current.unflatten(0, (timesteps, -1)).requires_grad_()

    def run() -> None:
        leaf.grad = None
        neuron(leaf, LIFParams()).sum().backward()

    return run
