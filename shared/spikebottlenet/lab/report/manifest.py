"""The point of a bundle that has no results beside it: what its manifest says was measured."""

import shlex
from pathlib import Path

from spikebottlenet.bundle import HEAD_ONNX, Half, Measured, default_bundle, open_bundle
from spikebottlenet.errors import DataError
from spikebottlenet.lab.results import Method, Point, Results
from spikebottlenet.lab.subject import FRAMING_BYTES, WIRE_METHOD, head_estimate, subject_of

_LOG = "training-cut.jsonl"


def manifest_results(folder: Path) -> Results:
    """Results of one point, without what a manifest does not hold: layers, prefixes, mistakes.

    Raises:
        BundleError: not a bundle, or an altered one.
        DataError: nothing was measured.
    """
    bundle = open_bundle(folder, Half.EDGE)
    measured = bundle.manifest.measured
    if measured is None:
        raise DataError(
            f"the manifest of {folder} has no measurement: run `spikebottlenet evaluate "
            f"{folder} --data DATA --out RUN` and report RUN"
        )
    architecture = bundle.manifest.architecture
    subject = subject_of(bundle, data=measured.data, split=measured.split, images=measured.images)
    name = "default" if folder == default_bundle() else str(folder)
    point = Point(
        method=Method.SPIKES,
        setting=f"{architecture.spike_shape.bits} spike bits",
        subject=subject.model_copy(update={"images_sha256": measured.images_sha256}),
        top1=measured.top1,
        top5=measured.top5,
        bits_before_coding=architecture.spike_shape.bits,
        bit_compression=round(architecture.bit_compression, 3),
        payload_bytes_mean=measured.payload_bytes_mean,
        payload_bytes_p99=measured.payload_bytes_p99,
        wire_bytes_mean=round(measured.payload_bytes_mean + FRAMING_BYTES, 3),
        wire_method=WIRE_METHOD,
        energy=(head_estimate(architecture, measured.edge_compute_uj),),
        uncut_top1=measured.uncut_top1,
        edge_exit_top1=measured.edge_exit_top1,
        int8_tail_top1=measured.int8_tail_top1,
        head_bytes=bundle.path(HEAD_ONNX).stat().st_size,
        log=_LOG if bundle.path(_LOG).is_file() else "manifest.yaml",
        command=_command(name, measured),
    )
    return Results(class_names=bundle.manifest.class_names, points=(point,))


def _command(name: str, measured: Measured) -> str:
    words = ["spikebottlenet", "evaluate", name, "--data", measured.data]
    return shlex.join([*words, "--split", measured.split, "--limit", str(measured.images)])
