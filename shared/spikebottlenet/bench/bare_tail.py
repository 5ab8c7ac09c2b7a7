"""The tail alone on full batches, with all cores: the limit of what a cloud can serve."""

import time

import numpy as np
import torch

from spikebottlenet.bench.machine import usable_cores
from spikebottlenet.bench.subject import Subject
from spikebottlenet.bundle import TAIL_WEIGHTS
from spikebottlenet.runtime.torch_tail import TorchTail


class BareTail:
    """The engine that cloud-node has, called in a loop."""

    def __init__(self, subject: Subject) -> None:
        bundle = subject.bundle
        self._spikes = subject.spikes
        self._threads = usable_cores()
        self._tail = TorchTail(
            bundle.path(TAIL_WEIGHTS), bundle.manifest.architecture, device="cpu"
        )

    def batch_s(self, size: int, *, seconds: float) -> float:
        """Seconds a batch of this size takes, over about so many seconds."""
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            batches = self._batches(size)
            self._tail.classify(batches[0])
            count, started = 0, time.perf_counter()
            while (took := time.perf_counter() - started) < seconds or count < 2:
                self._tail.classify(batches[count % len(batches)])
                count += 1
            return took / max(1, count) if count else took
        finally:
            torch.set_num_threads(before)

    def _batches(self, size: int) -> list["np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"]:
        """Some batches [T, B, C, H, W] of recorded spikes."""
        random = np.random.default_rng(0)
        picks = [random.integers(0, len(self._spikes), size) for _ in range(4)]
        return [np.ascontiguousarray(self._spikes[pick].swapaxes(0, 1)) for pick in picks]
