"""The edge's parts, timed in turns: heads for every cut, codec, exit, files, the un-cut network."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle

import numpy as np
import onnxruntime

from spikebottlenet.accounting.operations import dense_accumulates, stem_macs
from spikebottlenet.bench.images import ENCODINGS, Encoding, Pixels, image_file
from spikebottlenet.bench.machine import machine_facts
from spikebottlenet.bench.measuring import in_turns, timed
from spikebottlenet.bench.subject import Subject
from spikebottlenet.bundle import EXIT_WEIGHTS
from spikebottlenet.model.architecture import Architecture, head_layers
from spikebottlenet.plan.networks import cut_architectures, load_head
from spikebottlenet.plan.profile import EdgeSide, FileCost, HeadCost, Ms, StageTime
from spikebottlenet.plan.uncut import PARTS, WHOLE, input_shape, on_onnx, uncut_network
from spikebottlenet.preprocess import read_input
from spikebottlenet.runtime.edge_exit import EdgeExit
from spikebottlenet.runtime.onnx_head import OnnxHead

Work = Callable[[], object]


def measure_edge(
    subject: Subject, files: Sequence[bytes], file_is: str, *, threads: int, rounds: int
) -> EdgeSide:
    """Time every part on so many threads; ``files`` are what preprocess reads."""
    bundle, pixels = subject.bundle, subject.images.pixels
    own, wanted = bundle.manifest.architecture, bundle.manifest.preprocess
    codec, edge_exit = bundle.codec(), EdgeExit.load(bundle.path(EXIT_WEIGHTS))
    at = cycle(range(len(pixels)))
    cuts = cut_architectures(own)
    heads = [load_head(bundle, cut, subject.folder, threads=threads) for cut in cuts]
    work: dict[str, Work] = {
        "preprocess": lambda: read_input(files[next(at) % len(files)], wanted),
        "encode": lambda: codec.encode_spikes(subject.spikes[next(at)]),
        "exit": lambda: edge_exit.classify(subject.spikes[next(at)][:, None]),
    }
    for cut, head in zip(cuts, heads, strict=True):
        work[f"head {cut.after_stage}"] = partial(_run_head, head, pixels, at)
    for encoding in ENCODINGS:
        work[encoding.name] = partial(_write_file, pixels, at, encoding)
    work |= _uncut(own, threads)
    takes = [timed(each, times=2) for each in work.values()]
    measured = in_turns(rounds, *takes, warm=2)
    took = dict(zip(work, map(Ms.of_seconds, measured), strict=True))
    rates = firing_rates(heads[own.after_stage - 1], own, pixels)
    assumed = float(np.mean(list(rates.values())))
    return EdgeSide(
        machine=machine_facts(),
        threads=threads,
        image_file=file_is,
        preprocess=took["preprocess"],
        encode=took["encode"],
        edge_exit=took["exit"],
        heads=tuple(
            HeadCost(
                after_stage=cut.after_stage,
                channels=cut.channels,
                spike_bits=cut.spike_shape.bits,
                weights="bundle" if cut == own else "random",
                time=took[f"head {cut.after_stage}"],
                macs=stem_macs(cut),
                accumulates=round(expected_accumulates(cut, rates, assumed)),
            )
            for cut in cuts
        ),
        files=tuple(
            FileCost(
                name=encoding.name,
                bytes_mean=float(np.mean([len(image_file(each, encoding)) for each in pixels])),
                time=took[encoding.name],
            )
            for encoding in ENCODINGS
        ),
        uncut_stages=tuple(StageTime(name=part.name, time=took[part.name]) for part in PARTS),
        uncut=took[WHOLE.name],
        firing_rates={name: round(rate, 5) for name, rate in rates.items()},
        assumed_rate=round(assumed, 5),
    )


def _run_head(head: OnnxHead, pixels: Pixels, at: Iterator[int]) -> object:
    return head.run(pixels[next(at)][None])


def _write_file(pixels: Pixels, at: Iterator[int], encoding: Encoding) -> object:
    return image_file(pixels[next(at)], encoding)


def _uncut(architecture: Architecture, threads: int) -> dict[str, Work]:
    """The un-cut network on ONNX Runtime, in parts and whole."""
    network = uncut_network(architecture)
    work: dict[str, Work] = {}
    for part in (*PARTS, WHOLE):
        graph = on_onnx(network, architecture, part).SerializeToString()
        session = cpu_session(graph, threads=threads)
        shape = (1, *input_shape(architecture, part))
        features = np.random.default_rng(0).random(shape, dtype=np.float32)
        work[part.name] = partial(session.run, None, {"features": features})
    return work


def cpu_session(graph: bytes, *, threads: int) -> onnxruntime.InferenceSession:
    """A session with the options that the edge's head has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def firing_rates(head: OnnxHead, architecture: Architecture, pixels: Pixels) -> dict[str, float]:
    """Spikes a site a timestep of each neuron layer but the bottleneck, over the images."""
    layers = head_layers(architecture)
    fired = np.zeros(len(layers))
    for image in pixels:
        fired += [float(activity.sum()) for activity in head.outputs(image[None])[1:]]
    sites = [layer.channels * layer.side**2 * architecture.timesteps for layer in layers]
    rates = fired / np.array(sites) / len(pixels)
    return {layer.name: float(rate) for layer, rate in zip(layers[:-1], rates, strict=False)}


def expected_accumulates(cut: Architecture, rates: dict[str, float], assumed: float) -> float:
    """Accumulates of an image at these rates, by layer name; ``assumed`` where there is none."""
    dense = dense_accumulates(cut)
    layers = head_layers(cut)
    rate = [rates.get(layer.name, assumed) for layer in layers]
    return float(np.dot(dense, rate))
