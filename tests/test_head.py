"""The head that runs is the head that was trained: ONNX Runtime against the torch reference."""

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from spikebottlenet.bundle import HEAD_ONNX, HEAD_WEIGHTS, Bundle
from spikebottlenet.config import read_yaml
from spikebottlenet.lab.onnx_head import onnx_head
from spikebottlenet.model.architecture import Architecture, head_layers
from spikebottlenet.model.exact import ExactHead, PixelScale, fold_head, parameter_names
from spikebottlenet.model.head import SpikingHead
from spikebottlenet.model.integer_head import IntegerHead, reference_head
from spikebottlenet.model.neuron import LIFParams
from spikebottlenet.runtime.onnx_head import OnnxHead
from tests.plain_head import plain_layers

Head = ExactHead | IntegerHead
SCALE = PixelScale(mean=(0.5, 0.45, 0.4), std=(0.25, 0.25, 0.3))


@pytest.fixture(scope="module")
def reference(bundle: Bundle) -> Head:
    manifest = bundle.manifest
    weights = load_file(bundle.path(HEAD_WEIGHTS))
    return reference_head(manifest.architecture, weights, manifest.preprocess.mean_colour)


def test_no_spike_differs_from_the_reference_on_a_thousand_images(
    bundle: Bundle, reference: Head, crops: np.ndarray
) -> None:
    head = OnnxHead(bundle.path(HEAD_ONNX), bundle.manifest.architecture, threads=2)
    differ = total = 0
    for start in range(0, len(crops), 100):
        batch = crops[start : start + 100]
        with torch.inference_mode():
            expected, _ = reference.run(torch.from_numpy(batch))
        found = head.run(batch).spikes
        differ += int((found != expected.numpy()).sum())
        total += found.size
    print(f"{differ} of {total} spikes differ")
    assert differ == 0
    assert total == 1000 * bundle.manifest.architecture.spike_shape.bits


@pytest.mark.parametrize("threads", [1, 3])
def test_spikes_do_not_depend_on_batch_or_threads(
    bundle: Bundle, crops: np.ndarray, threads: int
) -> None:
    head = OnnxHead(bundle.path(HEAD_ONNX), bundle.manifest.architecture, threads=threads)
    together = head.run(crops[:5])
    for index in range(5):
        alone = head.run(crops[index : index + 1])
        assert (alone.spikes[:, 0] == together.spikes[:, index]).all()
        assert alone.accumulates[0] == together.accumulates[index]


def trained_like(architecture: Architecture) -> SpikingHead:
    """A head with norms that have seen data, so that folding has something to fold."""
    torch.manual_seed(3)
    head = SpikingHead(
        architecture, LIFParams(architecture.threshold, architecture.leak), fused=False
    )
    head.train()
    with torch.no_grad():
        for _ in range(20):
            head(torch.randn(8, 3, architecture.side, architecture.side))
    return head.eval()


@pytest.mark.parametrize(("timesteps", "after_stage", "threshold"), [(1, 1, 1.0), (4, 3, 0.7)])
def test_every_sum_of_the_folded_head_is_exact(
    timesteps: int, after_stage: int, threshold: float
) -> None:
    architecture = Architecture(
        width=8, classes=10, after_stage=after_stage, timesteps=timesteps, threshold=threshold
    )
    weights = fold_head(trained_like(architecture), architecture, SCALE)
    pixels = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        head = ExactHead(architecture, weights, SCALE.mean_colour)
        single, _ = head.run(pixels)
        # float64 rounds differently wherever float32 rounds at all.
        double = plain_layers(head, pixels)[-1]
    assert (single == double).all()
    assert 0.001 < single.float().mean() < 0.999


def test_folding_keeps_the_trained_head_up_to_rounding() -> None:
    architecture = Architecture(width=8, classes=10, after_stage=1, timesteps=2)
    head = trained_like(architecture)
    weights = fold_head(head, architecture, SCALE)
    pixels = torch.randint(0, 256, (20, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        exact, _ = ExactHead(architecture, weights, SCALE.mean_colour).run(pixels)
        plain = (pixels.float() / 255 - torch.tensor(SCALE.mean)) / torch.tensor(SCALE.std)
        trained = head(plain.permute(0, 3, 1, 2)).spikes
    assert (exact != trained).float().mean() < 0.01


def test_weights_are_whole_multiples_of_a_power_of_two() -> None:
    architecture = Architecture(width=8, classes=10, after_stage=2, timesteps=2)
    weights = fold_head(trained_like(architecture), architecture, SCALE)
    for layer in head_layers(architecture):
        names, _ = parameter_names(layer)
        for name in filter(None, names):
            for channel in weights[name].double():
                smallest = channel[channel != 0].abs().min()
                step = 2.0 ** (torch.floor(torch.log2(smallest)) - 24)
                assert (channel / step == torch.round(channel / step)).all()


def test_the_graph_carries_the_reference_weights(bundle: Bundle, reference: Head) -> None:
    again = onnx_head(reference).SerializeToString()
    one = onnxruntime.InferenceSession(again, providers=["CPUExecutionProvider"])
    two = onnxruntime.InferenceSession(
        str(bundle.path(HEAD_ONNX)), providers=["CPUExecutionProvider"]
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for left, right in zip(
        one.run(None, {"pixels": pixels}), two.run(None, {"pixels": pixels}), strict=True
    ):
        assert (left == right).all()


def test_manifest_on_disk_is_what_was_parsed(bundle: Bundle) -> None:
    plain = read_yaml(bundle.folder / "manifest.yaml")
    assert isinstance(plain, dict)
    assert plain["files"] == bundle.manifest.files
