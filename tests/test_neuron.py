"""The neuron against traces worked out by hand, and its gradient against a plain autograd loop."""

import pytest
import torch

from spikebottlenet.model.neuron import LIFParams, lif
from spikebottlenet.model.surrogate import SURROGATES, Surrogate


def trace(current: list[float], **constants: float) -> list[float]:
    return lif(torch.tensor(current)[:, None], LIFParams(**constants))[:, 0].tolist()


def test_constant_current_fires_every_second_timestep() -> None:
    # u = .75, 1.125 (fires, .125 left), .8125, 1.15625 (fires)
    assert trace([0.75] * 4, threshold=1.0, leak=0.5) == [0, 1, 0, 1]


def test_without_leak_kept_nothing_is_remembered() -> None:
    assert trace([0.75, 0.75, 1.0, 0.99], threshold=1.0, leak=0.0) == [0, 0, 1, 0]


def test_soft_reset_keeps_what_is_above_the_threshold() -> None:
    # u = 2.5 (fires, 1.5 left), 1.5 (fires, .5 left), .5
    assert trace([2.5, 0.0, 0.0], threshold=1.0, leak=1.0) == [1, 1, 0]


def test_a_potential_equal_to_the_threshold_fires() -> None:
    assert trace([1.0], threshold=1.0) == [1]


@pytest.mark.parametrize("surrogate", list(Surrogate))
def test_gradient_equals_an_autograd_loop(surrogate: Surrogate) -> None:
    params = LIFParams(surrogate=surrogate, surrogate_width=0.8)

    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx, distance):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(distance)
            return (distance >= 0).to(distance.dtype)

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            return grad * SURROGATES[surrogate](ctx.saved_tensors[0], 0.8)

    def plain(current: torch.Tensor) -> torch.Tensor:
        potential, spikes = torch.zeros_like(current[0]), []
        for step in current:
            potential = params.leak * potential + step
            spikes.append(Step.apply(potential - params.threshold))
            potential = potential - params.threshold * spikes[-1].detach()
        return torch.stack(spikes)

    torch.manual_seed(1)
    weight = torch.randn(4, 64)
    ours = (torch.randn(4, 64) + 0.5).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    (lif(ours, params) * weight).sum().backward()
    (plain(theirs) * weight).sum().backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("surrogate", list(Surrogate))
def test_surrogates_have_unit_area(surrogate: Surrogate) -> None:
    x = torch.linspace(-400, 400, 800_001, dtype=torch.float64)
    area = torch.trapezoid(SURROGATES[surrogate](x, 0.7), x)
    assert float(area) == pytest.approx(1.0, abs=2e-3)
