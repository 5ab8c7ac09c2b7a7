"""The cloud's parts, timed in turns: tails behind every cut, codec, the un-cut network."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle

import numpy as np
import torch

from spikebottlenet.accounting.operations import tail_macs
from spikebottlenet.bench.machine import machine_facts
from spikebottlenet.bench.measuring import in_turns, timed
from spikebottlenet.bench.subject import Subject
from spikebottlenet.plan.networks import cut_architectures, load_cut_tail, random_spikes
from spikebottlenet.plan.profile import CloudSide, Ms, StageTime, TailCost
from spikebottlenet.plan.uncut import PARTS, WHOLE, input_shape, on_torch, uncut_network

Work = Callable[[], object]

_BATCH_NAME = "whole, batch"


def measure_cloud(subject: Subject, *, threads: int, batch: int, rounds: int) -> CloudSide:
    """Time every part on so many threads, in a thread of its own as in cloud-node.

    (In the main thread GNU OpenMP's workers spin while they wait, and any other process on the same
    cores then costs ten times the time.)
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with ThreadPoolExecutor(1) as worker:
            return worker.submit(
                _measure, subject, threads=threads, batch=batch, rounds=rounds
            ).result()
    finally:
        torch.set_num_threads(before)


def _measure(subject: Subject, *, threads: int, batch: int, rounds: int) -> CloudSide:
    bundle = subject.bundle
    own, codec = bundle.manifest.architecture, bundle.codec()
    rate = float(subject.spikes.mean())
    at = cycle(range(len(subject.frames)))
    cuts = cut_architectures(own)
    work: dict[str, Work] = {"decode": lambda: codec.decode_spikes(subject.frames[next(at)])}
    for cut in cuts:
        tail = load_cut_tail(bundle, cut, subject.folder, threads=threads)
        for size in (1, batch):
            spikes = random_spikes(cut, rate, size)
            work[f"tail {cut.after_stage}, {size}"] = partial(
                tail.classify, spikes, threads=threads
            )
    work |= _uncut(subject, batch)
    measured = in_turns(rounds, *(timed(each) for each in work.values()), warm=2)
    took = dict(zip(work, map(Ms.of_seconds, measured), strict=True))
    return CloudSide(
        machine=machine_facts(),
        threads=threads,
        batch=batch,
        decode=took["decode"],
        tails=tuple(
            TailCost(
                after_stage=cut.after_stage,
                weights="bundle" if cut == own else "random",
                time=took[f"tail {cut.after_stage}, 1"],
                batch_time=took[f"tail {cut.after_stage}, {batch}"],
                macs=tail_macs(cut, cut.timesteps),
            )
            for cut in cuts
        ),
        uncut_stages=tuple(StageTime(name=part.name, time=took[part.name]) for part in PARTS),
        uncut=took[WHOLE.name],
        uncut_batch=took[_BATCH_NAME],
    )


def _uncut(subject: Subject, batch: int) -> dict[str, Work]:
    """The un-cut network on torch, in parts, whole, and whole with a batch."""
    architecture = subject.bundle.manifest.architecture
    network = uncut_network(architecture)
    work: dict[str, Work] = {}
    for part, size in (*((part, 1) for part in (*PARTS, WHOLE)), (WHOLE, batch)):
        shape = (size, *input_shape(architecture, part))
        image = torch.from_numpy(np.random.default_rng(0).random(shape, dtype=np.float32))
        image = image.contiguous(memory_format=torch.channels_last)
        name = part.name if size == 1 else _BATCH_NAME
        work[name] = partial(_infer, on_torch(network, part), image)
    return work


def _infer(run: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return run(image)
