"""The ``CoInference`` service: checks what opens, hands streams to sessions."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from cloud_node.answers import AnswerCache
from cloud_node.inference import CloudInference
from cloud_node.received import gather_frames
from cloud_node.requests import Requests
from cloud_node.session import Session
from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.bundle import Bundle, file_digest
from spikebottlenet.errors import (
    BundleError,
    RequestError,
    SpikeBottleNetError,
    UnavailableError,
)
from spikebottlenet.rpc.checks import verify_check
from spikebottlenet.rpc.limits import current_client
from spikebottlenet.rpc.v1.coinference_pb2 import (
    FileChunk,
    GetModelRequest,
    InferRequest,
    ModelPart,
    Prediction,
    StreamRequest,
)
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceServicer
from spikebottlenet.tracing import caller_context

_CHUNK_BYTES = 64 * 1024
_STREAM_ID_BYTES = 16
_OPEN_WITHIN_S = 10.0  # a stream that says nothing for so long is ended

Context = grpc.aio.ServicerContext[Any, Any]


class CloudService(CoInferenceServicer):
    """Answers edges; ``drain`` starts the end."""

    def __init__(self, inference: CloudInference, ledger: WireLedger) -> None:
        self._inference = inference
        self._ledger = ledger
        self._cache = AnswerCache(inference.settings.answer_cache)
        self._sessions: set[Session] = set()
        self.streams: Counter[str] = Counter()  # open, by client; none at 0
        self._draining = False

    def drain(self) -> None:
        """Refuse new streams and tell the running ones; what was sent is still answered."""
        self._draining = True
        for session in self._sessions:
            session.drain()

    def drain_unserved(self) -> None:
        """Tell the streams whose model is not served any more."""
        for session in self._sessions:
            if not self._inference.models.serves(session.model):
                session.drain()

    async def GetModel(
        self, request: GetModelRequest | None, context: Context
    ) -> AsyncIterator[ModelPart]:
        """Send the manifest, then the files asked for."""
        if request is None:
            raise RequestError("message is not a GetModelRequest: check the client's version")
        models = self._inference.models
        model = models.find(request.fingerprint) if request.fingerprint else models.first
        bundle = model.bundle
        yield ModelPart(manifest_json=bundle.manifest.canonical_json())
        for name in request.files:
            async for part in _file_parts(bundle, name):
                yield part

    async def Infer(self, request: InferRequest | None, context: Context) -> Prediction:
        """Answer one whole image."""
        self._refuse_when_draining()
        if request is None:
            raise RequestError("message is not an InferRequest: check the client's version")
        try:
            model = self._inference.models.find(request.fingerprint)
            received = gather_frames(model.codec, request.frames)
            received.traceparent = caller_context(request.traceparent)
            received.message_bytes = request.ByteSize()
            received.wire_bytes = self._ledger.count_up(request.ByteSize())
            remaining_s = context.time_remaining()
            prediction = await self._inference.predict(
                model, received, sequence=0, deadline_s=remaining_s
            )
        except SpikeBottleNetError as error:
            self._inference.refuse("infer", 0, error)
            raise
        wire_bytes = self._ledger.count_down(prediction.ByteSize())
        self._inference.log_answer(
            model,
            "infer",
            received,
            prediction,
            client=current_client().name,
            wire_bytes_down=wire_bytes,
        )
        return prediction

    async def Stream(self, requests: AsyncIterator[StreamRequest | None], context: Context) -> None:
        """Answer an edge's images for as long as its stream lasts."""
        self._refuse_when_draining()
        try:
            first = await asyncio.wait_for(anext(requests), _OPEN_WITHIN_S)
        except (TimeoutError, StopAsyncIteration):
            raise RequestError("stream without an Open message: send that first") from None
        if first is None or not first.HasField("open"):
            raise RequestError("first message of a stream is not an Open: send that first")
        self._ledger.count_up(first.ByteSize())
        if first.open.checked:
            verify_check(first.open, first.open.stream_id)
        model = self._inference.models.find(first.open.fingerprint)
        if len(first.open.stream_id) != _STREAM_ID_BYTES:
            raise RequestError(
                f"stream_id has {len(first.open.stream_id)} bytes, wanted {_STREAM_ID_BYTES}: "
                "send a UUIDv7"
            )
        whole = Requests(first.open, model, self._inference, self._cache, self._ledger)
        session = Session(first.open, model, self._inference, whole, self._ledger)
        client = current_client().name
        self._sessions.add(session)
        self.streams[client] += 1
        try:
            await session.answer(requests, context.write)
        finally:
            self._sessions.discard(session)
            self.streams[client] -= 1
            self.streams += Counter()  # drops what is at 0
            self._ledger.counters.sample()

    def _refuse_when_draining(self) -> None:
        if self._draining:
            raise UnavailableError("this cloud-node is stopping: connect again later")


async def _file_parts(bundle: Bundle, name: str) -> AsyncIterator[ModelPart]:
    wanted = bundle.manifest.files.get(name)
    path = bundle.path(name)
    if wanted is None or not path.is_file():
        held = ", ".join(sorted(n for n in bundle.manifest.files if bundle.path(n).is_file()))
        raise BundleError(f"no file {name!r} here, this cloud-node holds {held}: ask for those")
    if await asyncio.to_thread(file_digest, path) != wanted:
        raise BundleError(f"{name} was altered here since the start: copy the bundle again")
    data = await asyncio.to_thread(path.read_bytes)
    for offset in range(0, len(data), _CHUNK_BYTES):
        part = data[offset : offset + _CHUNK_BYTES]
        yield ModelPart(chunk=FileChunk(name=name, offset=offset, data=part))
