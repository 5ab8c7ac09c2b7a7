"""A small real server behind the daemons' own door, and certificates for it."""

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio

from spikebottlenet.cli.authority import Signed, issue, new_authority, pem_files
from spikebottlenet.errors import OverloadedError
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.limits import ServerLimits, current_client
from spikebottlenet.rpc.security import (
    PLAINTEXT,
    ChannelSecurity,
    ServerSecurity,
    call_metadata,
)
from spikebottlenet.rpc.server import ServiceCollector, Serving, running_server
from spikebottlenet.rpc.status import code_number, retry_after_ms
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Failure,
    InferRequest,
    ModelPart,
    Prediction,
    StreamResponse,
)
from spikebottlenet.rpc.v1.coinference_pb2_grpc import (
    CoInferenceServicer,
    CoInferenceStub,
    add_CoInferenceServicer_to_server,
)

OPEN = ServerSecurity()
USUAL = ServerLimits()
ANYTHING = InferRequest(frames=[b""])
DAY = datetime.timedelta(days=1)


class Echo(CoInferenceServicer):
    """Answers at once, and says who asked."""

    async def GetModel(self, request, context):  # noqa: N802, the contract's names
        yield ModelPart(manifest_json=current_client().name)

    async def Infer(self, request, context):  # noqa: N802
        return Prediction(sequence=len(request.frames))

    async def Stream(self, requests, context):  # noqa: N802
        async for request in requests:
            try:
                with current_client().request():
                    yield StreamResponse(prediction=Prediction(sequence=request.sequence))
            except OverloadedError as error:
                failure = Failure(code=code_number(error), retry_after_ms=retry_after_ms(error))
                yield StreamResponse(failure=failure)


@asynccontextmanager
async def echo_server(
    security: ServerSecurity = OPEN,
    limits: ServerLimits = USUAL,
    address: str = "127.0.0.1:0",
    service: CoInferenceServicer | None = None,
) -> AsyncIterator[Serving]:
    collector = ServiceCollector()
    add_CoInferenceServicer_to_server(service or Echo(), collector)
    async with running_server(
        address, collector, max_message_bytes=1 << 20, security=security, limits=limits
    ) as serving:
        await serving.set_healthy(True)
        yield serving


@asynccontextmanager
async def asking(
    port: int, security: ChannelSecurity = PLAINTEXT
) -> AsyncIterator[CoInferenceStub]:
    target = f"localhost:{port}" if security.ca else f"127.0.0.1:{port}"
    async with make_channel(target, max_message_bytes=1 << 20, security=security) as line:
        yield CoInferenceStub(line)


async def ask(
    port: int, security: ChannelSecurity = PLAINTEXT, request: InferRequest = ANYTHING, **more
) -> grpc.StatusCode:
    """One call on a connection of its own; how it ended."""
    more.setdefault("metadata", call_metadata(security))
    async with asking(port, security) as stub:
        try:
            await stub.Infer(request, timeout=10, **more)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def name_of(port: int, security: ChannelSecurity = PLAINTEXT) -> str:
    """Whom the server takes us for."""
    async with asking(port, security) as stub:
        call = stub.GetModel(InferRequest(), metadata=call_metadata(security), timeout=10)
        part = await anext(aiter(call))
        return part.manifest_json


def save(folder: Path, name: str, signed: Signed) -> tuple[Path, Path]:
    """Write a certificate and its key."""
    files = pem_files(signed)
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(files.certificate)
    paths[1].write_bytes(files.key)
    return paths


class Certificates:
    """A CA in a folder, a server's and a client's certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = new_authority()
        self.ca, _ = save(folder, "ca", self.authority)
        self.cert, self.key = self.server()
        self.client_cert, self.client_key = self.client("camera-7")

    def server(self, **more) -> tuple[Path, Path]:
        more.setdefault("lasts", DAY)
        more.setdefault("hosts", ["localhost", "127.0.0.1"])
        return save(self.folder, "server", issue(self.authority, "server", **more))

    def client(self, name: str, **more) -> tuple[Path, Path]:
        more.setdefault("lasts", DAY)
        return save(self.folder, "client", issue(self.authority, name, hosts=[], **more))

    @property
    def serving(self) -> ServerSecurity:
        return ServerSecurity(cert=self.cert, key=self.key)

    @property
    def mutual(self) -> ServerSecurity:
        return ServerSecurity(cert=self.cert, key=self.key, client_ca=self.ca)

    @property
    def client_security(self) -> ChannelSecurity:
        return ChannelSecurity(ca=self.ca, cert=self.client_cert, key=self.client_key)
