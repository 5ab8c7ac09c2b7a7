"""Every backbone, stem and cut in miniature: one description, walked alike by everything."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from spikebottlenet.accounting.operations import (
    ann_head_macs,
    dense_accumulates,
    fixed_accumulates,
    stem_macs,
    tail_macs,
)
from spikebottlenet.lab.onnx_head import onnx_head
from spikebottlenet.lab.requantise import on_integers
from spikebottlenet.model.architecture import IMAGE, Architecture, head_layers
from spikebottlenet.model.backbones import Backbone, Stem, cut_names
from spikebottlenet.model.exact import ExactHead, PixelScale, fold_head
from spikebottlenet.model.head import SpikingHead, sent_on
from spikebottlenet.model.integer_head import IntegerHead
from spikebottlenet.model.layers import NeuronLayer, Reset, Residual, TailKind
from spikebottlenet.model.neuron import LIFParams
from spikebottlenet.model.split import SplitNetwork
from spikebottlenet.model.uncut import uncut_network
from spikebottlenet.runtime.folded_tail import fold_tail
from spikebottlenet.runtime.onnx_head import OnnxHead
from tests.integer_reference import spikes_in_integers
from tests.plain_head import plain_layers
from tests.test_accounting import count_macs

SIDE = 16
# Whole numbers, as an image's border is padded with the rounded mean.
SCALE = PixelScale(mean=(127 / 255, 115 / 255, 102 / 255), std=(0.25, 0.25, 0.3))
EVERY_CUT = [
    (backbone, stem, cut)
    for backbone, stem in product(Backbone, Stem)
    for cut in range(1, len(cut_names(backbone)) + 1)
]


def tiny(backbone: Backbone, stem: Stem, cut: int, **options: object) -> Architecture:
    return Architecture(
        backbone=backbone,
        stem=stem,
        after_stage=cut,
        width=4,
        classes=3,
        side=SIDE,
        channels=2,
        threshold=0.5,  # untrained, few neurons of deep layers would reach 1
        **options,  # type: ignore[arg-type]
    )


def seen_data(architecture: Architecture, params: LIFParams | None = None) -> SplitNetwork:
    """A split network, in evaluation, whose norms have seen data."""
    torch.manual_seed(0)
    given = params or LIFParams(architecture.threshold, architecture.leak)
    network = SplitNetwork(architecture, given, fused=False).train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the mean of all that was seen
        for _ in range(2):
            network(torch.randn(4, 3, SIDE, SIDE), architecture.timesteps)
    return network.eval()


def random_pixels() -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, SIDE, SIDE, 3), dtype=torch.uint8, generator=random)


def folded(network: SplitNetwork, architecture: Architecture) -> ExactHead:
    learned = network.head.learned(architecture)
    return ExactHead(learned, fold_head(network.head, learned, SCALE), SCALE.mean_colour)


def outputs_of(head: ExactHead | IntegerHead, path: Path, pixels: torch.Tensor) -> list[np.ndarray]:
    path.write_bytes(onnx_head(head).SerializeToString())
    return OnnxHead(path, head.architecture, threads=1).outputs(pixels.numpy())


def engines_agree(network: SplitNetwork, architecture: Architecture, folder: Path) -> ExactHead:
    """Training head, float64, torch and ONNX: the same spikes and the same activity."""
    exact, pixels = folded(network, architecture), random_pixels()
    with torch.inference_mode():
        spikes, activity = exact.run(pixels)
    plain = plain_layers(exact, pixels)
    assert torch.equal(spikes, plain[-1].to(torch.uint8))
    trained_head_agrees(network.head, pixels, plain)
    for layer, of_torch in zip(plain, activity, strict=True):
        assert torch.equal(layer.sum(dim=(0, 2)).float(), of_torch)
    found, *counts = outputs_of(exact, folder / "exact.onnx", pixels)
    assert np.array_equal(found, spikes.numpy())
    for of_graph, of_torch in zip(counts, activity, strict=True):
        assert np.array_equal(of_graph, of_torch.numpy())
    return exact


def trained_head_agrees(head: SpikingHead, pixels: torch.Tensor, plain: list[torch.Tensor]) -> None:
    """Layer by layer on the exact head's spikes, as what the grid rounds would add up."""
    images = SCALE.normalise(pixels)
    spikes: list[torch.Tensor] = []
    currents: list[torch.Tensor] = []
    for index, (layer, wanted) in enumerate(zip(head.layers, plain, strict=True)):
        with torch.inference_mode():
            parts = [
                head.synapse_current(index, synapse, images, spikes, currents)
                for synapse in layer.synapses
            ]
            currents.append(sum(parts))
            found = sent_on(layer, head.neurons[index](currents[-1]), spikes)
        spikes.append(wanted.flatten(0, 1).float())
        assert int((found != spikes[-1]).sum()) <= 1 + found.numel() // 100, layer.name


def eight_bit_agrees(exact: ExactHead, folder: Path) -> None:
    """NumPy's integers, torch and ONNX on 8 bits."""
    head, pixels = on_integers(exact, 8), random_pixels()
    spikes, activity = head.run(pixels)
    layers = spikes_in_integers(head, pixels.numpy())
    assert np.array_equal(layers[-1], spikes.numpy())
    for of_integers, of_torch in zip(layers, activity, strict=True):
        assert np.array_equal(of_integers.sum(axis=(0, 2)), of_torch.numpy())
    found, *counts = outputs_of(head, folder / "eight.onnx", pixels)
    assert np.array_equal(found, spikes.numpy())
    for of_graph, of_torch in zip(counts, activity, strict=True):
        assert np.array_equal(of_graph, of_torch.numpy())


@pytest.mark.parametrize(("backbone", "stem", "cut"), EVERY_CUT)
def test_shapes_spikes_and_operations_of_every_cut(
    backbone: Backbone, stem: Stem, cut: int, tmp_path: Path
) -> None:
    architecture = tiny(backbone, stem, cut)
    network = seen_data(architecture)
    exact = engines_agree(network, architecture, tmp_path)
    eight_bit_agrees(exact, tmp_path)
    uncut = uncut_network(architecture).eval()
    network.load_uncut(uncut.state_dict())
    image = torch.zeros(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        features = uncut.features(image, cut)
        output = network(image, 1)
        assert torch.equal(uncut.classify(features, cut), uncut(image))
        expected = network.tail(output.spikes)
        torch.testing.assert_close(fold_tail(network.tail)(output.spikes), expected)
    assert features.shape[1:] == (architecture.cut_channels, *(architecture.cut_side,) * 2)
    assert output.features.shape == features.shape
    assert output.spikes[:, 0].shape == tuple(architecture.spike_shape)
    assert output.logits.shape == (2, 3)

    behind = count_macs(uncut, image[:1]) - count_macs(_Classify(uncut, cut), features[:1])
    assert ann_head_macs(architecture) == behind
    head = network.head
    of_head = count_macs(head, image[:1])  # at T = 2 the hook sees one image of the T * B
    assert stem_macs(architecture) == count_macs(_first(head), image[:1])
    convolved = of_head - stem_macs(architecture)
    identities = sum(
        s.outputs * s.side**2
        for layer in head_layers(architecture)
        for s in layer.synapses
        if s.convolution is None
    )
    assert dense_accumulates(architecture).sum() == 2 * (convolved + identities)
    for t in (1, 2):
        assert count_macs(network.tail, output.spikes[:t, :1].float()) == tail_macs(architecture, t)


class _Classify(torch.nn.Module):
    """What an un-cut network runs behind a cut."""

    def __init__(self, network: torch.nn.Module, cut: int) -> None:
        super().__init__()
        self.network, self.cut = network, cut

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.network.classify(features, self.cut)


def _first(head: SpikingHead) -> torch.nn.Module:
    return head.convolutions["conv1"]


OPTIONS = [
    {"residual": Residual.MEMBRANE},
    {"residual": Residual.SEW_AND},
    {"residual": Residual.SEW_IAND},
    {"residual": Residual.SEW_ADD},
    {"reset": Reset.HARD},
    {"reset": Reset.HARD, "residual": Residual.MEMBRANE, "leak": 0.75, "timesteps": 3},
    {"leak": 0.25, "timesteps": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize(
    ("backbone", "stem"), [(Backbone.RESNET18, Stem.IMAGENET), (Backbone.RESNET50, Stem.CIFAR)]
)
def test_every_neuron_and_residual_form_is_exact(
    backbone: Backbone, stem: Stem, options: dict[str, object], tmp_path: Path
) -> None:
    architecture = tiny(backbone, stem, 2, **options)
    exact = engines_agree(seen_data(architecture), architecture, tmp_path)
    eight_bit_agrees(exact, tmp_path)


def test_what_was_learned_is_what_runs(tmp_path: Path) -> None:
    architecture = tiny(Backbone.RESNET18, Stem.CIFAR, 2, residual=Residual.MEMBRANE)
    params = LIFParams(0.5, 0.5, learn_leak=True, learn_threshold=True)
    network = seen_data(architecture, params)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for neuron in network.head.neurons:
            neuron.leak_offset.uniform_(-0.5, 0.5, generator=random)
            neuron.threshold_log_ratio.uniform_(-0.3, 0.3, generator=random)
    exact = engines_agree(network, architecture, tmp_path)
    eight_bit_agrees(exact, tmp_path)
    assert len(set(exact.architecture.leaks)) > 2
    assert len(set(exact.architecture.thresholds)) > 2
    written = exact.architecture.model_dump(mode="json")
    assert Architecture.model_validate(written) == exact.architecture


def test_gradients_reach_what_is_learned() -> None:
    architecture = tiny(Backbone.RESNET18, Stem.CIFAR, 1, timesteps=3)
    params = LIFParams(0.5, 0.5, learn_leak=True, learn_threshold=True)
    head = seen_data(architecture, params).head.train()
    head(torch.randn(4, 3, SIDE, SIDE)).rates.sum().backward()
    for neuron in head.neurons:
        assert neuron.leak_offset.grad.abs() > 0
        assert neuron.threshold_log_ratio.grad < 0  # a higher threshold fires less


def test_what_is_not_binary_is_counted_as_multiplications() -> None:
    def layers(residual: Residual) -> tuple[NeuronLayer, ...]:
        return head_layers(tiny(Backbone.RESNET18, Stem.CIFAR, 2, residual=residual))

    def macs(residual: Residual) -> int:
        return stem_macs(tiny(Backbone.RESNET18, Stem.CIFAR, 2, residual=residual))

    assert [layer.levels for layer in layers(Residual.SEW_ADD)] == [1, 1, 2, 1, 3, 1, 1, 2, 1, 3, 1]
    assert {layer.levels for layer in layers(Residual.SEW_IAND)} == {1}
    assert macs(Residual.SEW_ADD) > macs(Residual.SEW_IAND) == macs(Residual.SUM)


def test_currents_passed_on_are_counted_whatever_fires() -> None:
    architecture = tiny(Backbone.RESNET18, Stem.CIFAR, 1, residual=Residual.MEMBRANE)
    assert fixed_accumulates(architecture) == 2 * 2 * 4 * SIDE**2  # T, blocks, channels, sites
    assert fixed_accumulates(tiny(Backbone.RESNET18, Stem.CIFAR, 1)) == 0


@pytest.mark.parametrize("backbone", [Backbone.RESNET18, Backbone.MOBILENET_V1])
def test_a_spiking_tail_convolves_spikes_alone(backbone: Backbone) -> None:
    architecture = tiny(backbone, Stem.CIFAR, 2, tail=TailKind.SNN)
    tail = seen_data(architecture).tail
    seen: list[torch.Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].unique()))
        for module in tail.stages.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    spikes = (torch.rand(2, 3, *tuple(architecture.spike_shape)[1:]) < 0.3).float()
    with torch.inference_mode():
        logits = tail(spikes)
        torch.testing.assert_close(fold_tail(tail)(spikes), logits)
    for hook in hooks:
        hook.remove()
    assert seen
    assert set(torch.cat(seen).tolist()) <= {0.0, 1.0}
    ordinary = architecture.model_copy(update={"tail": TailKind.ANN})
    assert tail_macs(architecture, 2) > tail_macs(ordinary, 2)


def synapses(architecture: Architecture) -> Iterator[tuple[str, int]]:
    for layer in head_layers(architecture):
        for synapse in layer.synapses:
            if synapse.convolution is not None:
                yield synapse.convolution, synapse.source


def test_every_convolution_but_the_first_takes_neurons() -> None:
    for backbone, stem, cut in EVERY_CUT:
        found = list(synapses(tiny(backbone, stem, cut)))
        assert [name for name, source in found if source == IMAGE] == ["conv1"]
        assert len({name for name, _ in found}) == len(found)


def test_the_default_architecture_is_written_as_it_always_was() -> None:
    architecture = Architecture(classes=100)
    plain = architecture.model_dump(mode="json")
    before = "width classes side after_stage timesteps channels stride threshold leak"
    assert list(plain) == before.split()
    assert replace(head_layers(architecture)[0], name="x").side == 32
