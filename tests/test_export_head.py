"""Heads written for other tools give the same spikes there."""

import shutil
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from spikebottlenet.bundle import HEAD_ONNX, HEAD_WEIGHTS, Bundle, default_bundle
from spikebottlenet.errors import BundleError, ConfigError
from spikebottlenet.lab.export_head import Format, export_head, find_format
from spikebottlenet.lab.nir_head import DT_S, nir_head
from spikebottlenet.lab.onnx_step import initial_potentials, step_head
from spikebottlenet.lab.requantise import on_integers
from spikebottlenet.model.architecture import Architecture, head_layers
from spikebottlenet.model.exact import ExactHead, fold_head
from spikebottlenet.model.head import SpikingHead
from spikebottlenet.model.integer_head import IntegerHead
from spikebottlenet.model.neuron import LIFParams
from tests.test_head import SCALE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    snntorch = pytest.importorskip("snntorch")
    import nir
    import nirtorch
    from snntorch.import_nir import import_from_nir

Head = ExactHead | IntegerHead


def small(**options: object) -> ExactHead:
    return _small(tuple(options.items()))


@cache
def _small(options: tuple[tuple[str, object], ...]) -> ExactHead:
    architecture = Architecture.model_validate(
        {"width": 4, "classes": 3, "side": 8, "channels": 3, "timesteps": 3, "threshold": 0.4}
        | dict(options)
    )
    torch.manual_seed(7)
    params = LIFParams(architecture.threshold, architecture.leak, reset=architecture.reset)
    head = SpikingHead(architecture, params, fused=False).train()
    with torch.no_grad():
        for _ in range(6):
            head(torch.randn(8, 3, architecture.side, architecture.side))
    return ExactHead(architecture, fold_head(head.eval(), architecture, SCALE), SCALE.mean_colour)


def pixels(images: int = 6) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (images, 8, 8, 3), dtype=np.uint8)


def expected(head: Head, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        spikes = head.run(torch.from_numpy(images))[0].numpy()
    assert 0.001 < spikes.mean() < 0.999
    return spikes


def stepped(model: onnx.ModelProto, images: np.ndarray, timesteps: int) -> np.ndarray:
    """Spikes [T, B, C, H, W] of a graph of one timestep, its state fed back."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    state, spikes = initial_potentials(model, len(images)), []
    for _ in range(timesteps):
        found = dict(zip(names, session.run(None, {"pixels": images, **state}), strict=True))
        state = {name: found[f"next_{name}"] for name in state}
        spikes.append(found["spikes"])
    return np.concatenate(spikes)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reset": "hard", "leak": 0.25},
        {"residual": "membrane", "leak": 1.0},
        {"residual": "sew_iand", "stem": "imagenet", "after_stage": 1},
        {"backbone": "mobilenet_v1", "after_stage": 3, "threshold": 0.1},
    ],
)
def test_timesteps_one_by_one_are_the_whole_head(bundle: Bundle, options: dict) -> None:
    exact, images = small(**options), pixels()
    for head in (exact, on_integers(exact, 8)):
        model = step_head(bundle, head)
        found = stepped(model, images, head.architecture.timesteps)
        assert np.array_equal(found, expected(head, images))


def test_the_shipped_head_step_by_step_is_the_one_that_ships(
    bundle: Bundle, crops: np.ndarray, tmp_path: Path
) -> None:
    whole = export_head(bundle, Format.ONNX, tmp_path / "whole.onnx").path
    one = export_head(bundle, Format.ONNX_STEP, tmp_path / "step.onnx").path
    images = crops[:4]
    runs = [
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
            ["spikes"], {"pixels": images}
        )[0]
        for path in (whole, bundle.path(HEAD_ONNX))
    ]
    assert np.array_equal(*runs)
    assert np.array_equal(stepped(onnx.load(one), images, 2), runs[0])
    about = {entry.key: entry.value for entry in onnx.load(whole).metadata_props}
    assert about["fingerprint"] == bundle.fingerprint
    assert about["timesteps"] == "2"


class EulerLIF(torch.nn.Module):
    """A NIR node by one step of forward Euler a timestep, and the soft reset of its metadata."""

    def __init__(self, node: nir.LIF | nir.IF) -> None:
        super().__init__()
        assert node.metadata["reset"] == "soft"
        rate = 0.0 if isinstance(node, nir.IF) else np.float32(DT_S) / node.tau
        gain = node.r * np.float32(DT_S) * (1.0 if isinstance(node, nir.IF) else 1 / node.tau)
        self.leak, self.gain = torch.as_tensor(1 - rate), torch.as_tensor(gain)
        self.threshold = torch.from_numpy(node.v_threshold)

    def forward(
        self, current: torch.Tensor, state: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        before = torch.zeros_like(current) if state is None else state
        potential = self.leak * before + self.gain * current
        fired = (potential > self.threshold).float()
        return fired, potential - self.threshold * fired


def simulated(path: Path, images: np.ndarray) -> np.ndarray:
    """Spikes [T, B, C, H, W] of a NIR file: in snnTorch, or where it would reset hard and we do
    not, on nirtorch's graph with neurons that reset as the file says."""
    graph = nir.read(path)
    if graph.metadata["reset"] == "hard":
        network = import_from_nir(graph)
        for module in network.modules():
            if isinstance(module, snntorch.Leaky):
                module.beta = module.beta.float()
    else:
        network = nirtorch.nir_to_torch(graph, {nir.LIF: EulerLIF, nir.IF: EulerLIF})
    image = torch.from_numpy(images).float() - torch.from_numpy(graph.metadata["mean_colour"])
    state, spikes = None, []
    with torch.inference_mode():
        for _ in range(int(graph.metadata["timesteps"])):
            fired, state = network(image.permute(0, 3, 1, 2).float(), state)
            spikes.append(fired)
    return torch.stack(spikes).numpy()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"timesteps": 4, "after_stage": 1},
        {"reset": "hard"},
        {"reset": "hard", "residual": "membrane", "timesteps": 2, "after_stage": 1},
        {"residual": "membrane", "timesteps": 2, "after_stage": 1},
        {"leak": 0.0, "threshold": 0.2},
        {"leak": 1.0},
    ],
)
def test_a_nir_file_gives_the_same_spikes_in_a_simulator(
    bundle: Bundle, options: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, images = small(**options), pixels(20)
    made = nir_head(bundle, head)
    nir.write(tmp_path / "head.nir", made.graph)
    differ = simulated(tmp_path / "head.nir", images) != expected(head, images)
    if options.get("residual") == "membrane":  # many currents in one sum, on one fine grid
        assert "too fine" in made.caveat
        assert differ.mean() < 0.001
    else:
        assert made.caveat == ""
        assert not differ.any()
    capsys.readouterr()  # the importer prints


def test_nir_states_our_neurons_in_continuous_time(bundle: Bundle) -> None:
    nodes = nir_head(bundle, small(leak=0.75)).graph.nodes
    layers = head_layers(small().architecture)
    neurons = [node for node in nodes.values() if isinstance(node, nir.LIF)]
    assert len(neurons) == len(layers)
    for node in neurons:
        assert np.allclose(1 - DT_S / node.tau, 0.75)  # forward Euler's leak
        assert np.allclose(node.r * DT_S / node.tau, 1.0)  # and weight of the current
    integrating = nir_head(bundle, small(leak=1.0)).graph.nodes.values()
    assert sum(isinstance(node, nir.IF) for node in integrating) == len(layers)


def test_a_potential_at_the_threshold_fires_in_a_graph_that_fires_above_it(
    bundle: Bundle,
) -> None:
    head = small(after_stage=1, timesteps=2)
    weights = {name: torch.zeros_like(value) for name, value in head.weights.items()}
    weights["act1.bias"] += 1.0  # every neuron of the stem meets it exactly, each timestep
    tied = ExactHead(head.architecture, weights, head.mean_colour)
    _, activity = tied.run(torch.from_numpy(pixels(1)))
    assert (activity[0] == 2 * 4).all()
    nodes = nir_head(bundle, tied).graph.nodes
    assert 1 < nodes["act1_conv0"].bias.min() < 1.25


def test_what_nir_cannot_say_is_named(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="residual 'sew_and'"):
        nir_head(bundle, small(residual="sew_and", side=16))
    with pytest.raises(ConfigError, match="stem 'imagenet'"):
        nir_head(bundle, small(stem="imagenet", after_stage=1, side=16))


def test_the_command_writes_once_and_names_what_is_wrong(bundle: Bundle, tmp_path: Path) -> None:
    from spikebottlenet.cli.__main__ import app

    out = tmp_path / "head.nir"
    done = CliRunner().invoke(app, ["export", "--to", "nir", str(out)])
    assert done.exit_code == 0, done.output
    assert "note: the 8-bit head rounds" in done.output
    assert nir.read(out).metadata["model"] == bundle.model
    assert [path.name for path in tmp_path.iterdir()] == ["head.nir"]
    with pytest.raises(ConfigError, match=r"head\.nir is there already"):
        export_head(bundle, Format.NIR, out)
    with pytest.raises(ConfigError, match="did you mean 'onnx-step'"):
        find_format("onnx_step")
    headless = tmp_path / "headless"
    shutil.copytree(default_bundle(), headless)
    (headless / HEAD_WEIGHTS).unlink()
    arguments = ["export", "--to", "nir", "--bundle", str(headless), str(tmp_path / "b.nir")]
    failed = CliRunner().invoke(app, arguments)
    assert isinstance(failed.exception, BundleError)
    assert "head.safetensors is missing" in str(failed.exception)
