"""A profile made: both sides' parts, then real processes."""

from typing import NamedTuple

import numpy as np

from spikebottlenet.accounting.operations import ann_head_macs
from spikebottlenet.bench.images import ENCODINGS, image_file
from spikebottlenet.bench.machine import usable_cores
from spikebottlenet.bench.subject import daemon_default, prepared
from spikebottlenet.model.architecture import STAGES, Architecture
from spikebottlenet.plan.cloud_side import measure_cloud
from spikebottlenet.plan.edge_side import measure_edge
from spikebottlenet.plan.loopback import measure_loopback
from spikebottlenet.plan.profile import Profile

_IMAGES, _QUICK_IMAGES = 100, 32
_ROUNDS, _QUICK_ROUNDS = 11, 3
_REQUESTS, _QUICK_REQUESTS = 100, 8


class Wanted(NamedTuple):
    """What is to be measured."""

    bundle: str = "default"
    data: str | None = None  # a data set's test split; None: pieces of photos
    image: bytes | None = None  # the file that preprocess reads; None: a PNG of the network's size
    image_is: str = ""
    edge: bool = True
    cloud: bool = True
    edge_threads: int = 0  # 0: edge-node's default
    cloud_threads: int = 0  # 0: one a core
    quick: bool = False


def measure_profile(wanted: Wanted) -> Profile:
    """Time both sides' parts in turns and, where both are wanted, the daemons over loopback."""
    quick = wanted.quick
    rounds = _QUICK_ROUNDS if quick else _ROUNDS
    edge_threads = wanted.edge_threads or daemon_default("edge_node", "threads")
    cloud_threads = wanted.cloud_threads or usable_cores()
    count = _QUICK_IMAGES if quick else _IMAGES
    with prepared(wanted.bundle, wanted.data, count=count, quick=quick) as subject:
        architecture = subject.bundle.manifest.architecture
        files = [image_file(each, ENCODINGS[0]) for each in subject.images.pixels]
        if wanted.image is not None:
            files = [wanted.image]
        file_is = wanted.image_is or f"PNG, {architecture.side} x {architecture.side}"
        edge = cloud = loopback = None
        if wanted.edge:
            edge = measure_edge(subject, files, file_is, threads=edge_threads, rounds=rounds)
        if wanted.cloud:
            batch = daemon_default("cloud_node", "max_batch")
            cloud = measure_cloud(subject, threads=cloud_threads, batch=batch, rounds=rounds)
        if wanted.edge and wanted.cloud:
            loopback = measure_loopback(
                subject,
                files,
                images=_QUICK_REQUESTS if quick else _REQUESTS,
                edge_threads=edge_threads,
                cloud_threads=cloud_threads,
            )
        return Profile(
            bundle=subject.bundle.model,
            fingerprint=subject.bundle.fingerprint,
            architecture=architecture,
            images=subject.images.source,
            frame_bytes=float(np.mean([len(frame) for frame in subject.frames])),
            macs_uncut=uncut_macs(architecture),
            edge=edge,
            cloud=cloud,
            loopback=loopback,
        )


def uncut_macs(architecture: Architecture) -> int:
    """Multiply-accumulates of the un-cut network, classifier included."""
    whole = architecture.cut_after(STAGES)
    return ann_head_macs(whole) + whole.cut_channels * architecture.classes
