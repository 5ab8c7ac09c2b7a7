"""The edge against the bare head: ONNX Runtime alone, torch; start and memory."""

import time
from collections.abc import Callable
from itertools import cycle

import numpy as np
import onnxruntime
import torch

from spikebottlenet.bench.figures import Bound, Claim, Part, Table, claim, limit_claim
from spikebottlenet.bench.images import ENCODINGS, image_file
from spikebottlenet.bench.load.generator import run_load
from spikebottlenet.bench.load.plan import Aim, Pace, Target
from spikebottlenet.bench.measuring import Take, in_turns, ratios, spread, timed
from spikebottlenet.bench.peers.servers import running_cloud, running_edge
from spikebottlenet.bench.probe import await_serving
from spikebottlenet.bench.subject import Subject, daemon_default
from spikebottlenet.bundle import HEAD_ONNX
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.model.exact import ExactHead, fold_head
from spikebottlenet.model.head import SpikingHead
from spikebottlenet.model.neuron import LIFParams
from spikebottlenet.runtime.onnx_head import OnnxHead

_READY_WITHIN_S = 1.5
_RESIDENT_MB = 150.0
_NOWHERE = "127.0.0.1:1"  # a cloud that is not there: its start is not the edge's


def measure_edge(subject: Subject) -> Part:
    """Time of one image, start, memory."""
    claims, table = _heads(subject)
    started, starts = _starts(subject)
    resident, memory = _memory(subject)
    notes = (
        "Times are of one image after another on as many threads as edge-node uses by default. "
        "torch eager is the faster of two float32 forms: as trained (batch norms), and folded and "
        "exact. Both have random weights: dense convolutions take the same time.",
    )
    return Part("edge", (*claims, started, resident), (table, starts, memory), notes)


def _heads(subject: Subject) -> tuple[tuple[Claim, ...], Table]:
    bundle, pixels = subject.bundle, subject.images.pixels
    architecture, codec = bundle.manifest.architecture, bundle.codec()
    threads = daemon_default("edge_node", "threads")
    at = cycle(range(len(pixels)))
    head = OnnxHead(bundle.path(HEAD_ONNX), architecture, threads=threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        str(bundle.path(HEAD_ONNX)), options, providers=["CPUExecutionProvider"]
    )
    params, scale = LIFParams(architecture.threshold, architecture.leak), DataSettings().scale
    trained = SpikingHead(architecture, params, fused=False).eval()
    folded = fold_head(trained, architecture, scale)
    exact = ExactHead(architecture, folded, scale.mean_colour)

    def pipeline() -> None:
        codec.encode_spikes(head.run(pixels[next(at)][None]).spikes[:, 0])

    def bare() -> None:
        session.run(None, {"pixels": pixels[next(at)][None]})

    def eager_exact() -> None:
        with torch.inference_mode():
            exact.run(torch.from_numpy(pixels[next(at)][None]))

    image = torch.randn(1, 3, architecture.side, architecture.side)

    def eager_trained() -> None:
        with torch.inference_mode():
            trained(image)

    contestants: dict[str, Callable[[], object]] = {
        "edge pipeline: decoded image to frame": pipeline,
        "ONNX Runtime, session.run alone": bare,
        "torch eager, folded float32 head": eager_exact,
        "torch eager, trained form": eager_trained,
    }
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        compiled = None if subject.quick else _compiled(exact, pixels)
        if compiled is not None:
            contestants["torch.compile, folded float32 head"] = compiled
        takes: list[Take] = [timed(work, times=2) for work in contestants.values()]
        measured = in_turns(4 if subject.quick else 30, *takes, warm=2)
    finally:
        torch.set_num_threads(before)
    ours, alone, *eager = measured
    fastest = min(eager[:2], key=lambda values: spread(values).median)
    claims = (
        claim(
            "edge.pipeline_to_bare_head",
            "pipeline from decoded image to frame over the bare ONNX Runtime head",
            Bound.AT_MOST,
            1.10,
            unit="ms an image",
            values=[1e3 * value for value in ours],
            references=[1e3 * value for value in alone],
            reference_is=f"session.run of the bundle's head, {threads} thread(s)",
        ),
        claim(
            "edge.rate_to_torch_eager",
            "images/s of the pipeline over those of the head in torch eager",
            Bound.AT_LEAST,
            2.0,
            unit="images/s",
            values=ratios([1.0] * len(ours), ours),
            references=ratios([1.0] * len(fastest), fastest),
            reference_is="the faster torch eager form of the head, without codec",
        ),
    )
    rows = []
    for name, values in zip(contestants, measured, strict=True):
        took = spread(values).scaled(1e3)
        over = spread(ratios(values, alone))
        rate = round(1e3 / took.median, 1)
        quartiles = f"{took.low:.2f} to {took.high:.2f}"
        rows.append((name, round(took.median, 3), quartiles, rate, round(over.median, 3)))
    columns = ("one image", "ms", "quartiles ms", "images/s", "/ bare head")
    note = "" if compiled else "torch.compile: not measured"
    return claims, Table("edge", f"Edge, {threads} thread(s)", columns, tuple(rows), note)


def _compiled(
    exact: ExactHead, pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"
) -> "Callable[[], object] | None":
    """The exact head through torch.compile; None where no C++ compiler is."""
    at = cycle(range(len(pixels)))
    run = torch.compile(exact.run, dynamic=False)

    def work() -> None:
        with torch.inference_mode():
            run(torch.from_numpy(pixels[next(at)][None]))

    try:
        work()
    except Exception:  # inductor raises its own errors, and those of the compiler it starts
        return None
    return work


def _starts(subject: Subject) -> tuple[Claim, Table]:
    """Seconds from starting the process to its health service saying SERVING."""
    ready_s, resident = [], []
    for _ in range(2 if subject.quick else 7):
        began = time.perf_counter()
        with running_edge(subject.bundle_name, subject.folder, _NOWHERE) as edge:
            await_serving(edge.address)
            ready_s.append(time.perf_counter() - began)
            resident.append(edge.tree.resident_mb())
    ready, at_start = spread(ready_s), spread(resident)
    table = Table(
        "edge_start",
        "edge-node, start",
        ("figure", "median", "first quartile", "third quartile", "starts"),
        (
            ("start to ready, s", *(round(v, 3) for v in ready[:3]), ready.repeats),
            ("resident at the start, MB", *(round(v, 1) for v in at_start[:3]), at_start.repeats),
        ),
        "ready: the process was started, printed its line and its health service says SERVING",
    )
    found = limit_claim(
        "edge.start_to_ready",
        "edge-node from start to ready",
        _READY_WITHIN_S,
        unit="s",
        values=ready_s,
    )
    return found, table


def _memory(subject: Subject) -> tuple[Claim, Table]:
    """Resident memory while images come, PNG and JPEG files of the set, through a cloud-node."""
    files = tuple(
        image_file(pixels, ENCODINGS[index % 2])
        for index, pixels in enumerate(subject.images.pixels[:256])
    )
    rows, resident = [], []
    with (
        running_cloud(subject.bundle_name, subject.folder) as cloud,
        running_edge(subject.bundle_name, subject.folder, cloud.address) as edge,
    ):
        images = 0
        for _ in range(2 if subject.quick else 4):
            aim = Aim(Target.EDGE, edge.address, files)
            pace = Pace(seconds=2 if subject.quick else 6, in_flight=8, warm_s=0.1)
            images += run_load(aim, pace).answered
            resident.append(edge.tree.resident_mb())
            rows.append((images, round(resident[-1], 1), round(cloud.tree.resident_mb(), 1)))
    table = Table(
        "edge_memory",
        "Resident memory as images come",
        ("images", "edge-node MB", "cloud-node MB"),
        tuple(rows),
    )
    found = limit_claim(
        "edge.resident",
        f"edge-node's resident memory after {images} images",
        _RESIDENT_MB,
        unit="MB",
        values=[max(resident)],
    )
    return found, table
