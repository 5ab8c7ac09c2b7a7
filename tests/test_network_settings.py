"""Backbone, cut and neuron as a config names them; a training in miniature with all of them."""

from pathlib import Path

import pytest
import torch
import yaml

from spikebottlenet.bundle import HEAD_WEIGHTS, Half, default_bundle, open_bundle
from spikebottlenet.config import read_yaml
from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.train import train_bundle
from spikebottlenet.model.architecture import Architecture, head_layers
from spikebottlenet.model.backbones import Backbone, Stem
from spikebottlenet.model.layers import Residual, TailKind
from spikebottlenet.model.uncut import uncut_network
from tests.test_lab import CONFIG, images


def parsed(**parts: dict[str, object]) -> TrainingConfig:
    schedule = {"phases": [{"epochs": 1, "side": 16}]}
    return TrainingConfig.parse({"uncut": schedule, "cut": schedule, **parts}, source="config")


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"network": {"backbone": "resnet81"}}, "network.backbone: .*did you mean 'resnet18'"),
        ({"network": {"backbone": "mobilenet"}}, "did you mean 'mobilenet_v1'"),
        ({"network": {"stem": "imagenett"}}, "did you mean 'imagenet'"),
        ({"network": {"residual": "sew_ad"}}, "did you mean 'sew_a"),
        ({"network": {"tail": "spiking"}}, "network.tail: Input should be 'ann' or 'snn'"),
        ({"neuron": {"reset": "herd"}}, "did you mean 'hard'"),
        ({"bottleneck": {"cut": "layer5"}}, "resnet18 has no cut 'layer5': did you mean 'layer4'"),
        ({"bottleneck": {"cut": "block6"}}, "known cuts: layer1 to layer4"),
        ({"bottleneck": {"after_stage": 5}}, "resnet18 has 4 stages, so no cut after 5"),
        ({"bottleneck": {"cut": "layer2", "after_stage": 3}}, "give one"),
        (
            {"network": {"backbone": "mobilenet_v1"}, "bottleneck": {"cut": "block14"}},
            "mobilenet_v1 has no cut 'block14': did you mean 'block13'",
        ),
        (
            {"network": {"backbone": "mobilenet_v1", "residual": "membrane"}},
            "has no shortcuts: leave residual at 'sum', found 'membrane'",
        ),
        ({"neuron": {"leak": 0.3}}, r"leak 0\.3 of layer act1: .*use 0\.3125"),
        ({"bottleneck": {"timesteps": 20}}, r"leak 0\.5 of layer act1 over 20 timesteps"),
        ({"neuron": {"learn_leak": True}, "bottleneck": {"timesteps": 8}}, r"leak 0\.75 of layer"),
    ],
)
def test_what_cannot_be_is_refused_before_training(
    parts: dict[str, dict[str, object]], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        parsed(**parts)


def test_a_cut_goes_by_name_or_number() -> None:
    named = parsed(bottleneck={"cut": "layer3"}).architecture(10)
    assert named == parsed(bottleneck={"after_stage": 3}).architecture(10)
    assert named.cut == "layer3"
    mobile = parsed(network={"backbone": "mobilenet_v1"}, bottleneck={"cut": "block6"})
    assert mobile.architecture(10).after_stage == 6
    assert mobile.architecture(10).cut == "block6"
    assert parsed().architecture(10) == Architecture(classes=10)


def test_shapes_are_the_published_ones() -> None:
    def at(backbone: Backbone, stem: Stem, side: int, cut: int) -> tuple[int, int]:
        found = Architecture(backbone=backbone, stem=stem, side=side, after_stage=cut, classes=10)
        return found.cut_channels, found.cut_side

    resnet50 = [at(Backbone.RESNET50, Stem.IMAGENET, 224, cut) for cut in (1, 2, 3, 4)]
    assert resnet50 == [(256, 56), (512, 28), (1024, 14), (2048, 7)]
    assert at(Backbone.RESNET34, Stem.CIFAR, 32, 4) == (512, 4)
    assert at(Backbone.MOBILENET_V1, Stem.IMAGENET, 224, 6) == (512, 14)
    assert at(Backbone.MOBILENET_V1, Stem.IMAGENET, 224, 13) == (1024, 7)


def test_the_shipped_config_makes_the_shipped_architecture() -> None:
    bundle = open_bundle(default_bundle(), Half.LAB)
    config = TrainingConfig.parse(read_yaml(bundle.path("training.yaml")), source="shipped")
    assert config.architecture(100) == bundle.manifest.architecture


def test_a_training_with_every_option_makes_a_bundle_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = tmp_path / "data"
    data.mkdir()
    images(64, 0).to_parquet(data / "train-0.parquet")
    images(32, 1).to_parquet(data / "test-0.parquet")
    network = {
        "backbone": "resnet50",
        "width": 4,
        "residual": "sew_iand",
        "tail": "snn",
        "weights": str(tmp_path / "published.pth"),
    }
    one: dict[str, object] = {"batch": 16, "phases": [{"epochs": 1, "side": 16, "pad": 1}]}
    parts: dict[str, object] = {
        "network": network,
        "neuron": {"fused": False, "learn_leak": True, "learn_threshold": True, "reset": "hard"},
        "bottleneck": {"cut": "layer1", "channels": 4},
        "head_bits": 8,
        "uncut": one,
        "cut": dict(one, phases=[{"epochs": 1, "side": 16}]),
    }
    parts["edge_exit"] = {"hidden": 4, "epochs": 1, "batch": 32}
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump(CONFIG | parts))
    published = uncut_network(
        Architecture(backbone=Backbone.RESNET50, width=4, classes=1000)
    ).state_dict()
    torch.save(published, tmp_path / "published.pth")

    bundle = train_bundle(path, tmp_path / "run", name="all", data=str(data))
    architecture = bundle.manifest.architecture
    assert architecture.residual is Residual.SEW_IAND
    assert architecture.tail is TailKind.SNN
    layers = head_layers(architecture)
    assert len(architecture.leaks) == len(architecture.thresholds) == len(layers)
    assert all(leak * 4 % 1 == 0 for leak in architecture.leaks)
    assert len(set(architecture.thresholds)) > 1
    assert bundle.manifest.measured is not None
    assert bundle.manifest.measured.images == 32
    assert bundle.path(HEAD_WEIGHTS).is_file()
    said = capsys.readouterr().out
    assert "classifier left out: fc.weight is 1000x128, the network's 3x128" in said
