"""The bundle on disk, and settings from files and flags."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from cloud_node.settings import CloudSettings
from edge_node.settings import EdgeSettings
from spikebottlenet.bundle import (
    PRIOR,
    TAIL_WEIGHTS,
    Bundle,
    Half,
    default_bundle,
    file_digest,
    open_bundle,
)
from spikebottlenet.cli.__main__ import app
from spikebottlenet.errors import BundleError, ConfigError
from spikebottlenet.options import parse_options

ROOT = Path(__file__).parent.parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(default_bundle(), tmp_path / "copy"))


def change_manifest(folder: Path, **values: object) -> None:
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


def test_the_shipped_bundle_is_small_and_whole(bundle: Bundle) -> None:
    assert sum(file.stat().st_size for file in bundle.folder.iterdir()) <= 40_000_000
    architecture = bundle.manifest.architecture
    assert architecture.spike_shape.bits <= 2048
    assert architecture.bit_compression >= 512
    assert (architecture.width, architecture.after_stage) == (64, 2)
    assert len(bundle.manifest.class_names) == 100
    assert {file.suffix for file in bundle.folder.iterdir()} <= {
        *(".yaml", ".onnx", ".safetensors", ".npy", ".jsonl")
    }


def test_the_fingerprint_covers_every_value(bundle: Bundle, copy: Path) -> None:
    plain = bundle.manifest.model_dump(mode="json")
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert bundle.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    change_manifest(copy, name="renamed")
    assert open_bundle(copy, Half.LAB).fingerprint != bundle.fingerprint


def test_damage_is_named_with_both_hashes_and_only_in_ones_own_half(copy: Path) -> None:
    tail = copy / TAIL_WEIGHTS
    tail.write_bytes(tail.read_bytes()[:-1])
    open_bundle(copy, Half.EDGE)
    with pytest.raises(BundleError, match=file_digest(tail)) as error:
        open_bundle(copy, Half.CLOUD)
    assert file_digest(default_bundle() / TAIL_WEIGHTS) in str(error.value)
    tail.unlink()
    with pytest.raises(BundleError, match="missing"):
        open_bundle(copy, Half.CLOUD)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format_version": 9}, "format 9"),
        ({"class_names": ["one"]}, "1 classes"),
        ({"architectur": 1}, "did you mean 'architecture'"),
        ({"files": {}}, "lists no head.onnx"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(copy: Path, values: dict, said: str) -> None:
    change_manifest(copy, **values)
    with pytest.raises(BundleError, match=said):
        open_bundle(copy, Half.EDGE)


def test_a_prior_of_another_shape_is_refused(copy: Path) -> None:
    np.save(copy / PRIOR, np.ones((1, 2, 3), np.uint16))
    files = open_bundle(default_bundle(), Half.LAB).manifest.files
    change_manifest(copy, files=files | {PRIOR: file_digest(copy / PRIOR)})
    with pytest.raises(BundleError, match="prior"):
        open_bundle(copy, Half.CLOUD).codec()


def test_model_show_is_readable_and_has_json(bundle: Bundle, copy: Path) -> None:
    shown = CliRunner().invoke(app, ["model", "show"])
    assert shown.exit_code == 0
    assert bundle.fingerprint in shown.output
    assert "512x bit compression" in shown.output
    plain = CliRunner().invoke(app, ["model", "show", str(copy), "--json"])
    assert json.loads(plain.output)["fingerprint"] == bundle.fingerprint


@pytest.mark.parametrize("name", ["cloud.yaml", "edge.yaml"])
def test_example_settings_are_the_defaults(name: str) -> None:
    model = CloudSettings if name == "cloud.yaml" else EdgeSettings
    path = ROOT / "deploy" / "config" / name
    settings = parse_options(model, ["--config", str(path)], prog="x", about="", example="")
    assert settings == model()
    assert set(yaml.safe_load(path.read_text())) == set(model.model_fields)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text("radio: lte\nthreads: 2\n")
    arguments = ["--config", str(path), "--threads", "3"]
    settings = parse_options(EdgeSettings, arguments, prog="x", about="", example="")
    assert (settings.radio.value, settings.threads, settings.deadline_ms) == ("lte", 3, 2000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("radoi: lte\n", "did you mean 'radio'"),
        ("radio: 5g\n", "found '5g'"),
        ("threads: 0\n", "threads"),
        ("- a list\n", "wanted a mapping"),
        ("a: [\n", "not YAML"),
    ],
)
def test_bad_settings_name_the_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        parse_options(EdgeSettings, ["--config", str(path)], prog="x", about="", example="")
