"""Against what a user would pick instead: image files to the un-cut network on a model server.

Every server gets the same images, the same number of threads and the same closed loop from the same
generator; ours gets recorded frames, so that the cloud is what is measured. Bytes are the kernel's
counts of TCP payload at the generator, both ways, headers and opening included.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from spikebottlenet.bench.cloud_part import EDGES, cloud_aim
from spikebottlenet.bench.figures import Bound, Claim, Part, Table, claim, fixed
from spikebottlenet.bench.images import ENCODINGS, Encoding, image_file
from spikebottlenet.bench.load.generator import run_load
from spikebottlenet.bench.load.plan import Aim, Pace, Target
from spikebottlenet.bench.load.samples import LoadReport
from spikebottlenet.bench.machine import usable_cores
from spikebottlenet.bench.measuring import spread
from spikebottlenet.bench.peers.servers import (
    running_cloud,
    running_edge,
    running_litserve,
    running_plain_grpc,
)
from spikebottlenet.bench.processes import Server
from spikebottlenet.bench.subject import Subject, daemon_default

_MEDIA = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_OURS = "SpikeBottleNet, frames"
_OURS_BOTH = "SpikeBottleNet, edge and cloud on these cores, PNG files"
_LITSERVE, _GRPC = "LitServe", "plain gRPC"
_PNG, _JPEG = "PNG", "JPEG q75"


class _Served(NamedTuple):
    """What one contestant did in one round."""

    rate: float  # images/s
    cores: float  # that its server kept busy
    up: float  # bytes an image
    down: float

    @property
    def per_core(self) -> float:
        """Images a second of a core's time."""
        return self.rate / self.cores

    @property
    def wire(self) -> float:
        """Bytes an image, both ways."""
        return self.up + self.down


Rounds = dict[str, list[_Served]]


def measure_peers(subject: Subject) -> Part:
    """Each server in turns, each way to write an image, batched and not."""
    found: Rounds = {}
    rounds = 1 if subject.quick else 3
    for _ in range(rounds):
        _one_round(subject, found)
    with (
        running_cloud(subject.bundle_name, subject.folder) as cloud,
        running_edge(subject.bundle_name, subject.folder, cloud.address) as edge,
    ):
        files = _files(subject, ENCODINGS[0])
        both = edge.tree.joined(cloud.tree)
        report = run_load(Aim(Target.EDGE, edge.address, files), _pace(subject, 2), both)
        found[_OURS_BOTH] = [_served(report)]
    return Part("peers", _claims(found), (_table(found), _accuracies(subject)), _notes(subject))


def _one_round(subject: Subject, found: Rounds) -> None:
    batch, threads = daemon_default("cloud_node", "max_batch"), usable_cores()
    name, folder = subject.bundle_name, subject.folder
    with running_cloud(name, folder) as cloud:
        report = run_load(cloud_aim(subject, cloud.address), _pace(subject, batch), cloud.tree)
        found.setdefault(_OURS, []).append(_served(report))
    for size in (batch, 1):
        peers: tuple[tuple[str, Target, AbstractContextManager[Server]], ...] = (
            (_LITSERVE, Target.HTTP, running_litserve(name, folder, batch=size, threads=threads)),
            (_GRPC, Target.UNARY, running_plain_grpc(name, folder, batch=size, threads=threads)),
        )
        for peer, target, starting in peers:
            with starting as server:
                for encoding in _encodings(subject, batched=size > 1):
                    aim = _aim(subject, target, server.address, encoding)
                    report = run_load(aim, _pace(subject, size), server.tree)
                    key = f"{peer}, {encoding.name}, {'batches' if size > 1 else 'one by one'}"
                    found.setdefault(key, []).append(_served(report))


def _encodings(subject: Subject, *, batched: bool) -> tuple[Encoding, ...]:
    """All, or PNG and JPEG alone where the way to write an image makes little difference."""
    return ENCODINGS if batched and not subject.quick else ENCODINGS[:2]


def _pace(subject: Subject, batch: int) -> Pace:
    """So many in flight that one full batch is computed and two more wait."""
    in_flight = max(2, -(-3 * batch // EDGES))
    seconds = 1.5 if subject.quick else 3.0
    return Pace(seconds=seconds, edges=EDGES, in_flight=in_flight, warm_s=1.0)


def _aim(subject: Subject, target: Target, address: str, encoding: Encoding) -> Aim:
    media = _MEDIA[encoding.pillow_format]
    return Aim(target, address, _files(subject, encoding), content_type=media)


def _files(subject: Subject, encoding: Encoding) -> tuple[bytes, ...]:
    return tuple(image_file(pixels, encoding) for pixels in subject.images.pixels)


def _served(report: LoadReport) -> _Served:
    images = max(1, report.answered)
    cores = (report.server_cpu_s or 0.0) / report.seconds
    return _Served(report.goodput, cores, report.wire_up / images, report.wire_down / images)


def _median_of(values: dict[str, list[float]]) -> Callable[[str], float]:
    return lambda key: spread(values[key]).median


def _up(served: _Served) -> float:
    return served.up


def _wire(served: _Served) -> float:
    return served.wire


def _claims(found: Rounds) -> tuple[Claim, ...]:
    ours = found[_OURS]
    claims = []
    for way, name, ending in (
        (_up, "from the device to the server", ""),
        (_wire, "both ways, answers included", "_both_ways"),
    ):
        for encoding, wanted in ((_JPEG, 4.0), (_PNG, 8.0)):
            sizes = {
                key: [way(served) for served in found[key]]
                for key in found
                if f", {encoding}, " in key
            }
            fewest = min(sizes, key=_median_of(sizes))
            claims.append(
                claim(
                    f"peers.bytes_{encoding.split()[0].lower()}{ending}",
                    f"bytes on the wire an image, {name}: {encoding} over ours",
                    Bound.AT_LEAST,
                    wanted,
                    unit="bytes an image",
                    values=sizes[fewest],
                    references=[way(served) for served in ours],
                    reference_is=f"ours; the value is of the peer with fewest bytes: {fewest}",
                )
            )
    key = max(
        (key for key in found if key.startswith(f"{_LITSERVE}, {_JPEG}, ")),
        key=lambda key: spread([served.per_core for served in found[key]]).median,
    )
    claims.append(
        claim(
            "peers.rate_per_core",
            "images/s per cloud core: ours over LitServe's with JPEG",
            Bound.AT_LEAST,
            2.0,
            unit="images/s per core",
            values=[served.per_core for served in ours],
            references=[served.per_core for served in found[key]],
            reference_is=f"the better of LitServe with and without batches: {key}",
        )
    )
    return tuple(claims)


def _table(found: Rounds) -> Table:
    ours = spread([served.wire for served in found[_OURS]]).median
    rows = []
    for key, served in found.items():
        rate, cores = spread([s.rate for s in served]), spread([s.cores for s in served])
        per_core = spread([s.per_core for s in served])
        up, down = spread([s.up for s in served]).median, spread([s.down for s in served]).median
        figures = (round(rate.median, 1), round(cores.median, 2), round(per_core.median, 1))
        rows.append((key, *figures, round(up, 1), round(down, 1), round((up + down) / ours, 2)))
    columns = ("server, image file", "images/s", "server cores", "images/s per core")
    note = "server cores: CPU time of the server's whole process tree over the measured time"
    wire = ("bytes up", "bytes down", "both / ours")
    return Table("peers", "What a user would pick instead", (*columns, *wire), tuple(rows), note)


def _accuracies(subject: Subject) -> Table:
    measured = subject.bundle.manifest.measured
    rows: tuple[tuple[str, float | None], ...] = (
        ("cut network (ours)", measured.top1 if measured else None),
        ("un-cut network (peers)", measured.uncut_top1 if measured else None),
    )
    note = f"from the bundle's manifest: {measured.data}, {measured.split}" if measured else ""
    return Table("accuracy", "Accuracy, top-1 %", ("network", "top-1 %"), rows, note)


def _notes(subject: Subject) -> tuple[str, ...]:
    return (
        f"The peers run the un-cut ResNet-18 with random weights on {usable_cores()} threads, as "
        "cloud-node does; accuracies are the manifest's. Bytes are of "
        f"{subject.images.source}, {subject.bundle.manifest.architecture.side} pixels square: a "
        f"JPEG of that size is mostly its {fixed(623, 0)}-byte header of tables, and WebP, which "
        "has none, is the peer to beat on bytes.",
    )
