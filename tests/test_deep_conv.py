"""Deep convolutions as matrix products: the same sums as torch's own, taken only where they win."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from spikebottlenet.lab.deep_conv import _DeepConv, columns, deep_convolutions, overlaid
from spikebottlenet.lab.heap import keep_freed_memory

CPU = torch.device("cpu")
SHAPES = [(1, 3, 3), (2, 6, 6), (2, 5, 7), (1, 4, 1)]  # stride, height, width


@pytest.mark.parametrize(("stride", "height", "width"), SHAPES)
@pytest.mark.parametrize("whole", [False, True])
def test_all_three_passes_are_the_convolution(
    stride: int, height: int, width: int, whole: bool
) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 4, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    expected = functional.conv2d(images, weight, None, stride, 1)
    upstream = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (images, weight), upstream)
    run: Any = _DeepConv.apply
    found = run(images, weight, stride, whole)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (images, weight), upstream), wanted, strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_laying_back_is_the_adjoint_of_columns() -> None:
    torch.manual_seed(1)
    images = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    seen = columns(images, 3, 2)
    other = torch.randn_like(seen)
    back = overlaid(other, images.shape, 3, 2)
    torch.testing.assert_close((seen * other).sum(), (images * back).sum())


class _Deep(nn.Module):
    """One convolution of each kind: at the products' size, above it, and never one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.deep = nn.Conv2d(16, 64, 3, stride=2, padding=1, bias=False)
        self.deepest = nn.Conv2d(64, 128, 3, stride=2, padding=1, bias=False)
        self.point = nn.Conv2d(128, 128, 1, bias=False)
        self.grouped = nn.Conv2d(128, 128, 3, padding=1, groups=2, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, 8, 8] to [B, 128, 2, 2]."""
        for layer in self.children():
            images = layer(images).relu()
        return images


def _gradients(network: nn.Module, images: torch.Tensor, *, bfloat16: bool) -> list[torch.Tensor]:
    network.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        network(images).float().square().mean().backward()
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(grads) == len(list(network.parameters()))
    return grads


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Output channels, and whether all passes were products, of each convolution that was one."""
    seen = list[tuple[int, bool]]()
    real = _DeepConv.forward

    def spy(
        ctx: Any, images: torch.Tensor, weight: torch.Tensor, stride: int, whole: bool
    ) -> torch.Tensor:
        seen.append((len(weight), whole))
        return real(ctx, images, weight, stride, whole)

    monkeypatch.setattr(_DeepConv, "forward", staticmethod(spy))
    return seen


def test_a_network_trains_alike_and_is_as_it_was_afterwards(taken: list[tuple[int, bool]]) -> None:
    torch.manual_seed(2)
    network = _Deep()
    images = torch.randn(4, 3, 8, 8)
    names = list(network.state_dict())
    plain = _gradients(network, images, bfloat16=True)
    with deep_convolutions(network, CPU):
        ours = _gradients(network, images, bfloat16=True)
        assert list(network.state_dict()) == names
    # 64 channels at 4 x 4 sites: the weight gradient; 128 at 2 x 2: everything.
    assert taken == [(64, False), (128, True)]
    for a, b in zip(ours, plain, strict=True):
        assert (a - b).norm() <= 0.02 * b.norm()  # bfloat16 has 8 bits; sums are in other orders
    again = _gradients(network, images, bfloat16=True)
    assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True))
    assert len(taken) == 2


def test_float32_and_evaluation_keep_torchs_own(taken: list[tuple[int, bool]]) -> None:
    torch.manual_seed(3)
    network = _Deep()
    images = torch.randn(2, 3, 8, 8)
    plain = _gradients(network, images, bfloat16=False)
    with deep_convolutions(network, CPU):
        ours = _gradients(network, images, bfloat16=False)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            network(images)
    assert not taken
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


def test_frozen_weights_and_frozen_inputs() -> None:
    torch.manual_seed(4)
    network = _Deep()
    network.deepest.weight.requires_grad_(False)
    network.wide.weight.requires_grad_(False)
    with (
        deep_convolutions(network, CPU),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        network(torch.randn(2, 3, 8, 8)).float().sum().backward()
    assert network.deepest.weight.grad is None
    assert network.deep.weight.grad is not None
    assert network.deep.weight.grad.abs().sum() > 0


def test_where_there_is_no_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
