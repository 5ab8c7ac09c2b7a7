"""A good client, whose latency tells what the strangers cost."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import numpy as np

from spikebottlenet.bundle import Half, default_bundle, open_bundle
from spikebottlenet.rpc.security import call_metadata
from spikebottlenet.rpc.v1.coinference_pb2 import InferRequest
from tests.door import asking
from tests.strangers.daemon import Guarded


class GoodClient:
    """Sends one image after another on one connection."""

    def __init__(self, stub, metadata, request: InferRequest) -> None:
        self._stub = stub
        self._metadata = metadata
        self._request = request
        self.asked = 0
        self.failed: list[str] = []

    async def latencies_ms(self, *, seconds: float) -> list[float]:
        """Of the answers that come within ``seconds``; calls that fail are counted apart."""
        times = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.asked += 1
            started = time.perf_counter()
            try:
                await self._stub.Infer(self._request, metadata=self._metadata, timeout=10)
            except grpc.aio.AioRpcError as error:
                self.failed.append(error.code().name)
                continue
            times.append(1e3 * (time.perf_counter() - started))
        return times


@asynccontextmanager
async def good_client(cloud: Guarded) -> AsyncIterator[GoodClient]:
    async with asking(cloud.port, cloud.good) as stub:
        client = GoodClient(stub, call_metadata(cloud.good), image_request())
        await client.latencies_ms(seconds=1.0)  # warm
        yield client


def image_request() -> InferRequest:
    """One image's spikes, the same each time."""
    bundle = open_bundle(default_bundle(), Half.CLOUD)
    shape = bundle.manifest.architecture.spike_shape
    spikes = (np.random.default_rng(0).random(tuple(shape)) < 0.3).astype(np.uint8)
    frame = bundle.codec().encode_spikes(spikes)
    return InferRequest(fingerprint=bytes.fromhex(bundle.fingerprint), frames=[frame])
