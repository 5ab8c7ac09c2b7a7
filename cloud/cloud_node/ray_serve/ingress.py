"""The cloud's service as Ray Serve's gRPC proxy calls it: the contract's methods by their names."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, NoReturn

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from ray.serve.grpc_util import RayServegRPCContext

from cloud_node.inference import CloudInference
from cloud_node.models import ServedModels
from cloud_node.ray_serve.remote import RemoteTails, remote_model
from cloud_node.ray_serve.settings import RaySettings
from cloud_node.service import CloudService
from spikebottlenet.accounting.wire import KernelCounters, Side, WireLedger
from spikebottlenet.bundle import Half, bundle_folders, open_bundle
from spikebottlenet.errors import AuthenticationError, SpikeBottleNetError
from spikebottlenet.rpc.refusal import trailers
from spikebottlenet.rpc.status import status_code
from spikebottlenet.rpc.tokens import SCHEME, TokenFile
from spikebottlenet.rpc.v1.coinference_pb2 import (
    GetModelRequest,
    InferRequest,
    ModelPart,
    Prediction,
    StreamRequest,
    StreamResponse,
)


class _Call:
    """What the service asks of a call; Ray hands on no deadline of a unary one."""

    def __init__(self) -> None:
        self._written: asyncio.Queue[StreamResponse | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(1)  # until a response was taken

    def time_remaining(self) -> None:
        """Seconds until the call's deadline: not known here."""

    async def write(self, response: StreamResponse) -> None:
        """Have a response of a stream written, once Ray has the one before it."""
        await self._room.acquire()
        self._written.put_nowait(response)

    async def responses(self, answering: Coroutine[Any, Any, None]) -> AsyncIterator[Any]:
        """What is written until a stream is answered.

        Raises:
            SpikeBottleNetError: what ended it.
        """

        async def answer() -> None:
            try:
                await answering
            finally:
                self._written.put_nowait(None)

        task = asyncio.create_task(answer())
        try:
            while (response := await self._written.get()) is not None:
                yield response
                self._room.release()
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


_CALL: Any = _Call()


class Ingress:
    """The same service as ``cloud-node``'s, before tails that are elsewhere."""

    def __init__(self, tails: Any, settings: RaySettings) -> None:
        bundles = [open_bundle(folder, Half.CLOUD) for folder in bundle_folders(settings.bundle)]
        models = ServedModels([remote_model(bundle) for bundle in bundles])
        inference = CloudInference(models, settings, RemoteTails(tails))
        ledger = WireLedger(KernelCounters(port=0, side=Side.LOCAL))  # Ray holds the connections
        self._service = CloudService(inference, ledger)
        self._tokens = TokenFile(Path(settings.tokens)) if settings.tokens else None

    async def Infer(self, request: InferRequest, grpc_context: RayServegRPCContext) -> Prediction:
        """Answer one whole image."""
        try:
            self._check(grpc_context)
            return await self._service.Infer(request, _CALL)
        except SpikeBottleNetError as error:
            _refuse(grpc_context, error)

    async def Stream(
        self, requests: AsyncIterator[StreamRequest], grpc_context: RayServegRPCContext
    ) -> AsyncIterator[StreamResponse]:
        """Answer an edge's images for as long as its stream lasts."""
        try:
            self._check(grpc_context)
            call: Any = _Call()
            async with aclosing(call.responses(self._service.Stream(requests, call))) as responses:
                async for response in responses:
                    yield response
        except SpikeBottleNetError as error:
            _refuse(grpc_context, error)

    async def GetModel(
        self, request: GetModelRequest, grpc_context: RayServegRPCContext
    ) -> AsyncIterator[ModelPart]:
        """Send the manifest, then the files asked for."""
        try:
            self._check(grpc_context)
            async for part in self._service.GetModel(request, _CALL):
                yield part
        except SpikeBottleNetError as error:
            _refuse(grpc_context, error)

    async def Check(self, request: HealthCheckRequest) -> HealthCheckResponse:
        """gRPC health: Ray routes calls here only while this replica is well."""
        return HealthCheckResponse(status=HealthCheckResponse.SERVING)

    def _check(self, grpc_context: RayServegRPCContext) -> None:
        if self._tokens is None:
            return
        given = dict(grpc_context.invocation_metadata()).get("authorization", "")
        if not given.startswith(SCHEME) or not self._tokens.name_of(given.removeprefix(SCHEME)):
            raise AuthenticationError(
                "no token came, or none that is known here: ask whoever runs this cloud for one"
            )


class _RefusedError(Exception):
    """A call that ended with an error's status: one that can be pickled, as Ray needs it."""


def _refuse(grpc_context: RayServegRPCContext, error: SpikeBottleNetError) -> NoReturn:
    grpc_context.set_code(status_code(error))
    grpc_context.set_details(str(error))
    grpc_context.set_trailing_metadata([*trailers(error)])
    raise _RefusedError(str(error)) from None
