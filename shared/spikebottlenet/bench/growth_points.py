"""One point of a growth table, measured in a process of its own so that its memory is its own.

Networks have random weights: a dense network takes the same time whatever they are. The head is
built by torch and ONNX in one process and measured by ONNX Runtime alone in another.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spikebottlenet.model.architecture import Architecture


class Cost(NamedTuple):
    """What one pass takes."""

    ms: float  # median
    added_mb: float  # resident memory above that of the imports, at its peak


def write_heads(heads: Mapping[Path, Architecture]) -> None:
    """Heads with random weights as ONNX files."""
    import torch

    from spikebottlenet.lab.config import DataSettings
    from spikebottlenet.lab.onnx_head import onnx_head
    from spikebottlenet.model.exact import ExactHead, fold_head
    from spikebottlenet.model.head import SpikingHead
    from spikebottlenet.model.neuron import LIFParams

    scale = DataSettings().scale
    for path, architecture in heads.items():
        torch.manual_seed(0)
        params = LIFParams(architecture.threshold, architecture.leak)
        head = SpikingHead(architecture, params, fused=False).eval()
        exact = ExactHead(architecture, fold_head(head, architecture, scale), scale.mean_colour)
        path.write_bytes(onnx_head(exact).SerializeToString())


def head_cost(
    architecture: Architecture, path: Path, *, batch: int, threads: int, seconds: float
) -> Cost:
    """Of the head on ONNX Runtime."""
    from spikebottlenet.runtime.onnx_head import OnnxHead

    before = _resident_mb()
    head = OnnxHead(path, architecture, threads=threads)
    side = architecture.side
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    ms = _median_ms(lambda: head.run(pixels), seconds)
    return Cost(ms, _peak_mb() - before)


def tail_cost(architecture: Architecture, *, batch: int, threads: int, seconds: float) -> Cost:
    """Of decoder and tail, with the engine that the cloud has."""
    import tempfile

    import torch
    from safetensors.torch import save_file

    from spikebottlenet.model.tail import Tail
    from spikebottlenet.runtime.torch_tail import TorchTail

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    state = Tail(architecture).state_dict()
    kept = {k: v.half() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    before = _resident_mb()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tail.safetensors"
        save_file(kept, path)
        tail = TorchTail(path, architecture, device="cpu")
    t, c, h, w = architecture.spike_shape
    spikes = (np.random.default_rng(0).random((t, batch, c, h, w)) < 0.4).astype(np.uint8)
    ms = _median_ms(lambda: tail.classify(spikes), seconds)
    return Cost(ms, _peak_mb() - before)


def _median_ms(run: Callable[[], object], seconds: float) -> float:
    run()
    took: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < 3:
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return 1e3 * float(np.median(took))


def _resident_mb() -> float:
    return _status_mb("VmRSS")


def _peak_mb() -> float:
    # Not getrusage: its peak is that of the process that started this one, if that was larger.
    return _status_mb("VmHWM")


def _status_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")
