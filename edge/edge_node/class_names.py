"""Class names of a model that stored requests were made by: from the edge, else from the cloud."""

import hashlib
import json

import grpc.aio

from edge_node.cloud_stream import Connect
from edge_node.models import ServedModels
from spikebottlenet.errors import UnavailableError
from spikebottlenet.rpc.status import error_from_status
from spikebottlenet.rpc.v1.coinference_pb2 import GetModelRequest
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub

_WITHIN_S = 10.0


class ClassNames:
    """Looks names up by fingerprint; an upgraded edge asks the cloud for its old models'."""

    def __init__(self, models: ServedModels, connect: Connect) -> None:
        self._models = models
        self._connect = connect
        self._known: dict[str, tuple[str, ...]] = {}

    async def __call__(self, fingerprint: str) -> tuple[str, ...]:
        """Names in the order of the model's classes.

        Raises:
            SpikeBottleNetError: the cloud cannot say.
        """
        for model in self._models:
            if model.bundle.fingerprint == fingerprint:
                return model.bundle.manifest.class_names
        if fingerprint not in self._known:
            self._known[fingerprint] = await self._ask(fingerprint)
        return self._known[fingerprint]

    async def _ask(self, fingerprint: str) -> tuple[str, ...]:
        connection = self._connect()
        async with connection.channel:
            request = GetModelRequest(fingerprint=bytes.fromhex(fingerprint))
            call = CoInferenceStub(connection.channel).GetModel(
                request, metadata=connection.metadata, timeout=_WITHIN_S
            )
            try:
                async for part in call:
                    return _names(part.manifest_json, fingerprint)
            except grpc.aio.AioRpcError as error:
                raise error_from_status(error.code(), error.details() or "") from error
            finally:
                call.cancel()
        raise UnavailableError("the cloud sent no manifest")


def _names(manifest_json: str, fingerprint: str) -> tuple[str, ...]:
    if hashlib.sha256(manifest_json.encode()).hexdigest() != fingerprint:
        raise UnavailableError("the cloud's manifest was damaged on its way")
    return tuple(json.loads(manifest_json)["class_names"])
