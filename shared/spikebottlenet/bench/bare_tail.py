"""The tail alone on full batches, with all cores: the limit of what a cloud can serve."""

import threading
import time
from typing import NamedTuple

import numpy as np

from spikebottlenet.bench.machine import usable_cores
from spikebottlenet.bench.subject import Subject
from spikebottlenet.runtime.tail_engine import Precision, load_tail

_Spikes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


class Fullest(NamedTuple):
    """What full batches give, arranged in two ways."""

    one_by_one: float  # images/s, each batch on all cores
    side_by_side: float  # images/s, a batch on each core

    @property
    def best(self) -> float:
        """Images/s of the better arrangement."""
        return max(self)


class BareTail:
    """The engine that cloud-node has with such a precision, called in a loop."""

    def __init__(self, subject: Subject, precision: Precision = Precision.AUTO) -> None:
        bundle = subject.bundle
        self._spikes = subject.spikes
        self._cores = usable_cores()
        self._tail = load_tail(bundle, device="cpu", precision=precision, threads=self._cores)

    def batch_s(self, size: int, *, seconds: float) -> float:
        """Seconds that a batch of this size takes on all cores, over about so many seconds."""
        return size / self._images_s(size, lanes=1, threads=self._cores, seconds=seconds)

    def fullest(self, size: int, *, seconds: float) -> Fullest:
        """Images/s of batches of this size, over about so many seconds."""
        return Fullest(
            self._images_s(size, lanes=1, threads=self._cores, seconds=seconds / 2),
            self._images_s(size, lanes=self._cores, threads=1, seconds=seconds / 2),
        )

    def _images_s(self, size: int, *, lanes: int, threads: int, seconds: float) -> float:
        """Images/s of so many batches at once, each on so many threads, two each at least."""
        batches = self._batches(size)
        ready = threading.Barrier(lanes + 1)
        done = [0] * lanes

        def run(lane: int) -> None:
            self._tail.classify(batches[0], threads=threads)
            ready.wait()
            ends = time.perf_counter() + seconds
            while time.perf_counter() < ends or done[lane] < 2:
                self._tail.classify(batches[done[lane] % len(batches)], threads=threads)
                done[lane] += 1

        running = [threading.Thread(target=run, args=(lane,)) for lane in range(lanes)]
        for thread in running:
            thread.start()
        ready.wait()
        started = time.perf_counter()
        for thread in running:
            thread.join()
        took = time.perf_counter() - started
        return size * sum(done) / took

    def _batches(self, size: int) -> list[_Spikes]:
        """Some batches [T, B, C, H, W] of recorded spikes."""
        random = np.random.default_rng(0)
        picks = [random.integers(0, len(self._spikes), size) for _ in range(4)]
        return [np.ascontiguousarray(self._spikes[pick].swapaxes(0, 1)) for pick in picks]
