"""Our operation counts against NeuroBench's, where that is installed (``make counter``)."""

import warnings

import pytest
import torch

from spikebottlenet.accounting.energy_head import synapse_accumulates
from spikebottlenet.accounting.operations import stem_macs
from spikebottlenet.model.architecture import IMAGE, Architecture, head_layers
from spikebottlenet.model.head import SpikingHead
from spikebottlenet.model.neuron import LIFParams

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("neurobench", reason="`make counter` installs it")
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

IMAGES = 3


class Spikes(torch.nn.Module):
    """The head as NeuroBench wants one: a tensor in, a tensor out."""

    def __init__(self, head: SpikingHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images).spikes


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v1"])
def test_an_independent_counter_finds_the_same_operations(backbone: str) -> None:
    architecture = Architecture.model_validate(
        {
            "backbone": backbone,
            "width": 4,
            "classes": 3,
            "side": 10,
            "channels": 3,
            "after_stage": 2,
            "threshold": 0.3,
        }
    )
    torch.manual_seed(0)
    head = SpikingHead(architecture, LIFParams(threshold=0.3), fused=False).train()
    with torch.no_grad():
        for _ in range(5):
            head(torch.randn(8, 3, 10, 10))
    images = torch.randn(IMAGES, 3, 10, 10)  # no pixel is 0, which NeuroBench would leave out
    model = TorchModel(Spikes(head))
    model.register_hooks()
    with torch.inference_mode():
        model(images)
    found = SynapticOperations()(model, None, (images, None))
    layers = head_layers(architecture)
    # Each convolution's input, from NeuroBench's own hooks, in our order of synapses.
    inputs = iter(model.connection_hooks)
    expected = 0.0
    for layer in layers:
        for synapse in layer.synapses:
            if synapse.convolution is None:
                continue  # NeuroBench counts no shortcut
            (spikes,) = next(inputs).inputs[0]
            if synapse.source != IMAGE:
                expected += synapse_accumulates(synapse, spikes.sum(dim=(0, 1)).double().numpy())
    assert found["Effective_MACs"] == stem_macs(architecture)
    assert found["Effective_ACs"] * IMAGES == expected > 0
    model.cleanup_hooks()
