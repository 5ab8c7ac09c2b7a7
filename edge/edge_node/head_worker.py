"""From an image file to a frame, in the one worker thread."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from edge_node.settings import EdgeSettings
from spikebottlenet.bundle import EXIT_WEIGHTS, HEAD_ONNX, Bundle
from spikebottlenet.errors import OverloadedError
from spikebottlenet.preprocess import read_image
from spikebottlenet.runtime.edge_exit import EdgeExit
from spikebottlenet.runtime.onnx_head import OnnxHead, Spikes
from spikebottlenet.runtime.scores import Probabilities


@dataclass(frozen=True)
class EncodedImage:
    """What the head made of an image, and what that took."""

    frame: bytes
    spikes: Spikes  # [T, 1, C, H, W]
    macs: int
    accumulates: int
    preprocess_ms: float
    head_ms: float
    encode_ms: float


class HeadWorker:
    """Preprocessing, head, codec and edge exit of one bundle."""

    def __init__(self, bundle: Bundle, settings: EdgeSettings) -> None:
        manifest = bundle.manifest
        self._settings = settings
        self._wanted = manifest.preprocess
        self._codec = bundle.codec()
        self._head = OnnxHead(
            bundle.path(HEAD_ONNX), manifest.architecture, threads=settings.threads
        )
        self._exit = EdgeExit.load(bundle.path(EXIT_WEIGHTS))
        self._waiting = 0
        self._thread: ThreadPoolExecutor | None = None

    @contextmanager
    def running(self) -> Iterator["HeadWorker"]:
        """Have the thread until the block ends."""
        with ThreadPoolExecutor(1, thread_name_prefix="head") as thread:
            self._thread = thread
            yield self

    async def encode(self, image: bytes) -> EncodedImage:
        """Run an image file through the head.

        Raises:
            ImageError, TooLargeError: not an image that can be used.
            OverloadedError: too many wait already.
        """
        if self._waiting >= self._settings.max_waiting:
            raise OverloadedError(
                f"{self._waiting} images wait for the head already: try again later, or raise "
                "max_waiting"
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._encode, image)
        finally:
            self._waiting -= 1

    async def exit_probabilities(self, encoded: EncodedImage) -> Probabilities:
        """The edge exit's probabilities [classes]."""
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._thread, self._exit.classify, encoded.spikes)
        return np.asarray(rows[0])

    def _encode(self, image: bytes) -> EncodedImage:
        started = time.perf_counter()
        limit = self._settings.max_image_pixels
        pixels = read_image(image, self._wanted, max_image_pixels=limit)
        prepared = time.perf_counter()
        result = self._head.run(pixels[None])
        ran = time.perf_counter()
        frame = self._codec.encode_spikes(result.spikes[:, 0], scheme=self._settings.scheme)
        encoded = time.perf_counter()
        return EncodedImage(
            frame=frame,
            spikes=result.spikes,
            macs=result.macs,
            accumulates=int(result.accumulates[0]),
            preprocess_ms=1e3 * (prepared - started),
            head_ms=1e3 * (ran - prepared),
            encode_ms=1e3 * (encoded - ran),
        )
