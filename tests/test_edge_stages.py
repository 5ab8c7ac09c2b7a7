"""The edge decodes the next file while a head runs, and never runs two heads at once."""

import asyncio
import io
import threading
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_node import head_worker
from edge_node.head_worker import Head, HeadWorker, Turns
from edge_node.settings import EdgeSettings
from spikebottlenet.bundle import Bundle
from spikebottlenet.errors import DeadlineError, ImageError, OverloadedError


async def test_a_file_is_decoded_while_another_ones_head_runs(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = Head(bundle, EdgeSettings(), Turns())
    side = bundle.manifest.preprocess.side
    second_decoded, running = threading.Event(), threading.Lock()
    decoded: list[bytes] = []
    really = head._head.run

    def read(image: bytes, *_: object, **__: object) -> np.ndarray:
        if image == b"bad":
            raise ImageError("no image")
        decoded.append(image)
        if len(decoded) == 2:
            second_decoded.set()
        return np.zeros((side, side, 3), np.uint8)

    def run(pixels: np.ndarray) -> Any:
        assert running.acquire(blocking=False)  # one head at a time
        try:
            assert second_decoded.wait(30)  # while this head has its turn
            return really(pixels)
        finally:
            running.release()

    monkeypatch.setattr(head_worker, "read_input", read)
    monkeypatch.setattr(head._head, "run", run)
    deadline = time.monotonic() + 60
    with HeadWorker(max_waiting=8, max_waiting_bytes=2**30).running() as worker:
        files = (b"one", b"bad", b"two", b"three")
        asked = [worker.encode(head, file, deadline=deadline) for file in files]
        one, bad, two, three = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(bad, ImageError)
    assert one.frame == two.frame == three.frame
    assert sorted(decoded) == [b"one", b"three", b"two"]


async def test_files_that_wait_for_the_head_are_bounded_by_their_bytes(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = Head(bundle, EdgeSettings(), Turns())
    side = bundle.manifest.preprocess.side
    go = threading.Event()

    def read(image: bytes, *_: object, **__: object) -> np.ndarray:
        assert go.wait(30)
        return np.zeros((side, side, 3), np.uint8)

    monkeypatch.setattr(head_worker, "read_input", read)
    deadline = time.monotonic() + 60
    with HeadWorker(max_waiting=8, max_waiting_bytes=10).running() as worker:
        first = asyncio.create_task(worker.encode(head, bytes(25), deadline=deadline))  # alone
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match=r"25 bytes.*max_waiting_bytes"):
            await worker.encode(head, bytes(1), deadline=deadline)
        go.set()
        await first
        asked = [worker.encode(head, bytes(5), deadline=deadline) for _ in range(2)]
        await asyncio.gather(*asked)  # their bytes are free again


async def test_a_small_lone_image_runs_on_the_loop_where_the_head_is_fast(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, here = Head(bundle, EdgeSettings(), Turns()), threading.current_thread()
    ran_on: list[bool] = []
    really = head._head.run

    def run(pixels: np.ndarray) -> Any:
        ran_on.append(threading.current_thread() is here)
        return really(pixels)

    monkeypatch.setattr(head._head, "run", run)
    small, large = picture(32), picture(300)
    deadline = time.monotonic() + 60
    with HeadWorker(max_waiting=8, max_waiting_bytes=2**30).running() as worker:
        await worker.encode(head, small, deadline=deadline, alone=True)  # may be slow yet
        worker._image_s = 0.001
        frames = [
            (await worker.encode(head, small, deadline=deadline, alone=alone)).frame
            for alone in (True, False)
        ]
        worker._image_s = 0.001
        await worker.encode(head, large, deadline=deadline, alone=True)
        with pytest.raises(ImageError):
            await worker.encode(head, b"no image", deadline=deadline, alone=True)
        with pytest.raises(DeadlineError):
            await worker.encode(head, small, deadline=time.monotonic() - 1, alone=True)
        assert worker.expired == 1
        worker._image_s = 0.1
        await worker.encode(head, small, deadline=deadline, alone=True)
        assert worker.inferences == 5
        assert worker.waiting == 0
    assert frames[0] == frames[1]
    assert ran_on == [False, True, False, False, False]


def picture(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (200, 30, 90)).save(file, "PNG")
    return file.getvalue()
