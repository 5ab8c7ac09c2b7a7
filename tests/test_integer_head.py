"""The 8-bit head: held to sums of integers in NumPy, and to the head it was made from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spikebottlenet.bundle import HEAD_ONNX, HEAD_WEIGHTS, Bundle, Half, open_bundle
from spikebottlenet.errors import BundleError, ConfigError
from spikebottlenet.lab.onnx_head import onnx_head
from spikebottlenet.lab.requantise import head_bits, requantise
from spikebottlenet.model.architecture import Architecture, head_layers
from spikebottlenet.model.exact import ExactHead, fold_head, parameter_names
from spikebottlenet.model.integer_head import (
    IntegerHead,
    quantise_head,
    reference_head,
    scale_name,
)
from spikebottlenet.runtime.onnx_head import OnnxHead
from tests.integer_reference import spikes_in_integers
from tests.test_head import SCALE, trained_like


def small(timesteps: int, after_stage: int, leak: float, bits: int = 8) -> IntegerHead:
    architecture = Architecture(
        width=8,
        classes=10,
        side=16,
        after_stage=after_stage,
        timesteps=timesteps,
        leak=leak,
        threshold=0.5,  # untrained, few neurons of deep layers would reach 1
    )
    folded = fold_head(trained_like(architecture), architecture, SCALE)
    return IntegerHead(architecture, quantise_head(folded, architecture, bits), SCALE.mean_colour)


@pytest.fixture(scope="module")
def shipped(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shipped bundle on 8-bit weights."""
    weights = load_file(bundle.path(HEAD_WEIGHTS))
    manifest = bundle.manifest
    colour = manifest.preprocess.mean_colour
    if isinstance(reference_head(manifest.architecture, weights, colour), IntegerHead):
        return bundle
    folder = tmp_path_factory.mktemp("bundle") / "integer"
    requantise(bundle, folder)
    return open_bundle(folder, Half.LAB)


def reference(bundle: Bundle) -> IntegerHead:
    manifest = bundle.manifest
    weights = load_file(bundle.path(HEAD_WEIGHTS))
    head = reference_head(manifest.architecture, weights, manifest.preprocess.mean_colour)
    assert isinstance(head, IntegerHead)
    return head


@pytest.mark.parametrize(
    ("timesteps", "after_stage", "leak", "bits"),
    [
        (1, 1, 0.5, 8),
        (2, 2, 0.5, 8),
        (2, 1, 0.25, 8),
        (3, 2, 0.75, 8),
        (4, 3, 0.5, 8),
        (3, 1, 0.0, 8),
        (2, 1, 1.0, 8),
        (2, 2, 0.5, 4),
        (3, 3, 0.75, 5),
    ],
)
def test_graph_and_torch_give_the_integers_spikes(
    tmp_path: Path, timesteps: int, after_stage: int, leak: float, bits: int
) -> None:
    head = small(timesteps, after_stage, leak, bits)
    (tmp_path / "head.onnx").write_bytes(onnx_head(head).SerializeToString())
    pixels = np.random.default_rng(5).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    layers = spikes_in_integers(head, pixels)
    engine = OnnxHead(tmp_path / "head.onnx", head.architecture, threads=2)
    found, *activity = engine.outputs(pixels)
    torch_spikes, torch_activity = head.run(torch.from_numpy(pixels))
    assert (found == layers[-1]).all()
    assert (torch_spikes.numpy() == layers[-1]).all()
    assert 0.001 < found.mean() < 0.999
    for layer, of_graph, of_torch in zip(layers, activity, torch_activity, strict=True):
        assert (of_graph == layer.sum(axis=(0, 2))).all()
        assert (of_torch.numpy() == layer.sum(axis=(0, 2))).all()


def test_the_shipped_head_gives_the_integers_spikes(shipped: Bundle, crops: np.ndarray) -> None:
    head = reference(shipped)
    engine = OnnxHead(shipped.path(HEAD_ONNX), shipped.manifest.architecture, threads=1)
    pixels = np.concatenate(
        [crops[:3], np.zeros((1, 32, 32, 3), np.uint8), np.full((1, 32, 32, 3), 255, np.uint8)]
    )
    expected = spikes_in_integers(head, pixels)[-1]
    assert (engine.run(pixels).spikes == expected).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_spikes_do_not_depend_on_batch_or_threads(
    shipped: Bundle, crops: np.ndarray, threads: int
) -> None:
    architecture = shipped.manifest.architecture
    engine = OnnxHead(shipped.path(HEAD_ONNX), architecture, threads=threads)
    together = engine.run(crops[:6])
    with torch.inference_mode():
        expected, _ = reference(shipped).run(torch.from_numpy(crops[:6]))
    assert (together.spikes == expected.numpy()).all()
    for index in range(6):
        alone = engine.run(crops[index : index + 1])
        assert (alone.spikes[:, 0] == together.spikes[:, index]).all()
        assert alone.accumulates[0] == together.accumulates[index]


@pytest.mark.parametrize(("bits", "top"), [(8, 127), (4, 7)])
def test_weights_are_the_nearest_multiples_of_a_power_of_two(bits: int, top: int) -> None:
    architecture = Architecture(width=8, classes=10, after_stage=2)
    folded = fold_head(trained_like(architecture), architecture, SCALE)
    integers = quantise_head(folded, architecture, bits)
    for layer in head_layers(architecture)[1:]:
        names, _ = parameter_names(layer)
        for name in filter(None, names):
            scale = integers[scale_name(name)].double()
            assert (torch.log2(scale) % 1 == 0).all()
            assert integers[name].dtype == torch.int8
            # Two products of a byte by -128 would not fit.
            assert top // 2 < integers[name].abs().max() <= top
            step = scale[:, None, None, None] / 64
            inside = integers[name].abs() < top
            error = (integers[name] * step - folded[name].double()).abs() / step
            assert inside.float().mean() > (0.95 if bits == 8 else 0.8)
            assert error[inside].max() <= 0.5


def seen_in_training(architecture: Architecture, bits: int) -> dict[str, torch.Tensor]:
    """Weights by their names, as a head in quantization-aware training convolves with them."""
    head = trained_like(architecture)
    head.weight_bits = bits
    seen = dict[str, torch.Tensor]()
    for layer in head_layers(architecture):
        names, _ = parameter_names(layer)
        for synapse, name in zip(layer.synapses, names, strict=True):
            if name is None or synapse.convolution is None or synapse.norm is None:
                continue
            convolution = head.get_submodule(
                f"convolutions.{synapse.convolution.replace('.', '/')}"
            )
            convolution.register_forward_pre_hook(
                lambda module, _, name=name: seen.update({name: module.weight})
            )
    head(torch.randn(2, 3, architecture.side, architecture.side))
    return seen


@pytest.mark.parametrize("bits", [8, 4])
def test_training_sees_the_weights_that_are_exported(bits: int) -> None:
    architecture = Architecture(width=8, classes=10, side=16, after_stage=2, threshold=0.5)
    head = trained_like(architecture)
    folded = fold_head(head, architecture, SCALE)
    integers = quantise_head(folded, architecture, bits)
    state = head.state_dict()
    seen = seen_in_training(architecture, bits)
    assert seen.keys() == {name for name in folded if ".weight." in name}
    for layer in head_layers(architecture)[1:]:
        names, _ = parameter_names(layer)
        for synapse, name in zip(layer.synapses, names, strict=True):
            if name is None or synapse.norm is None:
                continue
            norm = f"norms.{synapse.norm.replace('.', '/')}"
            gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + 1e-5).sqrt()
            units = seen[name] * gain[:, None, None, None] / architecture.threshold * 64
            exported = integers[name] * integers[scale_name(name)][:, None, None, None]
            # A weight on the edge between two integers may fall to either side.
            other = (units - exported).abs() > 1e-3 * exported.abs().max()
            assert other.float().mean() < 0.005


def test_the_gradient_passes_straight_through_the_rounding() -> None:
    architecture = Architecture(width=8, classes=10, side=16, after_stage=1, threshold=0.5)
    head = trained_like(architecture).train()
    head.weight_bits = 4
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head(torch.randn(4, 3, 16, 16)).spikes.float().mean().backward()
    for name, parameter in head.named_parameters():
        if name.startswith("convolutions"):
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0
            assert torch.equal(parameter, before[name])  # rounded for the pass, not for good


def test_a_channel_whose_norm_has_no_gain_stays_finite() -> None:
    architecture = Architecture(width=8, classes=10, side=16, after_stage=1, threshold=0.5)
    head = trained_like(architecture).train()
    head.weight_bits = 4
    for norm in head.norms.values():
        torch.nn.init.zeros_(norm.weight)
    out = head(torch.randn(2, 3, 16, 16))
    out.rates.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_first_timestep_fires_as_without_rounding() -> None:
    architecture = Architecture(width=8, classes=10, side=16, after_stage=1, timesteps=1)
    folded = fold_head(trained_like(architecture), architecture, SCALE)
    head = IntegerHead(architecture, quantise_head(folded, architecture), SCALE.mean_colour)
    pixels = torch.randint(0, 256, (8, 16, 16, 3), dtype=torch.uint8)
    _, exact = ExactHead(architecture, folded, SCALE.mean_colour).run(pixels)
    _, rounded = head.run(pixels)
    assert (exact[0] == rounded[0]).all()  # the stem


def test_a_leak_whose_sums_would_not_be_exact_is_refused() -> None:
    architecture = Architecture(width=8, classes=10, after_stage=1, leak=0.3125)
    folded = fold_head(trained_like(architecture), architecture, SCALE)
    with pytest.raises(ConfigError, match=r"leak is 0\.3125, .* multiple of 0\.25"):
        quantise_head(folded, architecture)


def test_a_bundle_is_requantised_once(bundle: Bundle, shipped: Bundle, tmp_path: Path) -> None:
    assert (shipped.fingerprint == bundle.fingerprint) == (shipped is bundle)
    size = shipped.path(HEAD_ONNX).stat().st_size
    assert size < 1.1 * sum(
        tensor.numel() * tensor.element_size() for tensor in reference(shipped).weights.values()
    )
    assert head_bits(shipped) == 8
    with pytest.raises(BundleError, match="integer weights already"):
        requantise(shipped, tmp_path / "again")
    assert not (tmp_path / "again").exists()
