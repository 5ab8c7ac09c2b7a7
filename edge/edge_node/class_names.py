"""Class names of a model that stored requests were made by: from the edge, else from the cloud."""

from edge_node.cloud_stream import Connect
from edge_node.fetch import PATIENCE, fetch_manifest
from edge_node.models import ServedModels
from spikebottlenet.incoming_bundle import parse_manifest
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub


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
        async with connection.channel as channel:
            text = await fetch_manifest(
                CoInferenceStub(channel),
                bytes.fromhex(fingerprint),
                connection.metadata,
                PATIENCE.silence_s,
            )
        return parse_manifest(text, fingerprint=fingerprint).class_names
