"""The tail on 8-bit integers says what the float32 tail says, on any number of threads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from cloud_node.models import TailOptions, load_model
from spikebottlenet.bundle import (
    HEAD_ONNX,
    TAIL_ONNX,
    TAIL_WEIGHTS,
    Bundle,
    Half,
    open_bundle,
)
from spikebottlenet.errors import BundleError, ConfigError
from spikebottlenet.lab.onnx_tail import write_onnx_tail
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.backbones import Backbone
from spikebottlenet.model.layers import TailKind
from spikebottlenet.model.tail import Tail
from spikebottlenet.runtime.onnx_head import OnnxHead
from spikebottlenet.runtime.onnx_tail import OnnxTail
from spikebottlenet.runtime.tail_engine import Precision, TailEngine, load_tail
from spikebottlenet.runtime.torch_tail import TorchTail
from tests.conftest import Start, altered_bundle, log_lines


def loaded(bundle: Bundle, precision: Precision) -> TailEngine:
    return load_tail(bundle, device="cpu", precision=precision, threads=2)


@pytest.fixture(scope="module")
def seen(bundle: Bundle, crops: np.ndarray) -> np.ndarray:
    """What the shipped head sends of real photos, [T, 200, C, H, W]."""
    head = OnnxHead(bundle.path(HEAD_ONNX), bundle.manifest.architecture, threads=1)
    return head.run(crops[:200]).spikes


@pytest.fixture(scope="module")
def without_integers(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Bundle:
    """The shipped bundle as it was before it had a tail of integers."""
    files = {n: digest for n, digest in bundle.manifest.files.items() if n != TAIL_ONNX}
    folder = altered_bundle(tmp_path_factory.mktemp("older") / "bundle", files=files)
    return open_bundle(folder, Half.LAB)


@pytest.mark.parametrize("timesteps", [1, 2])
def test_the_shipped_one_says_what_float32_says(
    bundle: Bundle, seen: np.ndarray, timesteps: int
) -> None:
    integers, floats = loaded(bundle, Precision.AUTO), loaded(bundle, Precision.FLOAT32)
    assert (type(integers), type(floats)) == (OnnxTail, TorchTail)
    got, wanted = (tail.classify(seen[:timesteps], threads=1) for tail in (integers, floats))
    assert (got.argmax(1) == wanted.argmax(1)).mean() >= 0.97
    assert np.abs(got - wanted).mean() < 0.001
    np.testing.assert_allclose(got.sum(1), 1, rtol=1e-5)


def test_neither_threads_nor_company_change_an_answer(bundle: Bundle, seen: np.ndarray) -> None:
    tail = loaded(bundle, Precision.INT8)
    together = tail.classify(seen[:, :8], threads=1)
    np.testing.assert_allclose(tail.classify(seen[:, :8], threads=2), together, atol=1e-5)
    alone = np.concatenate([tail.classify(seen[:, i : i + 1], threads=2) for i in range(8)])
    np.testing.assert_allclose(alone, together, atol=1e-5)


ARCHITECTURES = {
    "resnet18": {"after_stage": 2},
    "resnet50": {"backbone": Backbone.RESNET50, "after_stage": 3},
    "mobilenet": {"backbone": Backbone.MOBILENET_V1, "after_stage": 6},
    "three timesteps, a stride that does not divide the side": {
        "after_stage": 3,
        "timesteps": 3,
        "stride": 3,
    },
}


@pytest.mark.parametrize("about", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_every_backbone_has_one(tmp_path: Path, about: dict[str, object]) -> None:
    base = {"width": 8, "classes": 5, "side": 16, "channels": 4, "stride": 2, "timesteps": 2}
    architecture = Architecture.model_validate(base | about)
    save_file(Tail(architecture).eval().state_dict(), tmp_path / TAIL_WEIGHTS)
    spikes = np.random.default_rng(0).random(
        (architecture.timesteps, 40, *architecture.spike_shape[1:])
    )
    spikes = (spikes < 0.3).astype(np.uint8)
    assert write_onnx_tail(tmp_path, architecture, spikes)
    integers = OnnxTail(tmp_path / TAIL_ONNX, architecture, threads={1})
    floats = TorchTail(tmp_path / TAIL_WEIGHTS, architecture, device="cpu")
    for timesteps in range(1, architecture.timesteps + 1):
        got, wanted = (tail.classify(spikes[:timesteps]) for tail in (integers, floats))
        np.testing.assert_allclose(got, wanted, atol=0.02)
    assert b"QuantizeLinear" in (tmp_path / TAIL_ONNX).read_bytes()


def test_a_spiking_tail_has_none(tmp_path: Path) -> None:
    architecture = Architecture(
        width=4, classes=3, side=8, channels=4, after_stage=1, tail=TailKind.SNN
    )
    save_file(Tail(architecture).state_dict(), tmp_path / TAIL_WEIGHTS)
    spikes = np.zeros((architecture.timesteps, 2, *architecture.spike_shape[1:]), np.uint8)
    assert not write_onnx_tail(tmp_path, architecture, spikes)
    assert not (tmp_path / TAIL_ONNX).exists()


def test_an_older_bundle_is_served_in_float32_and_says_so_when_integers_are_wanted(
    without_integers: Bundle,
) -> None:
    assert type(load_model(without_integers.folder, TailOptions()).tail) is TorchTail
    with pytest.raises(ConfigError, match="--only-tail"):
        load_model(without_integers.folder, TailOptions(precision=Precision.INT8))


def test_integers_on_a_gpu_are_refused_by_name(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="int8 on cuda:1"):
        load_tail(bundle, device="cuda:1", precision=Precision.INT8, threads=1)


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    folder = altered_bundle(tmp_path / "damaged")
    (folder / TAIL_ONNX).write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"tail\.onnx was altered"):
        open_bundle(folder, Half.CLOUD)
    with pytest.raises(BundleError, match=r"cannot load .*tail\.onnx"):
        OnnxTail(
            folder / TAIL_ONNX, open_bundle(folder, Half.EDGE).manifest.architecture, threads={1}
        )


def test_a_cloud_on_integers_does_without_torch(bundle: Bundle) -> None:
    code = (
        "import sys; from pathlib import Path; import cloud_node.__main__ as cloud; "
        f"cloud.load_model(Path({str(bundle.folder)!r}), cloud.TailOptions(threads=2)); "
        "sys.exit('torch' in sys.modules)"
    )
    code = code.replace("cloud.TailOptions", "__import__('cloud_node.models').models.TailOptions")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_a_cloud_says_which_tail_it_runs(start: Start, precision: str) -> None:
    cloud = start("cloud_node", "--precision", precision)
    (line,) = [line for line in log_lines(cloud) if line["event"] == "tail loaded"]
    assert line["engine"] == {"int8": "OnnxTail", "float32": "TorchTail"}[precision]
