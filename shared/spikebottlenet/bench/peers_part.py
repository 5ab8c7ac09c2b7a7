"""Against what a user would pick instead: image files to the un-cut network on a model server.

Every server gets the same images, the same number of threads and the same closed loop from the same
generator; ours gets recorded frames, so that the cloud is what is measured. Bytes are the kernel's
counts of TCP payload at the generator, both ways, headers and opening included.
"""

import math
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

from spikebottlenet.bench.cloud_part import EDGES, cloud_aim
from spikebottlenet.bench.figures import Bound, Claim, Part, Table, claim, fixed
from spikebottlenet.bench.images import ENCODINGS, Encoding, image_file
from spikebottlenet.bench.load.generator import run_load
from spikebottlenet.bench.load.plan import Aim, Pace, Target
from spikebottlenet.bench.load.samples import LoadReport
from spikebottlenet.bench.machine import usable_cores
from spikebottlenet.bench.measuring import ratios, spread
from spikebottlenet.bench.peers.servers import (
    running_cloud,
    running_edge,
    running_litserve,
    running_plain_grpc,
)
from spikebottlenet.bench.processes import Server
from spikebottlenet.bench.subject import Subject, daemon_default
from spikebottlenet.bundle import TAIL_ONNX

_MEDIA = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_OURS = "SpikeBottleNet, frames"
_OURS_FLOAT32 = "SpikeBottleNet, frames, float32 tail"
_OURS_BOTH = "SpikeBottleNet, edge and cloud on these cores, PNG files"
_LITSERVE, _GRPC = "LitServe", "plain gRPC"
_PNG, _JPEG = "PNG", "JPEG q75"
_WANTED = (
    (_JPEG, "jpeg", 4.0),
    (f"{_JPEG} optimised", "jpeg_optimised", 4.0),
    (_PNG, "png", 8.0),
    ("WebP q80", "webp", 1.0),  # no target: at least not more than it
)
_IMAGES = 200  # that are sent in turns
_START_OF_SCAN = b"\xff\xda"  # JPEG's marker before an image's own bytes


class _Served(NamedTuple):
    """What one contestant did in one round; NaN for what could not be measured."""

    rate: float  # images/s
    cores: float  # that its server kept busy
    up: float  # bytes an image
    down: float

    @property
    def per_core(self) -> float:
        """Images a second of a core's time."""
        return ratios([self.rate], [self.cores])[0]

    @property
    def wire(self) -> float:
        """Bytes an image, both ways."""
        return self.up + self.down


Rounds = dict[str, list[_Served]]


class _Found(NamedTuple):
    """Rounds of every contestant, by what it is and what it is sent."""

    rounds: Rounds
    remarks: list[str]

    def add(self, key: str, report: LoadReport) -> None:
        cores = (report.server_cpu_s or math.nan) / report.seconds
        wire = (float(report.wire_up), float(report.wire_down))
        up, down = ratios(wire, [float(report.answered)] * 2)
        rate = report.if_valid(report.goodput)
        seen = all(wire)  # else the kernel's counters are not to be had
        served = _Served(rate, cores, up if seen else math.nan, down if seen else math.nan)
        self.rounds.setdefault(key, []).append(served)
        self.remarks.extend(f"{key}: {remark}" for remark in report.remarks)


Files = dict[Encoding, tuple[bytes, ...]]


def measure_peers(subject: Subject) -> Part:
    """Each server in turns, each way to write an image, batched and not."""
    found = _Found({}, [])
    pixels = subject.images.pixels[:_IMAGES]
    files = {
        encoding: tuple(image_file(each, encoding) for each in pixels) for encoding in ENCODINGS
    }
    for index in range(1 if subject.quick else 3):
        _one_round(subject, files, found, first=index == 0)
    with (
        running_cloud(subject.bundle_name, subject.folder) as cloud,
        running_edge(subject.bundle_name, subject.folder, cloud.address) as edge,
    ):
        aim = Aim(Target.EDGE, edge.address, files[ENCODINGS[0]])
        found.add(_OURS_BOTH, run_load(aim, _pace(subject, 2), edge.tree.joined(cloud.tree)))
    tables = (_table(found.rounds), _accuracies(subject))
    notes = (_note(subject, files), *found.remarks)
    return Part("peers", _claims(found.rounds), tables, notes)


def _one_round(subject: Subject, files: Files, found: _Found, *, first: bool) -> None:
    batch, threads = daemon_default("cloud_node", "max_batch"), usable_cores()
    name, folder = subject.bundle_name, subject.folder
    ours = {_OURS: "auto"}
    if TAIL_ONNX in subject.bundle.manifest.files:
        ours[_OURS_FLOAT32] = "float32"
    for key, precision in ours.items():
        with running_cloud(name, folder, "--precision", precision) as cloud:
            # Frames of the images that the peers get, and of no others.
            aim = replace(cloud_aim(subject, cloud.address), payloads=subject.frames[:_IMAGES])
            found.add(key, run_load(aim, _pace(subject, batch), cloud.tree))
    for size in (batch, 1):
        peers: tuple[tuple[str, Target, AbstractContextManager[Server]], ...] = (
            (_LITSERVE, Target.HTTP, running_litserve(name, folder, batch=size, threads=threads)),
            (_GRPC, Target.UNARY, running_plain_grpc(name, folder, batch=size, threads=threads)),
        )
        for peer, target, starting in peers:
            with starting as server:
                for encoding in _encodings(every=first and size > 1):
                    media = _MEDIA[encoding.pillow_format]
                    aim = Aim(target, server.address, files[encoding], content_type=media)
                    report = run_load(aim, _pace(subject, size), server.tree)
                    how = "batches" if size > 1 else "one by one"
                    found.add(f"{peer}, {encoding.name}, {how}", report)


def _encodings(*, every: bool) -> tuple[Encoding, ...]:
    """Every one, or PNG and JPEG alone: bytes do not change with batches or from round to round."""
    return tuple(each for each in ENCODINGS if every or each.name in (_PNG, _JPEG))


def _pace(subject: Subject, batch: int) -> Pace:
    """So many in flight that one full batch is computed and two more wait."""
    in_flight = max(2, -(-3 * batch // EDGES))
    seconds = 1.5 if subject.quick else 3.0
    return Pace(seconds=seconds, edges=EDGES, in_flight=in_flight, warm_s=1.0)


def _up(served: _Served) -> float:
    return served.up


def _wire(served: _Served) -> float:
    return served.wire


def _claims(found: Rounds) -> tuple[Claim, ...]:
    ours = found[_OURS]
    claims = []
    for way, says, ending in (
        (_up, "from the device to the server", "up"),
        (_wire, "both ways, answers included", "both"),
    ):
        for encoding, name, wanted in _WANTED:
            sizes = {
                key: [way(served) for served in rounds]
                for key, rounds in found.items()
                if f", {encoding}, " in key
            }
            # One that could not be measured is chosen, so that the claim says so.
            fewest = min(sizes, key=lambda key: _or(-math.inf, spread(sizes[key]).median))
            claims.append(
                claim(
                    f"peers.bytes_{name}_{ending}",
                    f"bytes on the wire an image, {says}: {encoding} over ours",
                    Bound.AT_LEAST,
                    wanted,
                    unit="bytes an image",
                    values=sizes[fewest],
                    references=[way(served) for served in ours[: len(sizes[fewest])]],
                    reference_is=f"ours; the value is of the peer with fewest bytes: {fewest}",
                )
            )
    rates = {
        key: [served.per_core for served in rounds]
        for key, rounds in found.items()
        if key.startswith(f"{_LITSERVE}, {_JPEG}, ")
    }
    best = max(rates, key=lambda key: _or(math.inf, spread(rates[key]).median))
    claims.append(
        claim(
            "peers.rate_per_core",
            "images/s per cloud core: ours over LitServe's with JPEG",
            Bound.AT_LEAST,
            2.0,
            unit="images/s per core",
            values=[served.per_core for served in ours],
            references=rates[best],
            reference_is=f"the better of LitServe with and without batches: {best}",
        )
    )
    return tuple(claims)


def _or(otherwise: float, value: float) -> float:
    return otherwise if math.isnan(value) else value


def _table(found: Rounds) -> Table:
    ours = spread([served.wire for served in found[_OURS]]).median
    rows = []
    for key, served in found.items():
        rate, cores = spread([s.rate for s in served]), spread([s.cores for s in served])
        per_core = spread([s.per_core for s in served])
        up, down = spread([s.up for s in served]).median, spread([s.down for s in served]).median
        figures = (round(rate.median, 1), round(cores.median, 2), round(per_core.median, 1))
        rows.append(
            (key, *figures, round(up, 1), round(down, 1), round(ratios([up + down], [ours])[0], 2))
        )
    columns = ("server, image file", "images/s", "server cores", "images/s per core")
    note = "server cores: CPU time of the server's whole process tree over the measured time"
    wire = ("bytes up", "bytes down", "both / ours")
    return Table("peers", "What a user would pick instead", (*columns, *wire), tuple(rows), note)


def _accuracies(subject: Subject) -> Table:
    measured = subject.bundle.manifest.measured
    rows: tuple[tuple[str, float | None], ...] = (
        ("cut network (ours), float32 tail", measured.top1 if measured else None),
        ("cut network (ours), int8 tail", measured.int8_tail_top1 if measured else None),
        ("un-cut network (peers)", measured.uncut_top1 if measured else None),
    )
    note = f"from the bundle's manifest: {measured.data}, {measured.split}" if measured else ""
    return Table("accuracy", "Accuracy, top-1 %", ("network", "top-1 %"), rows, note)


def _note(subject: Subject, files: Files) -> str:
    jpegs = next(files[encoding] for encoding in files if encoding.name == _JPEG)
    before = [float(data.index(_START_OF_SCAN)) for data in jpegs]
    whole = [float(len(data)) for data in jpegs]
    return (
        f"The peers run the un-cut ResNet-18 with random weights on {usable_cores()} threads, as "
        "cloud-node does, in float32 as torch has them; ours is on 8-bit integers where the bundle "
        "has such a tail (float32 in its own row); accuracies are the manifest's. Bytes are of "
        f"{len(jpegs)} of {subject.images.source}, {subject.bundle.manifest.architecture.side} "
        f"pixels square: of the {fixed(spread(whole).median, 0)} bytes of such a {_JPEG} file "
        f"{fixed(spread(before).median, 0)} come before the image's own (headers and tables; "
        "medians). WebP has no such tables and is the peer to beat on bytes."
    )
