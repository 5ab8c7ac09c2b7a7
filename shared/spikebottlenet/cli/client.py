"""A client of an edge-node: images over one stream, answers as they come.

If the stream breaks (an image above the edge's own limit ends it), what has no answer yet is asked
for one by one, so that one bad image costs no other its answer.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import grpc.aio

from spikebottlenet.accounting.record import InferenceRecord
from spikebottlenet.cli.sources import STANDARD_INPUT, ImageSource
from spikebottlenet.errors import ImageError, SpikeBottleNetError, UnavailableError
from spikebottlenet.rpc.channel import MAX_IMAGE_BYTES, make_channel
from spikebottlenet.rpc.records import unpack_record
from spikebottlenet.rpc.status import error_from_number, error_from_status
from spikebottlenet.rpc.v1.edge_pb2 import ClassifyRequest, ClassifyResponse
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub

WINDOW = 32  # images sent and not yet answered

_MESSAGE_ROOM_BYTES = 64 * 1024

Call = grpc.aio.StreamStreamCall[ClassifyRequest, ClassifyResponse]


class Outcome(NamedTuple):
    """What became of one image."""

    image: int  # place in the order given
    record: InferenceRecord | None
    error: SpikeBottleNetError | None


async def classify_images(
    edge: str, images: Sequence[ImageSource], *, deadline_ms: int
) -> AsyncIterator[Outcome]:
    """Send every image and yield each outcome as it is known, in any order."""
    async with make_channel(
        edge, max_message_bytes=MAX_IMAGE_BYTES + _MESSAGE_ROOM_BYTES
    ) as channel:
        stub = EdgeInferenceStub(channel)
        unanswered = set(range(len(images)))
        async for outcome in _over_stream(stub, images, deadline_ms):
            unanswered.discard(outcome.image)
            yield outcome
        lost: UnavailableError | None = None
        for index in sorted(unanswered):
            outcome = await _one(stub, images, index, deadline_ms, lost)
            if lost is None and isinstance(outcome.error, UnavailableError):
                lost = UnavailableError(f"edge-node at {edge}: {outcome.error}")
                outcome = Outcome(index, None, lost)
            yield outcome


async def _over_stream(
    stub: EdgeInferenceStub, images: Sequence[ImageSource], deadline_ms: int
) -> AsyncIterator[Outcome]:
    call: Call = stub.ClassifyStream()
    outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
    window = asyncio.Semaphore(WINDOW)

    async def write() -> None:
        try:
            for index in range(len(images)):
                await window.acquire()
                try:
                    data = await asyncio.to_thread(images[index].read)
                except SpikeBottleNetError as error:
                    outcomes.put_nowait(Outcome(index, None, error))
                    window.release()
                    continue
                request = ClassifyRequest(image=data, sequence=index, deadline_ms=deadline_ms)
                await call.write(request)
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader sees the same end

    async def read() -> None:
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                window.release()
                outcomes.put_nowait(_outcome(response))
        except grpc.aio.AioRpcError:
            return  # what is unanswered is asked for one by one
        finally:
            outcomes.put_nowait(None)

    tasks = [asyncio.create_task(write()), asyncio.create_task(read())]
    try:
        while (outcome := await outcomes.get()) is not None:
            yield outcome
    finally:
        call.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _one(
    stub: EdgeInferenceStub,
    images: Sequence[ImageSource],
    index: int,
    deadline_ms: int,
    lost: UnavailableError | None,
) -> Outcome:
    """Ask for one image; of an edge-node that is ``lost`` nothing is asked, but files are read."""
    if images[index].name == STANDARD_INPUT:
        unread = ImageError("was read, and the edge-node gave no answer: send it again")
        return Outcome(index, None, unread)
    try:
        data = images[index].read()
        if lost is not None:
            return Outcome(index, None, lost)
        message = await stub.Classify(ClassifyRequest(image=data, deadline_ms=deadline_ms))
        return Outcome(index, unpack_record(message), None)
    except grpc.aio.AioRpcError as error:
        details = error.details() or "no reason given"
        return Outcome(index, None, error_from_status(error.code(), details))
    except SpikeBottleNetError as error:
        return Outcome(index, None, error)


def _outcome(response: ClassifyResponse) -> Outcome:
    if response.WhichOneof("result") == "record":
        return Outcome(response.sequence, unpack_record(response.record), None)
    failure = error_from_number(response.failure.code, response.failure.message)
    return Outcome(response.sequence, None, failure)
