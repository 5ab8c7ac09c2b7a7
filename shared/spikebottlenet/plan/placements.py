"""Every way to place the network on edge and cloud, and what each takes of both.

    latency = edge compute + link's exchange + cloud compute + what the processes add

What the processes add is measured on loopback less the parts timed alone; with a profile of each
machine that has it, the mean of both, as half of it is done at either end. Wire bytes are the
message as the daemons write it, gRPC's prefix and HTTP/2's frame header (``accounting.wire``), and
the window updates that go with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from spikebottlenet.accounting.energy import compute_uj
from spikebottlenet.bundle import Bundle
from spikebottlenet.codec.frame import OVERHEAD_BYTES
from spikebottlenet.errors import ConfigError
from spikebottlenet.plan.machines import Added, Profiles, head_at, tail_ms
from spikebottlenet.plan.messages import answer_bytes, on_stream, request_bytes
from spikebottlenet.plan.profile import EdgeSide, HeadCost, Loopback, Profile

_TYPICAL_ANSWER_BYTES = 100  # five classes and probabilities as JSON


class Kind(StrEnum):
    """Where the network runs."""

    EDGE_EXIT = "edge exit"  # head and a small classifier, on the edge
    EDGE_ONLY = "edge-only"  # the un-cut network, on the edge
    CUT = "cut"
    CLOUD_ONLY = "cloud-only"  # the un-cut network, in the cloud


class Status(StrEnum):
    """What it takes to have it."""

    DEPLOYABLE = "deployable"  # a bundle that was given
    TRAINING = "needs training"
    OTHER = "other software"  # the daemons do not run it


@dataclass(frozen=True)
class Placement:
    """One way, for one image; milliseconds, wire bytes, microjoules."""

    key: str  # "cut-2", "cloud-only"
    title: str
    kind: Kind
    status: Status
    edge_ms: float
    cloud_ms: float
    overhead_ms: float  # of the processes
    up_bytes: int
    down_bytes: int
    edge_uj: float  # compute, estimated
    top1: float | None  # percent; None: unknown before training
    bytes_are: str  # how they are known


class Source(NamedTuple):
    """What cloud-only sends."""

    name: str
    size: float  # bytes
    encode_ms: float


def placements(
    profiles: Profiles, bundles: Sequence[Bundle], source: Source, *, edge_factor: float = 1.0
) -> tuple[Placement, ...]:
    """All of them: what the edge does alone, cuts from early to late, cloud-only.

    ``edge_factor``: how many times slower the edge is than the machine that was measured, its
    daemon too.

    Raises:
        ConfigError: a profile lacks a side, or a bundle is of another network.
    """
    edge, _ = profiles.sides()
    for bundle in bundles:
        _check_same_network(bundle, profiles)
    added = profiles.added()
    by_stage = {bundle.manifest.architecture.after_stage: bundle for bundle in reversed(bundles)}
    found = [
        *(_edge_exit(profiles, edge, added, bundle, edge_factor) for bundle in by_stage.values()),
        _edge_only(profiles, edge, added, bundles[0], edge_factor),
        *(
            _cut(profiles, added, head, by_stage.get(head.after_stage), edge_factor)
            for head in edge.heads
        ),
        _cloud_only(profiles, added, bundles[0], source, edge_factor),
    ]
    return tuple(found)


def _check_same_network(bundle: Bundle, profiles: Profiles) -> None:
    mine = bundle.manifest.architecture
    for profile in profiles:
        theirs = profile.architecture
        for name in ("width", "side", "timesteps", "classes"):
            if getattr(mine, name) != getattr(theirs, name):
                raise ConfigError(
                    f"bundle {bundle.model} has {name} {getattr(mine, name)}, the profile of "
                    f"{profile.bundle} has {getattr(theirs, name)}: make one with "
                    "`spikebottlenet profile --bundle` and this bundle"
                )


def _edge_exit(
    profiles: Profiles, edge: EdgeSide, added: Added, bundle: Bundle, factor: float
) -> Placement:
    stage = bundle.manifest.architecture.after_stage
    head, measured = head_at(edge, stage), bundle.manifest.measured
    compute = edge.preprocess.median + head.time.median + edge.encode.median + edge.edge_exit.median
    return Placement(
        key=f"edge-exit-{stage}",
        title=f"edge exit, stage {stage}",
        kind=Kind.EDGE_EXIT,
        status=Status.DEPLOYABLE,
        edge_ms=factor * compute,
        cloud_ms=0.0,
        overhead_ms=factor * added.edge,
        up_bytes=0,
        down_bytes=0,
        edge_uj=_head_uj(profiles, head, bundle),
        top1=None if measured is None else measured.edge_exit_top1,
        bytes_are="nothing sent",
    )


def _edge_only(
    profiles: Profiles, edge: EdgeSide, added: Added, bundle: Bundle, factor: float
) -> Placement:
    return Placement(
        key="edge-only",
        title="edge-only, un-cut",
        kind=Kind.EDGE_ONLY,
        status=Status.OTHER,
        edge_ms=factor * (edge.preprocess.median + edge.uncut.median),
        cloud_ms=0.0,
        overhead_ms=factor * added.edge,
        up_bytes=0,
        down_bytes=0,
        edge_uj=compute_uj(profiles.edge.macs_uncut, 0),
        top1=_uncut_top1(bundle),
        bytes_are="nothing sent",
    )


def _cut(
    profiles: Profiles, added: Added, head: HeadCost, bundle: Bundle | None, factor: float
) -> Placement:
    edge, cloud = profiles.sides()
    frame, bytes_are = frame_bytes(profiles.edge, head, bundle)
    # The codec's time goes with the sites that it codes.
    sites = head.spike_bits / profiles.edge.architecture.spike_shape.bits
    compute = edge.preprocess.median + head.time.median + sites * edge.encode.median
    measured = None if bundle is None else bundle.manifest.measured
    return Placement(
        key=f"cut-{head.after_stage}",
        title=f"cut after stage {head.after_stage}",
        kind=Kind.CUT,
        status=Status.TRAINING if bundle is None else Status.DEPLOYABLE,
        edge_ms=factor * compute,
        cloud_ms=sites * cloud.decode.median + tail_ms(cloud, head.after_stage),
        overhead_ms=added.split + (factor - 1.0) * added.edge,
        up_bytes=request_bytes(round(frame)),
        down_bytes=answer_bytes(),
        edge_uj=_head_uj(profiles, head, bundle),
        top1=None if measured is None else measured.top1,
        bytes_are=bytes_are,
    )


def _cloud_only(
    profiles: Profiles, added: Added, bundle: Bundle, source: Source, factor: float
) -> Placement:
    edge, cloud = profiles.sides()
    loopback = profiles.cloud.loopback or profiles.edge.loopback
    return Placement(
        key="cloud-only",
        title=f"cloud-only, {source.name}",
        kind=Kind.CLOUD_ONLY,
        status=Status.OTHER,
        edge_ms=factor * (edge.preprocess.median + source.encode_ms),
        cloud_ms=cloud.uncut.median,
        overhead_ms=added.uncut,
        up_bytes=on_stream(round(source.size)),
        down_bytes=on_stream(round(answered(loopback))),
        edge_uj=0.0,
        top1=_uncut_top1(bundle),
        bytes_are="mean of the profile's images" if source.encode_ms else "as given",
    )


def answered(loopback: Loopback | None) -> float:
    """Message bytes of the un-cut network's answer; 100 where no server was measured."""
    return loopback.uncut_answer_bytes if loopback else _TYPICAL_ANSWER_BYTES


def _uncut_top1(bundle: Bundle) -> float | None:
    return None if bundle.manifest.measured is None else bundle.manifest.measured.uncut_top1


def frame_bytes(profile: Profile, head: HeadCost, bundle: Bundle | None) -> tuple[float, str]:
    """Mean bytes of a frame behind one cut, and how they are known.

    Of a bundle they are measured; else a model: every spike site costs what it costs in the frames
    that were measured, in bits after entropy coding.
    """
    if bundle is not None and bundle.fingerprint == profile.fingerprint:
        return profile.frame_bytes, f"measured, {profile.images}"
    if bundle is not None and bundle.manifest.measured is not None:
        measured = bundle.manifest.measured
        return measured.payload_bytes_mean, f"measured, {measured.data} {measured.split}"
    a_site = (profile.frame_bytes - OVERHEAD_BYTES) / profile.architecture.spike_shape.bits
    modelled = OVERHEAD_BYTES + a_site * head.spike_bits
    return modelled, f"model: {8 * a_site:.3f} bits a spike site, as in {profile.bundle}"


def _head_uj(profiles: Profiles, head: HeadCost, bundle: Bundle | None) -> float:
    """Estimated energy of the head: the bundle's own evaluation, or the profile's expectation."""
    measured = None if bundle is None else bundle.manifest.measured
    if (
        measured is not None
        and bundle is not None
        and bundle.fingerprint != profiles.edge.fingerprint
    ):
        return measured.edge_compute_uj
    return compute_uj(head.macs, round(head.accumulates))
