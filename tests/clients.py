"""Clients of running daemons, and what is asked of every daemon."""

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from spikebottlenet.bundle import Bundle
from spikebottlenet.cli.daemons import Daemon
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.checks import with_check
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Open,
    StreamRequest,
    StreamResponse,
)
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub

ANSWER_WITHIN_S = 60
STREAM = bytes(range(16))


def channel(daemon: Daemon) -> grpc.aio.Channel:
    return make_channel(daemon.address, max_message_bytes=32 * 1024 * 1024)


def opening(bundle: Bundle, stream_id: bytes = STREAM) -> StreamRequest:
    fingerprint = bytes.fromhex(bundle.fingerprint)
    return StreamRequest(open=Open(fingerprint=fingerprint, stream_id=stream_id))


def opened(bundle: Bundle, **wanted: object) -> StreamRequest:
    fingerprint = bytes.fromhex(bundle.fingerprint)
    message = Open(fingerprint=fingerprint, stream_id=STREAM, checked=True, **wanted)
    return StreamRequest(open=with_check(message, STREAM))


async def converse(daemon: Daemon, requests: list[StreamRequest]) -> list[StreamResponse]:
    async with channel(daemon) as line:
        call = CoInferenceStub(line).Stream(iter_requests(requests))
        return [response async for response in call]


async def iter_requests(requests: list[StreamRequest]):
    for request in requests:
        yield request


async def serves(daemon: Daemon, service: str) -> bool:
    async with channel(daemon) as line:
        request = health_pb2.HealthCheckRequest(service=service)
        reply = await health_pb2_grpc.HealthStub(line).Check(request)
    return reply.status == health_pb2.HealthCheckResponse.SERVING


async def code_of(call) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        _ = [reply async for reply in call]
    return refused.value.code()


def no_traceback(*daemons: Daemon) -> None:
    for daemon in daemons:
        assert "Traceback" not in daemon.log.read_text()
