"""Counted by brute force, and by constants that are cited."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from spikebottlenet.accounting.energy import RADIO_PROFILES, Radio, compute_uj
from spikebottlenet.accounting.operations import (
    ann_head_macs,
    fan_out,
    stem_macs,
    tail_macs,
)
from spikebottlenet.bundle import Bundle
from spikebottlenet.lab.onnx_head import onnx_head
from spikebottlenet.model.architecture import IMAGE, Architecture, head_layers
from spikebottlenet.model.exact import ExactHead, PixelScale, fold_head
from spikebottlenet.model.head import SpikingHead
from spikebottlenet.model.neuron import LIFParams
from spikebottlenet.model.resnet import ResNet18
from spikebottlenet.model.tail import Tail
from spikebottlenet.runtime.onnx_head import OnnxHead
from tests.plain_head import plain_layers

SMALL = Architecture(width=4, classes=5, side=10, after_stage=2, timesteps=3, channels=3)
SCALE = PixelScale(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def count_macs(module: torch.nn.Module, *inputs: torch.Tensor) -> int:
    """Multiply-accumulates of a forward pass, padding left out: convolve ones with ones."""
    total = 0

    def count(layer: torch.nn.Module, arguments: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        nonlocal total
        (x,) = arguments
        if isinstance(layer, torch.nn.Linear):
            total += layer.in_features * layer.out_features
        elif isinstance(layer, torch.nn.Conv2d):
            ones = functional.conv2d(
                torch.ones_like(x[:1]),
                torch.ones_like(layer.weight),
                stride=layer.stride,
                padding=layer.padding,
                groups=layer.groups,
            )
            total += int(ones.sum())

    hooks = [layer.register_forward_hook(count) for layer in module.modules()]
    with torch.inference_mode():
        module(*inputs)
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("after_stage", [1, 2, 3, 4])
def test_macs_of_head_and_tail_are_those_of_the_layers(after_stage: int) -> None:
    architecture = SMALL.model_copy(update={"after_stage": after_stage})
    whole = ResNet18(width=4, classes=5).eval()
    image = torch.zeros(1, 3, 10, 10)
    features = whole.features(image, after_stage)
    tail = Tail(architecture).eval()
    for timesteps in (1, 2, 3):
        spikes = torch.zeros(timesteps, 1, *tuple(architecture.spike_shape)[1:])
        assert count_macs(tail, spikes) == tail_macs(architecture, timesteps)
    after = count_macs(whole, image) - ann_head_macs(architecture)
    stages = tail.stages
    with torch.inference_mode():
        alone = sum(
            count_macs(stage, features_in)
            for stage, features_in in zip(
                stages.values(), _stage_inputs(tail, features), strict=True
            )
        )
    assert after == alone + whole.fc.in_features * whole.fc.out_features


def _stage_inputs(tail: Tail, features: torch.Tensor) -> list[torch.Tensor]:
    inputs = []
    for stage in tail.stages.values():
        inputs.append(features)
        features = stage(features)
    return inputs


def test_accumulates_are_those_of_the_spikes_that_fired(tmp_path) -> None:
    torch.manual_seed(0)
    head = SpikingHead(SMALL, LIFParams(), fused=False).train()
    with torch.no_grad():
        for _ in range(10):
            head(torch.randn(8, 3, 10, 10))
    reference = ExactHead(SMALL, fold_head(head.eval(), SMALL, SCALE), SCALE.mean_colour)
    (tmp_path / "head.onnx").write_bytes(onnx_head(reference).SerializeToString())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 10, 10, 3), dtype=np.uint8)
    result = OnnxHead(tmp_path / "head.onnx", SMALL, threads=1).run(pixels)
    expected = _brute_force(reference, pixels)
    assert result.accumulates.tolist() == expected
    assert result.macs == stem_macs(SMALL)
    assert min(expected) > 0


def _brute_force(reference: ExactHead, pixels: np.ndarray) -> list[int]:
    """Visit every synapse of every spike, one image and one timestep at a time."""
    counts = []
    for image in pixels:
        total = 0
        layers = plain_layers(reference, torch.from_numpy(image[None]))
        for layer in head_layers(SMALL):
            for synapse in layer.synapses:
                if synapse.source == IMAGE:
                    continue
                fired = layers[synapse.source][:, 0].numpy()  # [T, C, H, W]
                pad = synapse.kernel // 2
                for _, _, y, x in zip(*np.nonzero(fired), strict=True):
                    for out_y in range(synapse.side):
                        for out_x in range(synapse.side):
                            in_rows = 0 <= y - (out_y * synapse.stride - pad) < synapse.kernel
                            in_columns = 0 <= x - (out_x * synapse.stride - pad) < synapse.kernel
                            if in_rows and in_columns:
                                total += 1 if synapse.convolution is None else synapse.outputs
        counts.append(total)
    return counts


def test_the_bottleneck_itself_makes_no_accumulates() -> None:
    assert fan_out(SMALL)[-1].sum() == 0


def test_energy_is_by_the_cited_constants(bundle: Bundle) -> None:
    assert compute_uj(1_000_000, 0) == pytest.approx(4.6)
    assert compute_uj(0, 1_000_000) == pytest.approx(0.9)
    # LTE at 5 Mbit/s: 438.39 * 5 + 1288.04 = 3,480 mW, 1.6 us a byte.
    assert RADIO_PROFILES[Radio.LTE].send_uj(1000) == pytest.approx(5567.98, rel=1e-4)
    assert RADIO_PROFILES[Radio.NONE].send_uj(1000) == 0
    measured = bundle.manifest.measured
    if measured is not None:
        assert measured.edge_compute_uj <= measured.ann_head_uj / 5
