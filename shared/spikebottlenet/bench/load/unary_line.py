"""A client of a plain gRPC server: one call an image file, bytes in and bytes out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from spikebottlenet.bench.load.plan import Aim
from spikebottlenet.rpc.channel import MAX_IMAGE_BYTES, make_channel
from spikebottlenet.rpc.security import call_metadata

METHOD = "/bench.Peer/Call"  # of every plain server of the bench


class UnaryLine:
    """A channel; calls run side by side on it."""

    def __init__(self, call: Any, aim: Aim) -> None:
        self._call = call
        self._aim = aim

    async def ask(self, index: int) -> int:
        """Send payload ``index``; the status code of its answer."""
        payload = self._aim.payloads[index % len(self._aim.payloads)]
        try:
            await self._call(payload, metadata=call_metadata(self._aim.security))
        except grpc.aio.AioRpcError as error:
            return int(error.code().value[0])
        return 0


@asynccontextmanager
async def unary_line(aim: Aim) -> AsyncIterator[UnaryLine]:
    """Connect; the connection ends with the block."""
    async with make_channel(
        aim.address, max_message_bytes=MAX_IMAGE_BYTES, security=aim.security
    ) as channel:
        await asyncio.wait_for(channel.channel_ready(), 30)
        yield UnaryLine(channel.unary_unary(METHOD), aim)
