"""Benchmarks: ratios side by side in one run. `make bench`."""

import itertools
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from spikebottlenet.bundle import HEAD_ONNX, HEAD_WEIGHTS, Half, default_bundle, open_bundle
from spikebottlenet.codec.entropy import PRIOR_ONE
from spikebottlenet.codec.frame import Scheme
from spikebottlenet.model.exact import ExactHead
from spikebottlenet.model.neuron import LIFParams, lif
from spikebottlenet.model.surrogate import SURROGATES, Surrogate
from spikebottlenet.runtime.onnx_head import OnnxHead

ROUNDS = 7


def alternating(*contestants: Callable[[], object]) -> list[float]:
    """Median seconds of each, measured in turns so that a noisy neighbour hits all alike."""
    for contestant in contestants:
        contestant()
    times: list[list[float]] = [[] for _ in contestants]
    for _, (index, contestant) in itertools.product(range(ROUNDS), enumerate(contestants)):
        started = time.perf_counter()
        contestant()
        times[index].append(time.perf_counter() - started)
    return [statistics.median(each) for each in times]


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance):
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad * SURROGATES[Surrogate.TRIANGLE](ctx.saved_tensors[0], 1.0)


def plain_lif(current: torch.Tensor, params: LIFParams) -> torch.Tensor:
    """The neuron as most code bases write it: a loop under autograd."""
    potential, spikes = torch.zeros_like(current[0]), []
    for step in current:
        potential = params.leak * potential + step
        spikes.append(_Fire.apply(potential - params.threshold))
        potential = potential - params.threshold * spikes[-1].detach()
    return torch.stack(spikes)


def bench_neuron() -> Table:
    """Forward and backward of one layer of a batch, fused against plain."""
    table = Table("LIF, forward + backward", "plain loop ms", "fused ms", "plain / fused")
    params = LIFParams()
    for timesteps in (2, 4):
        shape = (timesteps, 64, 64, 32, 32)
        current = torch.randn(shape).flatten(0, 1)
        current = current.contiguous(memory_format=torch.channels_last).unflatten(0, shape[:2])
        leaf = current.requires_grad_()

        def run(step: Callable[[torch.Tensor], torch.Tensor], leaf: torch.Tensor = leaf) -> None:
            leaf.grad = None
            step(leaf).sum().backward()

        plain, fused = alternating(
            lambda: run(lambda x: plain_lif(x, params)),
            lambda: run(lambda x: lif(x, params, fused=True)),
        )
        label = f"T={timesteps}, {list(shape[1:])}"
        table.add_row(label, f"{1e3 * plain:.1f}", f"{1e3 * fused:.1f}", f"{plain / fused:.2f}x")
    return table


def bench_head() -> Table:
    """The shipped head on ONNX Runtime against the torch reference, one image, one thread."""
    bundle = open_bundle(default_bundle(), Half.LAB)
    architecture = bundle.manifest.architecture
    colour = bundle.manifest.preprocess.mean_colour
    reference = ExactHead(architecture, load_file(bundle.path(HEAD_WEIGHTS)), colour)
    head = OnnxHead(bundle.path(HEAD_ONNX), architecture, threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        torch_s, onnx_s = alternating(
            lambda: reference.run(torch.from_numpy(pixels)), lambda: head.run(pixels)
        )
    torch.set_num_threads(threads)
    table = Table("head, one image", "torch ms", "ONNX Runtime ms", "torch / ONNX Runtime")
    table.add_row(
        bundle.model, f"{1e3 * torch_s:.1f}", f"{1e3 * onnx_s:.1f}", f"{torch_s / onnx_s:.2f}x"
    )
    return table


def bench_codec() -> Table:
    """Bytes and time of every scheme on spikes drawn from the shipped prior."""
    bundle = open_bundle(default_bundle(), Half.LAB)
    codec = bundle.codec()
    random = np.random.default_rng(0)
    probability = codec.prior / PRIOR_ONE
    images = [(random.random(probability.shape) < probability).astype(np.uint8) for _ in range(50)]
    entropy = -(probability * np.log2(probability) + (1 - probability) * np.log2(1 - probability))
    title = f"codec (prior's entropy {entropy.sum() / 8:.0f} B)"
    table = Table(title, "bytes", "bytes / dense", "encode us", "decode us")
    dense = 0.0
    for scheme in Scheme:
        name = scheme.name.lower()
        frames = [codec.encode_spikes(image, scheme=name) for image in images]
        size = statistics.mean(map(len, frames))
        dense = dense or size
        encode_s, decode_s = alternating(
            lambda name=name: [codec.encode_spikes(image, scheme=name) for image in images],
            lambda frames=frames: [codec.decode_spikes(frame) for frame in frames],
        )
        table.add_row(
            name,
            f"{size:.0f}",
            f"{size / dense:.2f}",
            f"{1e6 * encode_s / len(images):.0f}",
            f"{1e6 * decode_s / len(images):.0f}",
        )
    return table


def main() -> None:
    console = Console(width=120)
    for bench in (bench_neuron, bench_head, bench_codec):
        console.print(bench())
    console.print("Medians of alternating runs on this machine, now: read the ratios.")


if __name__ == "__main__":
    sys.exit(main())
