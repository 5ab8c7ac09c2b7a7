"""The point of a bundle: what an evaluation of it found, and where every figure is from."""

import math
import shlex
from pathlib import Path

from spikebottlenet.accounting.energy import ACCUMULATE_PJ, MAC_PJ, PJ_PER_UJ
from spikebottlenet.accounting.energy_profile import INTEGER8
from spikebottlenet.accounting.operations import stem_macs
from spikebottlenet.bundle import HEAD_ONNX, Bundle, Measured
from spikebottlenet.errors import BundleError
from spikebottlenet.lab.config import DataChoice
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.data_classes import match_classes
from spikebottlenet.lab.data_identity import images_sha256
from spikebottlenet.lab.evaluate import Evaluation, evaluate_bundle
from spikebottlenet.lab.requantise import head_bits
from spikebottlenet.lab.results import EnergyEstimate, Method, Point, Subject, add_points
from spikebottlenet.lab.subject import (
    FRAMING_BYTES,
    INT8_MODEL,
    WIRE_METHOD,
    head_estimate,
    subject_of,
)
from spikebottlenet.lab.witness import Witness, mistakes
from spikebottlenet.model.architecture import Architecture

_NEARLY = 0.01


def head_estimates(architecture: Architecture, macs: float, adds: float) -> EnergyEstimate:
    """Energy of a head with so many operations an image, beside ordinary heads at the same cut."""
    mac_uj, add_uj = macs * MAC_PJ / PJ_PER_UJ, adds * ACCUMULATE_PJ / PJ_PER_UJ
    return head_estimate(architecture, mac_uj + add_uj, _parts(mac_uj, add_uj))


def integer_estimate(architecture: Architecture, macs: float, adds: float) -> EnergyEstimate:
    """The same of a spiking head on integer weights, whose stem alone is float32."""
    stem = stem_macs(architecture)
    mac_uj = (stem * MAC_PJ + (macs - stem) * INTEGER8.mac_pj) / PJ_PER_UJ
    add_uj = adds * INTEGER8.add_pj / PJ_PER_UJ
    parts = _parts(mac_uj, add_uj)
    return head_estimate(architecture, mac_uj + add_uj, parts, model=INT8_MODEL)


def _parts(mac_uj: float, add_uj: float) -> dict[str, float]:
    return {"multiply-accumulates": round(mac_uj, 4), "accumulates": round(add_uj, 4)}


def bundle_points(
    bundle: Bundle,
    subject: Subject,
    found: Evaluation | Measured,
    witness: Witness,
    *,
    uncut_top1: float | None,
    log: str,
    command: str,
) -> tuple[Point, Point]:
    """The cut network's point, and that of its edge exit with nothing sent."""
    architecture = bundle.manifest.architecture
    bits, integers = head_bits(bundle), found.int8_tail_top1
    macs, adds = witness.macs / witness.images, witness.accumulates / witness.images
    estimates: tuple[EnergyEstimate, ...] = (head_estimates(architecture, macs, adds),)
    if bits <= INTEGER8.operand_bits:
        estimates += (integer_estimate(architecture, macs, adds),)
    cut = Point(
        method=Method.SPIKES,
        setting=f"{architecture.spike_shape.bits} spike bits, {bits}-bit head",
        subject=subject,
        top1=round(found.top1, 3),
        top5=round(found.top5, 3),
        bits_before_coding=architecture.spike_shape.bits,
        bit_compression=round(architecture.bit_compression, 3),
        payload_bytes_mean=round(found.payload_bytes_mean, 3),
        payload_bytes_p99=round(found.payload_bytes_p99, 3),
        wire_bytes_mean=round(found.payload_bytes_mean + FRAMING_BYTES, 3),
        wire_method=WIRE_METHOD,
        energy=estimates,
        firing_rates=witness.firing_rates(),
        by_timesteps=witness.by_timesteps(),
        uncut_top1=None if uncut_top1 is None else round(uncut_top1, 3),
        edge_exit_top1=round(found.edge_exit_top1, 3),
        int8_tail_top1=None if integers is None else round(integers, 3),
        head_bits=bits,
        head_bytes=bundle.path(HEAD_ONNX).stat().st_size,
        confusion=mistakes(witness.confusion),
        log=log,
        command=command,
    )
    alone = Point(
        method=Method.EDGE_SPIKING,
        setting=f"edge exit, {bits}-bit head",
        subject=subject,
        top1=round(found.edge_exit_top1, 3),
        top5=round(100.0 * witness.exit_top5_hits / witness.images, 3),
        bits_before_coding=0,
        payload_bytes_mean=0.0,
        payload_bytes_p99=0.0,
        wire_bytes_mean=0.0,
        wire_method="nothing is sent",
        energy=(head_estimates(architecture, macs + witness.exit_macs, adds),),
        uncut_top1=cut.uncut_top1,
        log=log,
        command=command,
    )
    return cut, alone


def measured_points(
    bundle: Bundle,
    split: ImageSplit,
    subject: Subject,
    *,
    log: str,
    command: str,
    threads: int,
) -> tuple[Evaluation, tuple[Point, Point]]:
    """Evaluate a bundle and make its points.

    The un-cut network's accuracy is the manifest's, where that is of the same images.
    """
    split = match_classes(split, bundle.manifest.class_names)
    subject = subject.model_copy(update={"images_sha256": images_sha256(split)})
    witness = Witness(bundle.manifest.architecture)
    found = evaluate_bundle(bundle, split, threads=threads, witness=witness)
    measured, uncut_top1 = bundle.manifest.measured, None
    if measured is not None and of_the_same_images(measured, found, subject):
        uncut_top1 = measured.uncut_top1
        if subject.split == measured.split:  # by one name in reports, a local copy too
            subject = subject.model_copy(update={"data": measured.data})
    points = bundle_points(
        bundle, subject, found, witness, uncut_top1=uncut_top1, log=log, command=command
    )
    return found, points


def of_the_same_images(measured: Measured, found: Evaluation, subject: Subject) -> bool:
    """Whether a manifest's figures are of the images that were measured now.

    A manifest without a digest of its images is taken by its figures: the same head on the same
    images gives them again to the last digit; on another processor, under the same name, nearly.
    """
    if measured.images != found.images:
        return False
    if measured.images_sha256 and subject.images_sha256:
        return measured.images_sha256 == subject.images_sha256
    now = found.rounded()
    names = ("top1", "edge_exit_top1", "payload_bytes_mean", "firing_rate", "edge_compute_uj")
    pairs = [(float(getattr(measured, name)), now[name]) for name in names]
    if all(before == after for before, after in pairs):
        return True
    named = (measured.data, measured.split) == (subject.data, subject.split)
    return named and all(math.isclose(*pair, rel_tol=_NEARLY) for pair in pairs)


def keep_points(bundle: Bundle, witness: Witness, run: Path, *, data: str) -> None:
    """Write the points of a bundle that was just measured into its run's results.

    Raises:
        BundleError: its manifest has no measurement.
    """
    measured = bundle.manifest.measured
    if measured is None:
        raise BundleError(f"the manifest of {bundle.folder} has no measurement: measure it first")
    subject = subject_of(bundle, data=measured.data, split=measured.split, images=measured.images)
    subject = subject.model_copy(update={"images_sha256": measured.images_sha256})
    points = bundle_points(
        bundle,
        subject,
        measured,
        witness,
        uncut_top1=measured.uncut_top1,
        log=f"{bundle.folder.name}/training-cut.jsonl",
        command=evaluate_command(bundle.folder, subject, data=data, out=run),
    )
    add_points(run, bundle.manifest.class_names, points)


def evaluate_command(
    folder: Path, subject: Subject, *, data: str, out: Path, choice: DataChoice | None = None
) -> str:
    """The command that measures a bundle again into ``out``, with what was said of its data."""
    words = ["spikebottlenet", "evaluate", str(folder), "--data", data]
    words += ["--split", subject.split, "--limit", str(subject.images), "--out", str(out)]
    for option, value in (choice or DataChoice())._asdict().items():
        words += [] if value is None else [f"--{option.replace('_', '-')}", value]
    return shlex.join(words)
