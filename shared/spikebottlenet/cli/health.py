"""``spikebottlenet health``: asks a daemon's gRPC health service, for container health checks."""

import asyncio
import sys
from typing import Annotated

import grpc.aio
import typer
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from spikebottlenet.cli.access import Ca, Cert, Key, channel_security
from spikebottlenet.errors import SpikeBottleNetError
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.refusal import error_from_call
from spikebottlenet.rpc.security import ChannelSecurity

_ANSWER_BYTES = 4096


def health(
    address: Annotated[str, typer.Argument(help="host:port of an edge-node or a cloud-node")],
    service: Annotated[
        str, typer.Option(help="gRPC service to ask for; '' for the whole daemon")
    ] = "",
    timeout_s: Annotated[float, typer.Option(min=0.1, help="seconds to wait for the answer")] = 3.0,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Ask whether a daemon takes requests: prints its state, exits 0 for SERVING and 1 otherwise.

    It needs no token, as the health service asks for none; mutual TLS needs --cert and --key.
    """
    security = channel_security(ca, cert, key, None, insecure=False)
    try:
        state = asyncio.run(_state(address, service, timeout_s, security))
    except SpikeBottleNetError as error:
        print(f"spikebottlenet: {address}: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(HealthCheckResponse.ServingStatus.Name(state))
    if state != HealthCheckResponse.SERVING:
        raise typer.Exit(1)


async def _state(
    address: str, service: str, timeout_s: float, security: ChannelSecurity
) -> "HealthCheckResponse.ServingStatus":
    async with make_channel(address, max_message_bytes=_ANSWER_BYTES, security=security) as channel:
        try:
            request = HealthCheckRequest(service=service)
            answer = await HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as failed:
            raise error_from_call(failed) from failed
    return answer.status  # type: ignore[no-any-return]
