"""A client of an edge-node: images over one stream, answers as they come.

If the stream breaks (an image above the edge's own limit ends it), what has no answer yet is asked
for one by one, so that one bad image costs no other its answer. With ``retry_s`` an edge-node that
is away, or has no room, is tried again until that long nothing was answered; an image to be stored
bears one key in every try, so that it is stored once.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import grpc.aio
import uuid_utils

from spikebottlenet.accounting.record import InferenceRecord
from spikebottlenet.cli.sources import ImageSource
from spikebottlenet.errors import (
    DeadlineError,
    OverloadedError,
    SpikeBottleNetError,
    UnavailableError,
)
from spikebottlenet.rpc.channel import MAX_IMAGE_BYTES, make_channel
from spikebottlenet.rpc.records import unpack_record
from spikebottlenet.rpc.refusal import error_from_call
from spikebottlenet.rpc.security import PLAINTEXT, ChannelSecurity, call_metadata
from spikebottlenet.rpc.status import error_from_number, status_code
from spikebottlenet.rpc.v1.edge_pb2 import ClassifyRequest, ClassifyResponse
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub
from spikebottlenet.tracing import NO_SPAN, NO_TRACES, Span, Tracer

WINDOW = 32  # images sent and not yet answered

_MESSAGE_ROOM_BYTES = 64 * 1024
_PAUSE_S = 0.5  # between tries
_LONGEST_PAUSE_S = 5.0
_FOR_NOW = (OverloadedError, UnavailableError, DeadlineError)  # another try may mend it

Call = grpc.aio.StreamStreamCall[ClassifyRequest, ClassifyResponse]
Metadata = tuple[tuple[str, str], ...]


class Outcome(NamedTuple):
    """What became of one image."""

    image: int  # place in the order given
    record: InferenceRecord | None
    error: SpikeBottleNetError | None


class Wishes(NamedTuple):
    """How images are to be answered."""

    deadline_ms: int = 0  # 0: the edge-node's setting
    store: bool = False
    model: str = ""
    retry_s: float = 0.0  # how long an edge-node may be away or full; 0: not tried again
    tracer: Tracer = NO_TRACES


class EdgeClient(NamedTuple):
    """An open connection to an edge-node."""

    edge: str
    stub: EdgeInferenceStub
    metadata: Metadata


@asynccontextmanager
async def edge_client(
    edge: str, security: ChannelSecurity = PLAINTEXT
) -> AsyncIterator[EdgeClient]:
    """Connect to ``host:port``.

    Raises:
        ConfigError: certificates or a token that do not work.
    """
    largest = MAX_IMAGE_BYTES + _MESSAGE_ROOM_BYTES
    metadata = call_metadata(security)
    async with make_channel(edge, max_message_bytes=largest, security=security) as channel:
        yield EdgeClient(edge, EdgeInferenceStub(channel), metadata)


class _Batch:
    """Images on their way, each asked for again until its outcome is final."""

    def __init__(self, client: EdgeClient, images: Sequence[ImageSource], wishes: Wishes) -> None:
        self.client = client
        self.wishes = wishes
        self.open = set(range(len(images)))  # without a final outcome
        self._images = images
        self._spans: dict[int, Span] = {}
        self._keys = [uuid_utils.uuid7().bytes if wishes.store else b"" for _ in images]

    async def request(self, index: int) -> ClassifyRequest:
        """The message of one image.

        Raises:
            ImageError, TooLargeError: the file cannot be sent.
        """
        if index not in self._spans:
            begun = time.monotonic()
            self._spans[index] = self.wishes.tracer.begin("client.classify", "", begun)
        return ClassifyRequest(
            image=await asyncio.to_thread(self._images[index].read),
            sequence=index,
            deadline_ms=self.wishes.deadline_ms,
            store=self.wishes.store,
            request_key=self._keys[index],
            model=self.wishes.model,
            traceparent=self._spans[index].traceparent,
        )

    def ended(self, outcome: Outcome) -> None:
        """An image's outcome is final."""
        span = self._spans.pop(outcome.image, NO_SPAN)
        code = "OK" if outcome.error is None else status_code(outcome.error).name
        span.end(code=code)


async def classify_images(
    client: EdgeClient, images: Sequence[ImageSource], wishes: Wishes
) -> AsyncIterator[Outcome]:
    """Send every image and yield each outcome as it is known, in any order."""
    batch = _Batch(client, images, wishes)
    give_up = time.monotonic() + wishes.retry_s
    while batch.open:
        pause_s = _PAUSE_S
        async for outcome in _over_stream(batch, sorted(batch.open)):
            if isinstance(outcome.error, _FOR_NOW) and time.monotonic() < give_up:
                pause_s = max(pause_s, getattr(outcome.error, "retry_after_s", 0.0))
                continue
            if outcome.record is not None:
                give_up = time.monotonic() + wishes.retry_s
            batch.open.discard(outcome.image)
            batch.ended(outcome)
            yield outcome
        if time.monotonic() >= give_up:
            break
        if batch.open:
            await asyncio.sleep(min(pause_s, _LONGEST_PAUSE_S))
    async for outcome in _one_by_one(batch, sorted(batch.open)):
        batch.ended(outcome)
        yield outcome


async def _over_stream(batch: _Batch, wanted: Collection[int]) -> AsyncIterator[Outcome]:
    call: Call = batch.client.stub.ClassifyStream(metadata=batch.client.metadata)
    outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
    window = asyncio.Semaphore(WINDOW)

    async def write() -> None:
        try:
            for index in wanted:
                await window.acquire()
                try:
                    request = await batch.request(index)
                except SpikeBottleNetError as error:
                    outcomes.put_nowait(Outcome(index, None, error))
                    window.release()
                    continue
                await call.write(request)
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader sees the same end
        except BaseException:
            call.cancel()  # or the reader would wait for answers to what was never sent
            raise

    async def read() -> None:
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                window.release()
                outcomes.put_nowait(_outcome(response))
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            return  # what is unanswered is asked for again
        finally:
            outcomes.put_nowait(None)

    tasks = [asyncio.create_task(write()), asyncio.create_task(read())]
    try:
        while (outcome := await outcomes.get()) is not None:
            yield outcome
        if tasks[0].done():
            tasks[0].result()
    finally:
        call.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _one_by_one(batch: _Batch, wanted: Collection[int]) -> AsyncIterator[Outcome]:
    """Ask for each; once an edge-node is lost nothing is asked of it, but files are read."""
    lost: UnavailableError | None = None
    for index in wanted:
        try:
            request = await batch.request(index)
            if lost is not None:
                raise lost
            message = await batch.client.stub.Classify(request, metadata=batch.client.metadata)
            yield Outcome(index, unpack_record(message), None)
        except grpc.aio.AioRpcError as failed:
            error = error_from_call(failed)
            if isinstance(error, UnavailableError):
                error = lost = UnavailableError(f"edge-node at {batch.client.edge}: {error}")
            yield Outcome(index, None, error)
        except SpikeBottleNetError as error:
            yield Outcome(index, None, error)


def _outcome(response: ClassifyResponse) -> Outcome:
    if response.WhichOneof("result") == "record":
        return Outcome(response.sequence, unpack_record(response.record), None)
    failure = response.failure
    error = error_from_number(failure.code, failure.message, retry_after_ms=failure.retry_after_ms)
    return Outcome(response.sequence, None, error)
