"""A training so small that a test can run it many times, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

CONFIG: dict[str, Any] = {
    "data": {"name": "given by --data", "side": 8, "held_out": 16},
    "network": {"width": 4},
    "bottleneck": {"after_stage": 1, "timesteps": 2, "channels": 4, "stride": 2},
    "neuron": {"fused": False},
    "loss": {"lambda_bits": 0.01, "lambda_energy": 0.001},
    "edge_exit": {"hidden": 8, "epochs": 1, "batch": 16},
    "uncut": {"batch": 16, "phases": [{"epochs": 3, "side": 8, "pad": 1}]},
    "cut": {"batch": 16, "phases": [{"epochs": 3, "side": 8, "pad": 1}]},
}


def write_data(folder: Path, count: int = 64) -> Path:
    """Images of two classes, told apart by which colour is strong."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        labels = np.arange(count) % 2
        pixels = random.integers(0, 120, (count, 8, 8, 3))
        pixels[np.arange(count), :, :, labels] += 130
        features = datasets.Features(
            {"img": datasets.Image(), "label": datasets.ClassLabel(names=["red", "green"])}
        )
        rows = {"img": list(pixels.astype(np.uint8)), "label": labels.tolist()}
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(folder / f"{split}-0.parquet")
    return folder


def write_config(path: Path, **over: Any) -> Path:
    """The tiny config, some of its parts replaced."""
    path.write_text(json.dumps({**CONFIG, **over}))  # YAML too, and without aliases
    return path


def environment(cache: Path) -> dict[str, str]:
    """Of a training's process: one thread, caches of its own."""
    return {
        **os.environ,
        "XDG_CACHE_HOME": str(cache),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def command(config: Path, data: Path, out: Path, *options: str) -> list[str]:
    """`spikebottlenet train`."""
    start = [sys.executable, "-m", "spikebottlenet.cli", "train", str(config)]
    return [*start, "--data", str(data), "--out", str(out), *options]


def run(words: list[str], cache: Path) -> subprocess.CompletedProcess[str]:
    """Run to the end; output is kept."""
    return subprocess.run(
        words, env=environment(cache), capture_output=True, text=True, timeout=100, check=False
    )


def lines_of(log: Path) -> list[dict[str, Any]]:
    """A log's lines without times."""
    found = [json.loads(line) for line in log.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """A checkpoint's network."""
    found: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["network"]
    return found
