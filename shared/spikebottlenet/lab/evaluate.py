"""Evaluation of a bundle as it runs: exact head, real frames, tail; no socket between."""

import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.progress import track

from spikebottlenet.accounting.energy import compute_uj
from spikebottlenet.bundle import (
    EXIT_WEIGHTS,
    HEAD_ONNX,
    TAIL_ONNX,
    TAIL_WEIGHTS,
    Bundle,
    Half,
    Measured,
    open_bundle,
    write_manifest,
)
from spikebottlenet.codec.information import context_bits, prior_bits
from spikebottlenet.errors import DataError
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.data_classes import match_classes
from spikebottlenet.lab.data_identity import images_sha256
from spikebottlenet.lab.witness import Witness
from spikebottlenet.runtime.edge_exit import EdgeExit
from spikebottlenet.runtime.onnx_head import OnnxHead
from spikebottlenet.runtime.onnx_tail import OnnxTail
from spikebottlenet.runtime.torch_tail import TorchTail

_BATCH = 100
_TOP5 = 5


class Evaluation(NamedTuple):
    """What an evaluation found; accuracies in percent, energies in microjoules an image."""

    images: int
    top1: float
    top5: float
    edge_exit_top1: float
    payload_bytes_mean: float  # of whole frames
    payload_bytes_p99: float
    firing_rate: float  # of the bottleneck, spikes a site a timestep
    edge_compute_uj: float
    ann_head_uj: float
    prior_bits_mean: float  # information of an image's spikes under the prior
    context_bits_mean: float | None  # under the context model, where the bundle has one
    int8_tail_top1: float | None = None  # of the same spikes by tail.onnx, where there is one

    def rounded(self) -> dict[str, float]:
        """By name, to three decimals, without what was not measured: what manifests carry."""
        values = self._asdict().items()
        return {name: round(value, 3) for name, value in values if value is not None}


def evaluate_bundle(
    bundle: Bundle, split: ImageSplit, *, threads: int, witness: Witness | None = None
) -> Evaluation:
    """Run every image; each one's spikes go through a frame and back before the tail sees them.

    A ``witness`` is shown every batch, for the details of a report.

    Raises:
        DataError: no images, or classes that are not the bundle's; another order is matched.
    """
    if len(split) == 0:
        raise DataError("no images to evaluate: choose another split or a higher limit")
    manifest = bundle.manifest
    split = match_classes(split, manifest.class_names)
    architecture = manifest.architecture
    head = OnnxHead(bundle.path(HEAD_ONNX), architecture, threads=threads)
    tail = TorchTail(bundle.path(TAIL_WEIGHTS), architecture, device="cpu")
    edge_exit = EdgeExit.load(bundle.path(EXIT_WEIGHTS))
    integers = _integer_tail(bundle, threads)
    codec = bundle.codec()
    hits = np.zeros(_TOP5, dtype=np.int64)
    exit_hits = integer_hits = spikes_fired = macs = accumulates = 0
    payloads: list[int] = []
    prior_sum = context_sum = 0.0
    starts = range(0, len(split), _BATCH)
    for start in track(starts, description="evaluate", transient=True):
        labels = split.labels[start : start + _BATCH]
        result = head.run(split.images[start : start + _BATCH])
        images = [np.ascontiguousarray(result.spikes[:, i]) for i in range(len(labels))]
        frames = [codec.encode_spikes(spikes) for spikes in images]
        prior_sum += sum(prior_bits(spikes, codec.prior) for spikes in images)
        if codec.context is not None:
            context_sum += sum(context_bits(spikes, codec.context) for spikes in images)
        received = np.stack([codec.decode_spikes(frame).spikes for frame in frames], axis=1)
        ranked = np.argsort(-tail.classify(received), axis=1, kind="stable")[:, :_TOP5]
        hits[: ranked.shape[1]] += (ranked == labels[:, None]).sum(axis=0)
        if integers is not None:
            integer_hits += _right(integers.classify(received, threads=threads), labels)
        exit_hits += _right(edge_exit.classify(result.spikes), labels)
        payloads += [len(frame) for frame in frames]
        if witness is not None:
            witness.see(labels, result, ranked[:, 0], codec, tail, edge_exit)
        spikes_fired += int(result.spikes.sum())
        macs += result.macs * len(labels)
        accumulates += int(result.accumulates.sum())
    count = len(split)
    return Evaluation(
        images=count,
        top1=100.0 * float(hits[0]) / count,
        top5=100.0 * float(hits.sum()) / count,
        edge_exit_top1=100.0 * exit_hits / count,
        payload_bytes_mean=float(np.mean(payloads)),
        payload_bytes_p99=float(np.percentile(payloads, 99)),
        firing_rate=spikes_fired / (count * architecture.spike_shape.bits),
        edge_compute_uj=compute_uj(macs, accumulates) / count,
        ann_head_uj=compute_uj(manifest.operations.ann_head_macs, 0),
        prior_bits_mean=prior_sum / count,
        context_bits_mean=context_sum / count if codec.context is not None else None,
        int8_tail_top1=None if integers is None else 100.0 * integer_hits / count,
    )


def measure_bundle(
    bundle: Bundle,
    test: ImageSplit,
    *,
    data: str,
    uncut_top1: float | None,
    threads: int,
    witness: Witness | None = None,
) -> Bundle:
    """Evaluate on the test split and write that into the bundle's manifest."""
    found = evaluate_bundle(bundle, test, threads=threads, witness=witness)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    uncut = None if uncut_top1 is None else round(uncut_top1, 3)
    about = {"data": data, "split": "test", "date": today, "uncut_top1": uncut}
    about["images_sha256"] = images_sha256(match_classes(test, bundle.manifest.class_names))
    measured = Measured.model_validate(found.rounded() | about)
    write_manifest(bundle.folder, bundle.manifest.model_copy(update={"measured": measured}))
    return open_bundle(bundle.folder, Half.LAB)


def _integer_tail(bundle: Bundle, threads: int) -> OnnxTail | None:
    if TAIL_ONNX not in bundle.manifest.files:
        return None
    return OnnxTail(bundle.path(TAIL_ONNX), bundle.manifest.architecture, threads={threads})


def _right(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> int:
    return int((probabilities.argmax(axis=1) == labels).sum())
