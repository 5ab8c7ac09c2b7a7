"""Published weights into an un-cut network, by the names that they are published under.

ResNets have torchvision's names, which are ours. MobileNet-V1 is published under several; each is
renamed to ours (``block1.conv1`` is the first block's depthwise convolution, ``conv2`` the one
behind it):

    timm          conv_stem, bn1, blocks.1.0.conv_dw, .bn1, .conv_pw, .bn2, classifier
    transformers  conv_stem.convolution, .normalization, layer.0.convolution .. layer.25, classifier
    others        model.0.0, model.0.1, model.1.0, .1, .3, .4, fc
                  conv1, bn1, layers.0.conv1, .bn1, .conv2, .bn2, linear

Every name may stand behind ``module.`` or the network's name, as wrappers write them. What does not
match is listed, never guessed.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from spikebottlenet.errors import ConfigError
from spikebottlenet.model.backbones import Backbone
from spikebottlenet.model.uncut import UncutNetwork

_CLASSIFIER = ("fc.weight", "fc.bias")
_COUNTER = "num_batches_tracked"  # older files have none; nothing runs by it
_WRAPPERS = re.compile(r"^(module|network|mobilenet_v1|mobilenet|resnet|backbone)\.")
_TIMM_STAGES = (1, 2, 2, 6, 2)  # blocks of each of timm's stages

Shape = tuple[int, ...]


class WrongShape(NamedTuple):
    """A tensor that has the right name."""

    name: str
    found: Shape
    wanted: Shape


class Match(NamedTuple):
    """What of a file went into a network, by the network's names, and what did not."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # the network has them, the file has not
    unexpected: tuple[str, ...]  # the file has them, by its own names
    wrong_shape: tuple[WrongShape, ...]
    classifier_left_out: tuple[WrongShape, ...]  # one for other classes

    def lines(self) -> list[str]:
        """As text, one line a finding."""
        lines = [f"{len(self.loaded)} tensors loaded"]
        lines += [f"missing: {name}" for name in self.missing]
        lines += [f"unexpected: {name}" for name in self.unexpected]
        lines += [
            f"wrong shape: {name} is {_sizes(found)}, the network's {_sizes(wanted)}"
            for name, found, wanted in self.wrong_shape
        ]
        lines += [
            f"classifier left out: {name} is {_sizes(found)}, the network's {_sizes(wanted)}: "
            "other classes, so it is trained anew"
            for name, found, wanted in self.classifier_left_out
        ]
        return lines


def _sizes(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def load_published(network: UncutNetwork, path: Path) -> Match:
    """Load what matches of a file by name and shape; the rest of the network is left as it is.

    Raises:
        ConfigError: the file cannot be read, or nothing of it matches.
    """
    found = _renamed(read_weights(path), network.backbone)
    wanted = network.state_dict()
    loaded: dict[str, torch.Tensor] = {}
    wrong: list[WrongShape] = []
    left_out: list[WrongShape] = []
    for name in wanted:
        if name not in found:
            continue
        _, tensor = found[name]
        if tensor.shape == wanted[name].shape:
            loaded[name] = tensor
            continue
        mismatch = WrongShape(name, tuple(tensor.shape), tuple(wanted[name].shape))
        (left_out if name in _CLASSIFIER else wrong).append(mismatch)
    match = Match(
        loaded=tuple(name for name in loaded if not name.endswith(_COUNTER)),
        missing=tuple(n for n in wanted if n not in found and not n.endswith(_COUNTER)),
        unexpected=tuple(own for name, (own, _) in found.items() if name not in wanted),
        wrong_shape=tuple(wrong),
        classifier_left_out=tuple(left_out),
    )
    if not match.loaded:
        some = ", ".join(list(match.unexpected)[:3]) or "tensors of other shapes alone"
        raise ConfigError(
            f"nothing in {path} fits a {network.backbone.value}: found {some}, wanted "
            f"{', '.join(list(wanted)[:3])} ...: give weights of this backbone, or another backbone"
        )
    network.load_state_dict({**wanted, **loaded})
    return match


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a file: safetensors, or a torch checkpoint, of which only tensors are read.

    Raises:
        ConfigError: it is neither, or holds none.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(f"cannot read weights {path}: {error.strerror or error}") from error
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ConfigError(
            f"{path} is not weights that can be read ({str(error).splitlines()[0]}): give a "
            "safetensors file or a state dict saved by torch"
        ) from error
    for key in ("state_dict", "model_state_dict", "model", "network"):
        if isinstance(values, dict) and isinstance(values.get(key), dict):
            values = values[key]
            break
    tensors = {}
    if isinstance(values, dict):
        tensors = {str(k): v for k, v in values.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise ConfigError(f"{path} holds no named tensors: give a state dict saved by torch")
    return tensors


def _renamed(
    tensors: dict[str, torch.Tensor], backbone: Backbone
) -> dict[str, tuple[str, torch.Tensor]]:
    """Tensors by the network's names, each with its own name in the file."""
    found = {}
    rename = _mobilenet_names(tensors) if backbone is Backbone.MOBILENET_V1 else {}
    for own, tensor in tensors.items():
        name = _bare(own)
        module, _, part = name.rpartition(".")
        found[f"{rename.get(module, module)}.{part}"] = (own, tensor)
    return found


def _bare(name: str) -> str:
    while _WRAPPERS.match(name):
        name = _WRAPPERS.sub("", name)
    return name


def _mobilenet_names(tensors: Iterable[str]) -> dict[str, str]:
    """Our name of each module, by its name in the file, from the scheme that the file follows."""
    names = {_bare(name).rpartition(".")[0] for name in tensors}
    if "conv_stem.convolution" in names:
        return _transformers_names()
    if "conv_stem" in names:
        return _timm_names()
    if "model.0.0" in names:
        return _nested_names()
    listed = {f"layers.{i}.{part}": f"block{i + 1}.{part}" for i in range(13) for part in _PARTS}
    return {"linear": "fc", "classifier": "fc", **listed}


_PARTS = ("conv1", "bn1", "conv2", "bn2")


def _timm_names() -> dict[str, str]:
    names = {"conv_stem": "conv1", "classifier": "fc"}
    block = 0
    for stage, count in enumerate(_TIMM_STAGES):
        for index in range(count):
            block += 1
            for theirs, ours in zip(("conv_dw", "bn1", "conv_pw", "bn2"), _PARTS, strict=True):
                names[f"blocks.{stage}.{index}.{theirs}"] = f"block{block}.{ours}"
    return names


def _transformers_names() -> dict[str, str]:
    names = {"conv_stem.convolution": "conv1", "conv_stem.normalization": "bn1"}
    names["classifier"] = "fc"
    for index in range(26):
        order = index % 2 + 1
        names[f"layer.{index}.convolution"] = f"block{index // 2 + 1}.conv{order}"
        names[f"layer.{index}.normalization"] = f"block{index // 2 + 1}.bn{order}"
    return names


def _nested_names() -> dict[str, str]:
    names = {"model.0.0": "conv1", "model.0.1": "bn1"}
    for block in range(1, 14):
        for theirs, ours in zip((0, 1, 3, 4), _PARTS, strict=True):
            names[f"model.{block}.{theirs}"] = f"block{block}.{ours}"
    return names
