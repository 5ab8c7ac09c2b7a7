"""Weights under the names that others publish them by, in files that the tests make."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.weights import WrongShape, load_published
from spikebottlenet.model.backbones import Backbone, Stem
from spikebottlenet.model.uncut import UncutNetwork

State = dict[str, torch.Tensor]


def network(backbone: Backbone, *, classes: int = 3, stem: Stem = Stem.IMAGENET) -> UncutNetwork:
    return UncutNetwork(backbone, stem, width=4, classes=classes)


def state(backbone: Backbone, *, classes: int = 3) -> State:
    """Weights that no fresh network has."""
    found = network(backbone, classes=classes).state_dict()
    random = torch.Generator().manual_seed(7)
    return {
        name: torch.rand(value.shape, generator=random) if value.is_floating_point() else value
        for name, value in found.items()
    }


def same(left: UncutNetwork, right: State) -> bool:
    return all(torch.equal(value, right[name]) for name, value in left.state_dict().items())


def torchvision_names(blocks: tuple[int, ...], convolutions: int) -> set[str]:
    """Modules of torchvision's ResNets, as torchvision.models.resnet names them."""
    names = {"conv1", "bn1", "fc"}
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            for order in range(1, convolutions + 1):
                names |= {f"layer{stage}.{block}.{part}{order}" for part in ("conv", "bn")}
        if stage > 1 or convolutions == 3:
            names |= {f"layer{stage}.0.downsample.{part}" for part in (0, 1)}
    return names


@pytest.mark.parametrize(
    ("backbone", "blocks", "convolutions", "parameters"),
    [
        (Backbone.RESNET18, (2, 2, 2, 2), 2, 11_689_512),
        (Backbone.RESNET34, (3, 4, 6, 3), 2, 21_797_672),
        (Backbone.RESNET50, (3, 4, 6, 3), 3, 25_557_032),
        (Backbone.MOBILENET_V1, None, 0, 4_231_976),
    ],
)
def test_full_width_networks_are_the_published_ones(
    backbone: Backbone, blocks: tuple[int, ...] | None, convolutions: int, parameters: int
) -> None:
    with torch.device("meta"):
        full = UncutNetwork(backbone, Stem.IMAGENET, width=64, classes=1000)
    # As torchvision states them; MobileNet-V1's as its paper does: 4.2 million.
    assert sum(p.numel() for p in full.parameters()) == parameters
    if blocks is not None:
        modules = {name.rpartition(".")[0] for name in full.state_dict()}
        assert modules == torchvision_names(blocks, convolutions)


@pytest.mark.parametrize("backbone", list(Backbone))
@pytest.mark.parametrize("form", ["safetensors", "torch", "wrapped"])
def test_a_whole_file_loads(backbone: Backbone, form: str, tmp_path: Path) -> None:
    wanted = state(backbone)
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(wanted, path)
    elif form == "torch":
        torch.save(wanted, path)
    else:
        wrapped = {f"module.{name}": value for name, value in wanted.items()}
        torch.save({"epoch": 3, "state_dict": wrapped}, path)
    into = network(backbone)
    match = load_published(into, path)
    assert same(into, wanted)
    assert match.missing == match.unexpected == match.wrong_shape == match.classifier_left_out == ()


def timm(name: str) -> str:
    first, _, rest = name.partition(".")
    if not first.startswith("block"):
        return {"conv1": "conv_stem", "fc": "classifier"}.get(first, first) + "." + rest
    stages = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]
    stages += [(3, index) for index in range(6)] + [(4, 0), (4, 1)]
    stage, index = stages[int(first.removeprefix("block")) - 1]
    part, _, leaf = rest.partition(".")
    part = {"conv1": "conv_dw", "conv2": "conv_pw"}.get(part, part)
    return f"blocks.{stage}.{index}.{part}.{leaf}"


def transformers(name: str) -> str:
    first, _, rest = name.partition(".")
    if first == "fc":
        return f"classifier.{rest}"
    kinds = {"conv": "convolution", "bn": "normalization"}
    if not first.startswith("block"):
        return f"mobilenet_v1.conv_stem.{kinds[first[:-1]]}.{rest}"
    part, _, leaf = rest.partition(".")
    index = 2 * (int(first.removeprefix("block")) - 1) + int(part[-1]) - 1
    return f"mobilenet_v1.layer.{index}.{kinds[part[:-1]]}.{leaf}"


def nested(name: str) -> str:
    first, _, rest = name.partition(".")
    if first == "fc":
        return f"module.fc.{rest}"
    if not first.startswith("block"):
        return f"module.model.0.{['conv1', 'bn1'].index(first)}.{rest}"
    part, _, leaf = rest.partition(".")
    place = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}[part]
    return f"module.model.{first.removeprefix('block')}.{place}.{leaf}"


def listed(name: str) -> str:
    first, _, rest = name.partition(".")
    if first.startswith("block"):
        return f"layers.{int(first.removeprefix('block')) - 1}.{rest}"
    return f"linear.{rest}" if first == "fc" else name


@pytest.mark.parametrize("scheme", [timm, transformers, nested, listed])
def test_mobilenet_loads_by_the_names_of_others(
    scheme: Callable[[str], str], tmp_path: Path
) -> None:
    wanted = state(Backbone.MOBILENET_V1)
    save_file({scheme(name): value for name, value in wanted.items()}, tmp_path / "w.safetensors")
    into = network(Backbone.MOBILENET_V1)
    match = load_published(into, tmp_path / "w.safetensors")
    assert same(into, wanted)
    assert match.missing == match.unexpected == ()


def test_what_does_not_match_is_listed_and_left_as_it_was(tmp_path: Path) -> None:
    given = state(Backbone.RESNET18, classes=10)
    del given["layer2.0.bn1.weight"]
    given["layer9.0.conv1.weight"] = torch.zeros(1)
    given["layer1.0.conv1.weight"] = torch.zeros(4, 4, 5, 5)
    torch.save(given, tmp_path / "w.pth")
    into = network(Backbone.RESNET18)
    before = {name: value.clone() for name, value in into.state_dict().items()}
    match = load_published(into, tmp_path / "w.pth")
    assert match.missing == ("layer2.0.bn1.weight",)
    assert match.unexpected == ("layer9.0.conv1.weight",)
    assert match.wrong_shape == (WrongShape("layer1.0.conv1.weight", (4, 4, 5, 5), (4, 4, 3, 3)),)
    assert [wrong.name for wrong in match.classifier_left_out] == ["fc.weight", "fc.bias"]
    after = into.state_dict()
    for name in (*match.missing, "layer1.0.conv1.weight", "fc.weight", "fc.bias"):
        assert torch.equal(after[name], before[name])
    assert torch.equal(after["layer4.1.conv2.weight"], given["layer4.1.conv2.weight"])
    text = "\n".join(match.lines())
    assert "missing: layer2.0.bn1.weight" in text
    assert "unexpected: layer9.0.conv1.weight" in text
    assert "layer1.0.conv1.weight is 4x4x5x5, the network's 4x4x3x3" in text
    assert "classifier left out: fc.weight is 10x32, the network's 3x32" in text


def test_a_stem_of_another_shape_is_named(tmp_path: Path) -> None:
    torch.save(state(Backbone.RESNET50), tmp_path / "w.pth")
    match = load_published(network(Backbone.RESNET50, stem=Stem.CIFAR), tmp_path / "w.pth")
    assert match.wrong_shape == (WrongShape("conv1.weight", (4, 3, 7, 7), (4, 3, 3, 3)),)


class NotWeights:
    """What no checkpoint may hold."""


def test_files_that_are_not_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": NotWeights()}, tmp_path / "code.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "noise.pth").write_bytes(bytes(range(256)))
    (tmp_path / "noise.safetensors").write_bytes(bytes(range(256)))
    problems = {
        "code.pth": "not weights that can be read",
        "empty.pth": "holds no named tensors",
        "other.pth": r"fits a resnet18: found a\.weight, wanted conv1\.weight",
        "noise.pth": "not weights that can be read",
        "noise.safetensors": "not weights that can be read",
        "none.pth": "cannot read weights .*No such file",
        "none.safetensors": "cannot read weights .*No such file",
    }
    for name, problem in problems.items():
        with pytest.raises(ConfigError, match=problem):
            load_published(network(Backbone.RESNET18), tmp_path / name)
