"""A bundle's integer head on every image of a split, by four engines that must agree bit for bit.

NumPy in whole numbers of float64, torch, and ONNX Runtime on one thread and on two. Compared are
every bottleneck spike, and every neuron layer's spikes summed over timesteps and channels. Exits
with 1 where any differs.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import load_file

from spikebottlenet.bundle import HEAD_ONNX, HEAD_WEIGHTS, Half, bundle_folder, open_bundle
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.data import load_split
from spikebottlenet.lab.requantise import head_bits
from spikebottlenet.model.integer_head import IntegerHead, reference_head
from spikebottlenet.runtime.onnx_head import OnnxHead
from tests.integer_reference import spikes_in_integers

_BATCH = 50


def _counts(layers: list[np.ndarray]) -> list[np.ndarray]:
    """Spikes summed over timesteps and channels, [B, H, W] of each layer."""
    return [layer.sum(axis=(0, 2)) for layer in layers]


def main() -> int:
    """Compare, print and, with ``--report``, write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="default", help="folder of a bundle, or 'default'")
    parser.add_argument("--data", required=True, help="name or folder of the data set")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, default=0, help="images; 0: all")
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    bundle = open_bundle(bundle_folder(given.bundle), Half.LAB)
    manifest = bundle.manifest
    head = reference_head(
        manifest.architecture,
        load_file(bundle.path(HEAD_WEIGHTS)),
        manifest.preprocess.mean_colour,
    )
    if not isinstance(head, IntegerHead):
        sys.exit(f"the head of {given.bundle} is on float32 weights, wanted integer ones")
    split = load_split(given.data, given.split, manifest.preprocess, DataSettings())
    pixels = split.images[: given.limit or len(split)]
    engines = [OnnxHead(bundle.path(HEAD_ONNX), head.architecture, threads=n) for n in (1, 2)]
    differing = dict.fromkeys(("torch", "onnxruntime, 1 thread", "onnxruntime, 2 threads"), 0)
    spikes = fired = 0
    for start in track(range(0, len(pixels), _BATCH), "images"):
        batch = np.ascontiguousarray(pixels[start : start + _BATCH])
        layers = spikes_in_integers(head, batch, np.float64)
        wanted = [layers[-1], *_counts(layers)]
        with torch.inference_mode():
            of_torch, activity = head.run(torch.from_numpy(batch))
        answers = [[of_torch.numpy(), *(each.numpy() for each in activity)]]
        answers += [list(engine.outputs(batch)) for engine in engines]
        for name, answer in zip(differing, answers, strict=True):
            pairs = zip(answer, wanted, strict=True)
            differing[name] += sum(int((a != b).sum()) for a, b in pairs)
        spikes += layers[-1].size
        fired += int(layers[-1].sum())
    found = {
        "bundle": manifest.name,
        "head_bits": head_bits(bundle),
        "images": len(pixels),
        "spike_sites": spikes,
        "fired": fired,
        "differing from NumPy": differing,
    }
    print(json.dumps(found, indent=1))
    if given.report:
        given.report.parent.mkdir(parents=True, exist_ok=True)
        given.report.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if any(differing.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
