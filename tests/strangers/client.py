"""A good client in a process of its own, whose latency tells what the strangers cost the daemon."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np

from spikebottlenet.bundle import Half, default_bundle, open_bundle
from spikebottlenet.rpc.security import ChannelSecurity, call_metadata
from spikebottlenet.rpc.v1.coinference_pb2 import InferRequest, Open, StreamRequest
from tests.door import asking
from tests.strangers.daemon import Guarded

_FILES = ("ca", "cert", "key", "token_file")


class GoodClient:
    """Has the other process send one image after another on one connection.

    By turns on a stream that is open already, as edges do, and by a call of its own (Infer).
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.asked = 0
        self.failed: list[str] = []

    async def latencies_ms(self, *, seconds: float) -> dict[str, list[float]]:
        """Of the answers that come within ``seconds``, by way; what fails is counted apart."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n".encode())
        found = json.loads(await self._process.stdout.readline())
        self.failed += found["failed"]
        self.asked += len(found["failed"]) + sum(map(len, found["times"].values()))
        return dict(found["times"])


@asynccontextmanager
async def good_client(cloud: Guarded) -> AsyncIterator[GoodClient]:
    """A warm client of a guarded daemon."""
    files = [str(getattr(cloud.good, name) or "") for name in _FILES]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.strangers.client", str(cloud.port), *files),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    try:
        client = GoodClient(process)
        await client.latencies_ms(seconds=1.0)
        yield client
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def image_request() -> InferRequest:
    """One image's spikes, the same each time."""
    bundle = open_bundle(default_bundle(), Half.CLOUD)
    shape = bundle.manifest.architecture.spike_shape
    spikes = (np.random.default_rng(0).random(tuple(shape)) < 0.3).astype(np.uint8)
    frame = bundle.codec().encode_spikes(spikes)
    return InferRequest(fingerprint=bytes.fromhex(bundle.fingerprint), frames=[frame])


class _Edge:
    """Asks on one stream, open from the start, as an edge-node does."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._sequence = 0

    async def open(self, request: InferRequest) -> None:
        opening = Open(fingerprint=request.fingerprint, stream_id=os.urandom(16))
        await self._call.write(StreamRequest(open=opening))
        await self._call.read()

    async def ask(self, request: InferRequest) -> None:
        self._sequence += 1
        await self._call.write(StreamRequest(sequence=self._sequence, frame=request.frames[0]))
        reply = await self._call.read()
        assert reply.prediction.sequence == self._sequence


async def _send(port: int, security: ChannelSecurity) -> None:
    """For each line of standard input, so many seconds of requests; a line of times back."""
    metadata, request = call_metadata(security), image_request()
    async with asking(port, security) as stub:
        edge = _Edge(stub.Stream(metadata=metadata))
        await edge.open(request)
        ways = {
            "stream": lambda: edge.ask(request),
            "call": lambda: stub.Infer(request, metadata=metadata, timeout=10),
        }
        while line := await asyncio.to_thread(sys.stdin.readline):
            times, failed = {way: [] for way in ways}, []
            end = time.perf_counter() + float(line)
            while time.perf_counter() < end:
                for way, ask in ways.items():
                    started = time.perf_counter()
                    try:
                        await ask()
                    except grpc.aio.AioRpcError as error:
                        failed.append(error.code().name)
                        continue
                    times[way].append(1e3 * (time.perf_counter() - started))
            print(json.dumps({"times": times, "failed": failed}), flush=True)


def _main(port: str, *files: str) -> None:
    paths = {name: Path(file) if file else None for name, file in zip(_FILES, files, strict=True)}
    asyncio.run(_send(int(port), ChannelSecurity(**paths)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
