"""A whole training in miniature: data by path, two networks, kill and resume, evaluation."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from typer.testing import CliRunner

from spikebottlenet.bundle import HEAD_WEIGHTS, Half, Preprocess, open_bundle
from spikebottlenet.cli.__main__ import app
from spikebottlenet.errors import ConfigError, DataError, StoreError
from spikebottlenet.lab import export, loop
from spikebottlenet.lab import train as lab_train
from spikebottlenet.lab.config import DataSettings, TrainingConfig
from spikebottlenet.lab.data import hold_out, load_split
from spikebottlenet.lab.requantise import head_bits
from spikebottlenet.lab.train import train_bundle
from spikebottlenet.model.exact import fold_head
from spikebottlenet.model.integer_head import quantise_head, reference_head
from spikebottlenet.model.neuron import LIFParams
from spikebottlenet.model.split import SplitNetwork

CONFIG = {
    "data": {"name": "given by --data", "side": 16, "held_out": 24},
    "network": {"width": 8},
    "bottleneck": {"after_stage": 1, "timesteps": 2, "channels": 8, "stride": 2},
    "neuron": {"fused": False},
    "loss": {"lambda_bits": 0.01, "lambda_energy": 0.001},
    "edge_exit": {"hidden": 16, "epochs": 10, "batch": 32},
    "uncut": {"batch": 16, "phases": [{"epochs": 3, "side": 16, "pad": 1}]},
    "cut": {"batch": 16, "phases": [{"epochs": 1, "side": 12}, {"epochs": 2, "side": 16}]},
}


WANTED = Preprocess(side=16, mean_colour=(120, 120, 120))


def images(count: int, seed: int) -> datasets.Dataset:
    """Images of three classes, told apart by which colour is strong, under noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    pixels = random.integers(0, 120, (count, 16, 16, 3))
    pixels[np.arange(count), :, :, labels] += 130
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["red", "green", "blue"])}
    )
    rows = {"img": list(pixels.astype(np.uint8)), "label": labels.tolist()}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    images(200, 0).to_parquet(folder / "train-0.parquet")
    images(90, 1).to_parquet(folder / "test-0.parquet")
    return folder


@pytest.fixture(autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def test_a_head_trained_on_few_bits_is_the_one_that_runs(data: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "tiny.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump({**CONFIG, "head_bits": 4, "quantization_aware": True}))
    made = train_bundle(path, out, name="tiny", data=str(data))
    assert made is not None
    assert head_bits(made) == 4
    architecture = made.manifest.architecture
    weights = load_file(made.path(HEAD_WEIGHTS))
    runs = reference_head(architecture, weights, made.manifest.preprocess.mean_colour)
    pixels = torch.from_numpy(load_split(str(data), "test", WANTED, DataSettings()).images)
    spikes, _ = runs.run(pixels)
    differing = []
    for bits in (4, None):
        network = SplitNetwork(architecture, LIFParams(), fused=False, weight_bits=bits)
        network.load_state_dict(torch.load(out / "cut.pt")["network"])
        with torch.inference_mode():
            found = network.eval().head(DataSettings().scale.normalise(pixels)).spikes
        differing.append(float((found != spikes).float().mean()))
        if bits is not None:
            folded = fold_head(network.head, architecture, DataSettings().scale)
            expected = quantise_head(folded, architecture, bits)
            assert expected.keys() == weights.keys()
            assert all(torch.equal(weights[name], expected[name]) for name in expected)
    # What is left is the rounding of currents to bytes; without it weights differ as well.
    assert differing[0] < differing[1]


def test_train_makes_a_bundle_that_evaluates_to_what_it_says(
    config: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ["train", str(config), "--data", str(data), "--out", str(out)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    bundle = open_bundle(out / "bundle", Half.LAB)
    measured = bundle.manifest.measured
    assert measured is not None
    assert measured.images == 90
    assert measured.uncut_top1 is not None
    assert min(measured.top1, measured.uncut_top1, measured.edge_exit_top1) > 60
    uncut = [json.loads(line) for line in (out / "uncut.jsonl").read_text().splitlines()]
    cut = [json.loads(line) for line in (out / "cut.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in uncut] == [1, 2, 3]
    assert [line["side"] for line in cut] == [12, 16, 16]
    assert {"bits", "accumulate_uj", "held_out_top1_t1", "held_out_top1_t2"} <= set(cut[0])
    assert (bundle.folder / "training-cut.jsonl").read_text() == (out / "cut.jsonl").read_text()

    arguments = ["evaluate", str(bundle.folder), "--data", str(data), "--json"]
    found = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    for key in ("images", "top1", "top5", "payload_bytes_mean", "payload_bytes_p99"):
        assert found[key] == getattr(measured, key), key
    assert found["uncut_top1"] == measured.uncut_top1
    assert found["spike_bits"] == 2 * 8 * 8 * 8
    assert found["bit_compression"] == 32 * 8 * 16 * 16 / found["spike_bits"]
    assert found["model"] == bundle.model
    assert measured.prior_bits_mean is not None
    assert measured.context_bits_mean is not None

    again = tmp_path / "again"
    refit = ["model", "refit", str(bundle.folder), "--data", str(data), "--out", str(again)]
    assert CliRunner().invoke(app, refit, catch_exceptions=False).exit_code == 0
    assert open_bundle(again, Half.LAB).manifest.files == bundle.manifest.files
    found_again = open_bundle(again, Half.LAB).manifest.measured
    assert found_again == measured.model_copy(update={"date": found_again.date})
    assert CliRunner().invoke(app, refit).exit_code != 0  # the folder exists

    arguments += ["--limit", "7", "--split", "train"]
    of_others = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert (of_others["images"], of_others["uncut_top1"]) == (7, None)  # measured on others


def test_a_bundle_is_replaced_whole_or_not_at_all(
    config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    first = train_bundle(config, out, name="tiny", data=str(data))
    assert first is not None

    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(export, "save_file", full)
        with pytest.raises(StoreError, match=r"cannot write the bundle .* free: free some room"):
            train_bundle(config, out, name="tiny", data=str(data))
    for step in ("export_bundle", "measure_bundle"):
        with monkeypatch.context() as patched:
            patched.setattr(lab_train, step, killed)
            with pytest.raises(KilledError):
                train_bundle(config, out, name="tiny", data=str(data))
        assert open_bundle(out / "bundle", Half.LAB).manifest == first.manifest
    assert train_bundle(config, out, name="tiny", data=str(data)) is not None
    assert not list(out.glob("bundle?*"))


class KilledError(Exception):
    """Stands for a process that is gone."""


def test_a_killed_training_goes_on_as_if_it_had_not_been(
    config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_bundle(config, tmp_path / "whole", name="tiny", data=str(data))
    save, saves = loop.save_checkpoint, []

    def save_twice_then_die(path: Path, state: dict) -> None:
        save(path, state)
        saves.append(path)
        if len(saves) in (2, 5):
            raise KilledError

    monkeypatch.setattr(loop, "save_checkpoint", save_twice_then_die)
    for _ in range(2):
        with pytest.raises(KilledError):
            train_bundle(config, tmp_path / "killed", name="tiny", data=str(data))
    resumed = train_bundle(config, tmp_path / "killed", name="tiny", data=str(data))
    assert [path.name for path in saves] == ["uncut.pt"] * 3 + ["cut.pt"] * 3
    one = torch.load(tmp_path / "whole" / "cut.pt", weights_only=True)["network"]
    two = torch.load(tmp_path / "killed" / "cut.pt", weights_only=True)["network"]
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    assert resumed.manifest.files == whole.manifest.files


def test_one_folder_holds_one_training(config: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.yaml").write_text("seed: 1\n")
    (out / "uncut.pt").touch()  # without a checkpoint nothing was begun, and the folder is free
    with pytest.raises(ConfigError, match="another --out"):
        train_bundle(config, out, name="tiny", data=str(data))


def test_the_shipped_config_is_understood() -> None:
    path = Path(__file__).parent.parent / "deploy" / "training" / "cifar100-resnet18.yaml"
    config = TrainingConfig.parse(yaml.safe_load(path.read_text()), source=str(path))
    assert config.architecture(100).spike_shape.bits == 2048


def test_data_is_found_by_its_columns_and_kept_apart(data: Path, tmp_path: Path) -> None:
    whole = load_split(str(data), "train", WANTED)
    assert whole.images.shape == (200, 16, 16, 3)
    again = load_split(str(data), "train", WANTED)  # from the cache
    assert (again.images == whole.images).all()
    rest, held = hold_out(whole, 24, seed=0)
    assert (len(rest), len(held)) == (176, 24)
    kept = {image.tobytes() for image in rest.images}
    assert not kept & {image.tobytes() for image in held.images}
    with pytest.raises(DataError, match="cannot load split 'validation'"):
        load_split(str(data), "validation", WANTED)
    with pytest.raises(DataError, match="give a public data set name or a folder"):
        load_split(str(tmp_path / "nothing"), "train", WANTED)
    with pytest.raises(DataError, match="choose fewer"):
        hold_out(whole, 200, seed=0)
