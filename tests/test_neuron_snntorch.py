"""Our neuron against snnTorch's, where that is installed (extra ``dev``)."""

import warnings

import pytest
import torch

from spikebottlenet.model.neuron import LIFParams, rollout

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    snntorch = pytest.importorskip("snntorch")


@pytest.mark.parametrize("leak", [0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("threshold", [0.6, 1.0])
def test_spikes_are_those_of_snntorch(leak: float, threshold: float) -> None:
    torch.manual_seed(0)
    # Below the threshold: where one reset is not enough, snnTorch resets twice.
    current = (2 * torch.rand(12, 2000) - 1) * threshold
    other = snntorch.Leaky(
        beta=leak, threshold=threshold, reset_mechanism="subtract", reset_delay=False
    )
    potential, spikes = other.init_leaky(), []
    for step in current:
        fired, potential = other(step, potential)
        spikes.append(fired)
    expected = torch.stack(spikes)
    found = rollout(current, LIFParams(threshold=threshold, leak=leak))
    assert torch.equal(found, expected)
    assert 0.01 < found.mean() < 0.9
