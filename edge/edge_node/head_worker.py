"""From an image file to a frame, in two worker threads, whichever model.

One image's head runs while the next file is decoded: an image goes through both stages in one
thread, and each stage has one image at a time.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from edge_node.settings import EdgeSettings
from spikebottlenet.bundle import EXIT_WEIGHTS, HEAD_ONNX, Bundle
from spikebottlenet.errors import DeadlineError, OverloadedError, TooLargeError
from spikebottlenet.preprocess import Pixels, read_input
from spikebottlenet.runtime.edge_exit import EdgeExit
from spikebottlenet.runtime.onnx_head import OnnxHead, Spikes
from spikebottlenet.runtime.scores import Probabilities

_FIRST_GUESS_S = 0.03  # above what the event loop waits for: a slow head is not tried there first
_SMOOTHED_OVER = 16  # images
_LOOK_EVERY_S = 0.1
_STAGES = 2

# What may run on the event loop, where nothing else is to be done meanwhile.
_ON_LOOP_S = 0.025
_ON_LOOP_BYTES = 32 * 1024
_ON_LOOP_PIXELS = 256 * 256


class EncodedImage(NamedTuple):
    """What the head made of an image, and what that took."""

    frame: bytes
    spikes: Spikes  # [T, 1, C, H, W]
    pixels: Pixels  # that the head took, uint8 [side, side, samples]
    macs: int
    accumulates: int
    preprocess_ms: float
    head_ms: float
    encode_ms: float
    began: "Began"


class Began(NamedTuple):
    """When each stage began, monotonic seconds."""

    preprocess: float
    head: float
    encode: float


@dataclass(frozen=True)
class Turns:
    """Who decodes and whose head runs: one image at a time, of all models."""

    decoding: threading.Lock = field(default_factory=threading.Lock)
    running: threading.Lock = field(default_factory=threading.Lock)


class Head:
    """Preprocessing, head, codec and edge exit of one bundle."""

    def __init__(self, bundle: Bundle, settings: EdgeSettings, turns: Turns) -> None:
        manifest = bundle.manifest
        self._settings = settings
        self._turns = turns
        self._wanted = manifest.preprocess
        self._codec = bundle.codec()
        self._head = OnnxHead(
            bundle.path(HEAD_ONNX), manifest.architecture, threads=settings.threads
        )
        self._exit = EdgeExit.load(bundle.path(EXIT_WEIGHTS))
        self._head.warm_up()

    def exit_probabilities(
        self, encoded: EncodedImage, *, timesteps: int | None = None
    ) -> Probabilities:
        """The edge exit's probabilities [classes]: two small layers, well under a millisecond.

        From the first ``timesteps`` alone if that is given.
        """
        return np.asarray(self._exit.classify(encoded.spikes[:timesteps])[0])

    @property
    def takes_pictures(self) -> bool:
        """Whether its input is image files, and not recordings."""
        return self._wanted.events is None

    def encode(self, image: bytes, *, max_image_pixels: int | None = None) -> EncodedImage:
        """Run an image file through the head.

        Raises:
            ImageError, TooLargeError: not an image that can be used.
        """
        limit = self._settings.max_image_pixels
        if max_image_pixels is not None:
            limit = min(limit, max_image_pixels)
        with self._turns.decoding:
            started = time.monotonic()
            pixels = read_input(image, self._wanted, max_image_pixels=limit)
            prepared = time.monotonic()
        with self._turns.running:
            began = time.monotonic()
            result = self._head.run(pixels[None])
            ran = time.monotonic()
        frame = self._codec.encode_spikes(result.spikes[:, 0], scheme=self._settings.scheme)
        encoded = time.monotonic()
        return EncodedImage(
            frame=frame,
            spikes=result.spikes,
            pixels=pixels,
            macs=result.macs,
            accumulates=int(result.accumulates[0]),
            preprocess_ms=1e3 * (prepared - started),
            head_ms=1e3 * (ran - began),
            encode_ms=1e3 * (encoded - ran),
            began=Began(started, began, ran),
        )


class HeadWorker:
    """A bounded queue before the heads."""

    def __init__(self, *, max_waiting: int, max_waiting_bytes: int) -> None:
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting = 0
        self._waiting_bytes = 0
        self._image_s = _FIRST_GUESS_S  # of late
        self._thread: ThreadPoolExecutor | None = None
        self._done = 0  # images, by the threads
        self.expired = 0  # dropped before they were computed
        self.inferences = 0  # images that the heads have run

    @property
    def waiting(self) -> int:
        """Images that wait for a head or are in it."""
        return self._waiting

    @contextmanager
    def running(self) -> Iterator["HeadWorker"]:
        """Have the threads until the block ends."""
        with ThreadPoolExecutor(_STAGES, thread_name_prefix="head") as thread:
            self._thread = thread
            yield self

    async def alive(self) -> None:
        """Return once a thread has had a turn, or has done something meanwhile."""
        done = self._done
        turn = asyncio.get_running_loop().run_in_executor(self._thread, int)
        try:
            while not turn.done() and self._done == done:
                await asyncio.wait({turn}, timeout=_LOOK_EVERY_S)
        finally:
            turn.cancel()

    async def encode(
        self, head: Head, image: bytes, *, deadline: float, alone: bool = False
    ) -> EncodedImage:
        """Run an image file through a head; ``deadline`` is in monotonic seconds.

        A small image that is ``alone``, no other being under way, is run here and now if a head is
        that fast: to a thread and back are two wake-ups.

        Raises:
            ImageError, TooLargeError: not an image that can be used.
            OverloadedError: too many wait already.
            DeadlineError: its turn came after ``deadline``.
        """
        if self._waiting >= self._max_waiting:
            raise OverloadedError(
                f"{self._waiting} images wait for the head already: try again later, or raise "
                "max_waiting",
                retry_after_s=self._image_s * self._waiting / (2 * _STAGES),
            )
        if self._waiting and self._waiting_bytes + len(image) > self._max_waiting_bytes:
            raise OverloadedError(
                f"{self._waiting_bytes} bytes of images wait for the head already: try again "
                "later, or raise max_waiting_bytes",
                retry_after_s=self._image_s * self._waiting / (2 * _STAGES),
            )
        if alone and time.monotonic() < deadline and self._soon_done(head, image):
            try:
                encoded = self._encode(head, image, deadline, _ON_LOOP_PIXELS)
            except TooLargeError:
                pass  # for here
            else:
                self.inferences += 1
                return encoded
        self._waiting += 1
        self._waiting_bytes += len(image)
        try:
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._thread, self._encode, head, image, deadline)
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                encoded = await work
            self.inferences += 1
            return encoded
        except TimeoutError:
            self.expired += 1
            raise DeadlineError(
                f"{self._waiting} images wait for the head, and the deadline passed before this "
                "one's turn: send fewer, or give it more time"
            ) from None
        finally:
            self._waiting -= 1
            self._waiting_bytes -= len(image)

    def _soon_done(self, head: Head, image: bytes) -> bool:
        """Whether the event loop can wait for it."""
        return (
            not self._waiting
            and self._image_s <= _ON_LOOP_S
            and len(image) <= _ON_LOOP_BYTES
            and head.takes_pictures
        )

    def _encode(
        self, head: Head, image: bytes, deadline: float, max_image_pixels: int | None = None
    ) -> EncodedImage:
        started = time.monotonic()
        if started > deadline:  # nobody waits for it any more
            raise DeadlineError("the deadline passed before the head's turn")
        try:
            encoded = head.encode(image, max_image_pixels=max_image_pixels)
        finally:
            self._done += 1
        self._image_s += (time.monotonic() - started - self._image_s) / _SMOOTHED_OVER
        return encoded
