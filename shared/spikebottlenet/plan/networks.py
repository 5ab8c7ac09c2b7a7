"""Heads and tails for every cut: the bundle's own, and random weights for those that it has not.

A dense network takes the same time whatever its weights, and has the same shapes; it says nothing
of accuracy, bytes or firing rates. Each cut's encoder squeezes channels by the bundle's own factor,
so every cut has the bundle's bit compression.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from spikebottlenet.bundle import HEAD_ONNX, TAIL_ONNX, TAIL_WEIGHTS, Bundle
from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.onnx_head import onnx_head
from spikebottlenet.lab.onnx_tail import write_onnx_tail
from spikebottlenet.lab.requantise import head_bits, on_integers
from spikebottlenet.model.architecture import STAGES, Architecture, stage_channels
from spikebottlenet.model.backbones import Backbone, Stem
from spikebottlenet.model.exact import ExactHead, fold_head
from spikebottlenet.model.head import SpikingHead
from spikebottlenet.model.neuron import LIFParams
from spikebottlenet.model.tail import Tail
from spikebottlenet.model.weight_grid import FLOAT
from spikebottlenet.runtime.onnx_head import OnnxHead
from spikebottlenet.runtime.onnx_tail import OnnxTail
from spikebottlenet.runtime.tail_engine import Precision, TailEngine, load_tail
from spikebottlenet.runtime.torch_tail import TorchTail

_SOME_RATE, _SOME_IMAGES = 0.3, 8  # to calibrate random weights on: their time is the same


def cut_architectures(own: Architecture) -> tuple[Architecture, ...]:
    """The bundle's architecture cut after every stage; its own cut is left as it is."""
    if (own.backbone, own.stem) != (Backbone.RESNET18, Stem.CIFAR):
        raise ConfigError(
            "a profile measures the cuts of a resnet18 with a cifar stem, this bundle's network is "
            f"a {own.backbone.value} with a {own.stem.value} stem: profile one of the former"
        )
    found = []
    for stage in range(1, STAGES + 1):
        channels = own.channels * stage_channels(own.width, stage) // own.cut_channels
        other = own.cut_after(stage).model_copy(update={"channels": max(1, channels)})
        found.append(own if stage == own.after_stage else other)
    return tuple(found)


def load_head(
    bundle: Bundle, architecture: Architecture, folder: Path, *, threads: int
) -> OnnxHead:
    """The bundle's own head, or one of random weights of the same kind for another cut."""
    if architecture == bundle.manifest.architecture:
        return OnnxHead(bundle.path(HEAD_ONNX), architecture, threads=threads)
    torch.manual_seed(0)
    scale = DataSettings().scale
    params = LIFParams(architecture.threshold, architecture.leak)
    trained = SpikingHead(architecture, params, fused=False).eval()
    exact = ExactHead(architecture, fold_head(trained, architecture, scale), scale.mean_colour)
    bits = head_bits(bundle)
    head = exact if bits == FLOAT else on_integers(exact, bits)
    path = folder / f"head-{architecture.after_stage}.onnx"
    path.write_bytes(onnx_head(head).SerializeToString())
    return OnnxHead(path, architecture, threads=threads)


def load_cut_tail(
    bundle: Bundle, architecture: Architecture, folder: Path, *, threads: int
) -> TailEngine:
    """The bundle's own tail, or one of random weights of the same kind for another cut."""
    if architecture == bundle.manifest.architecture:
        return load_tail(bundle, device="cpu", precision=Precision.AUTO, threads=threads)
    torch.manual_seed(0)
    state = Tail(architecture).state_dict()
    kept = {name: value for name, value in state.items() if not name.endswith("batches_tracked")}
    place = folder / f"tail-{architecture.after_stage}"
    place.mkdir(exist_ok=True)
    save_file(kept, place / TAIL_WEIGHTS)
    if TAIL_ONNX not in bundle.manifest.files:
        return TorchTail(place / TAIL_WEIGHTS, architecture, device="cpu")
    write_onnx_tail(place, architecture, random_spikes(architecture, _SOME_RATE, _SOME_IMAGES))
    return OnnxTail(place / TAIL_ONNX, architecture, threads={1, threads})


def random_spikes(architecture: Architecture, rate: float, batch: int) -> np.ndarray:
    """Spikes [T, B, C, H, W] that fire at a rate."""
    t, c, h, w = architecture.spike_shape
    random = np.random.default_rng(0)
    return (random.random((t, batch, c, h, w)) < rate).astype(np.uint8)
