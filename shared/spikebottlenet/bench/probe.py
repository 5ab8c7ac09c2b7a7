"""Waiting for a daemon to say that it serves."""

import asyncio
import time

import grpc
import grpc.aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from spikebottlenet.errors import UnavailableError
from spikebottlenet.rpc.channel import make_channel

_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.005
_MAX_REPLY_BYTES = 64 * 1024


def await_serving(address: str) -> None:
    """Return once a daemon's health service says SERVING.

    Raises:
        UnavailableError: it does not within half a minute.
    """
    asyncio.run(_await_serving(address))


async def _await_serving(address: str) -> None:
    give_up = time.monotonic() + _WITHIN_S
    async with make_channel(address, max_message_bytes=_MAX_REPLY_BYTES) as channel:
        stub = HealthStub(channel)
        while time.monotonic() < give_up:
            try:
                reply = await stub.Check(HealthCheckRequest(service=""), timeout=_WITHIN_S)
            except grpc.aio.AioRpcError:
                reply = None
            if reply is not None and reply.status == HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(_LOOK_EVERY_S)
    raise UnavailableError(f"{address} did not become healthy within {_WITHIN_S:.0f} s")
