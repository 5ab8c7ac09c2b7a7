"""The folded tail is the tail."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from spikebottlenet.bundle import TAIL_WEIGHTS, Half, bundle_folders, open_bundle
from spikebottlenet.model.tail import Tail
from spikebottlenet.runtime.folded_tail import fold_tail
from spikebottlenet.runtime.torch_tail import TorchTail


@pytest.fixture(scope="module")
def tail() -> Tail:
    """The shipped model's, as it was trained."""
    bundle = open_bundle(bundle_folders("default")[0], Half.CLOUD)
    tail = Tail(bundle.manifest.architecture)
    weights = load_file(bundle.path(TAIL_WEIGHTS))
    tail.load_state_dict({name: value.float() for name, value in weights.items()})
    return tail.eval()


def spikes_like(tail: Tail, *, timesteps: int, images: int) -> torch.Tensor:
    """Random spikes at about the firing rate of real ones, of the shipped model's shape."""
    channels = tail.decoder.steps[0].get_parameter("weight").shape[1]
    side = -(-tail.decoder.side // tail.decoder.up)
    random = torch.Generator().manual_seed(0)
    return (torch.rand(timesteps, images, channels, side, side, generator=random) < 0.38).float()


@pytest.mark.parametrize("timesteps", [1, 2])
def test_the_folded_tail_says_what_the_tail_says(tail: Tail, timesteps: int) -> None:
    spikes = spikes_like(tail, timesteps=timesteps, images=8)
    with torch.inference_mode():
        wanted, got = tail(spikes), fold_tail(tail)(spikes)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(got.argmax(1), wanted.argmax(1))


def test_no_norm_is_left_to_compute(tail: Tail) -> None:
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fold_tail(tail).modules())
    assert any(isinstance(part, nn.BatchNorm2d) for part in tail.modules())  # a copy was folded


def test_an_image_is_answered_alike_alone_and_in_a_batch(tail: Tail) -> None:
    spikes = spikes_like(tail, timesteps=2, images=5).numpy().astype(np.uint8)
    bundle = open_bundle(bundle_folders("default")[0], Half.CLOUD)
    path: Path = bundle.path(TAIL_WEIGHTS)
    runtime = TorchTail(path, bundle.manifest.architecture, device="cpu")
    together = runtime.classify(spikes)
    alone = np.concatenate([runtime.classify(spikes[:, i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(together.sum(1), 1, rtol=1e-5)
