"""Real processes on this machine, over loopback: what they take beyond the bare parts.

A plan is the sum of parts timed alone plus what these add: sockets, threads that take turns, caches
that went cold. Requests come with pauses, as over any link: a tail that has just run is twice as
fast as one that has waited for its next request.
"""

import asyncio
import time
from collections.abc import Sequence
from statistics import mean
from typing import Any

import grpc
import grpc.aio

from spikebottlenet.bench.images import ENCODINGS, image_file
from spikebottlenet.bench.peers.plain_server import SERVICE, STREAM
from spikebottlenet.bench.peers.servers import running_cloud, running_edge, running_plain_grpc
from spikebottlenet.bench.subject import Subject
from spikebottlenet.errors import UnavailableError
from spikebottlenet.plan.profile import Loopback, Ms
from spikebottlenet.rpc.channel import MAX_IMAGE_BYTES, make_channel
from spikebottlenet.rpc.v1.edge_pb2 import SOURCE_CLOUD, SOURCE_EDGE_EXIT, ClassifyRequest, Source
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub

UNCUT_ENCODING = ENCODINGS[1]  # JPEG, as most clients send it
NOWHERE = "127.0.0.1:1"

_DEADLINE_MS = 20_000  # no answer of the edge exit where the cloud's is measured
_ANSWER_WITHIN_S = 30.0
_WARM = 10
_PAUSE_S = 0.03  # between requests
_TRIES = 400  # warm-up requests at most, until the answer comes from where it is wanted


def measure_loopback(
    subject: Subject, sent: Sequence[bytes], *, images: int, edge_threads: int, cloud_threads: int
) -> Loopback:
    """One request at a time through the daemons, and through a plain gRPC server."""
    name, folder = subject.bundle_name, subject.folder
    head = ("--threads", str(edge_threads))
    with (
        running_cloud(name, folder, "--threads", str(cloud_threads)) as cloud,
        running_edge(name, folder, cloud.address, *head) as edge,
    ):
        split = asyncio.run(record_totals_ms(edge.address, sent, images, SOURCE_CLOUD))
    with running_edge(name, folder, NOWHERE, *head) as edge:
        alone = asyncio.run(record_totals_ms(edge.address, sent, images, SOURCE_EDGE_EXIT))
    files = [image_file(each, UNCUT_ENCODING) for each in subject.images.pixels]
    with running_plain_grpc(name, folder, batch=1, threads=cloud_threads) as server:
        calls, answer_bytes = asyncio.run(call_times_ms(server.address, files, images))
    return Loopback(
        images=images,
        split=_ms(split),
        edge_exit=_ms(alone),
        uncut=_ms(calls),
        uncut_file=UNCUT_ENCODING.name,
        uncut_answer_bytes=answer_bytes,
    )


def _ms(values: list[float]) -> Ms:
    return Ms.of_seconds([value / 1e3 for value in values])


async def record_totals_ms(
    edge: str, files: Sequence[bytes], images: int, source: Source
) -> list[float]:
    """``total`` of each record, one request at a time, once answers come from ``source``.

    Raises:
        UnavailableError: they do not.
    """
    async with make_channel(edge, max_message_bytes=MAX_IMAGE_BYTES) as channel:
        stub = EdgeInferenceStub(channel)
        totals: list[float] = []
        for attempt in range(_TRIES + images):
            file = files[attempt % len(files)]
            request = ClassifyRequest(image=file, deadline_ms=_DEADLINE_MS)
            record = await stub.Classify(request, timeout=_ANSWER_WITHIN_S)
            if record.source == source:
                totals.append(record.latency.total_ms)
            elif attempt > _TRIES:
                break
            if len(totals) == _WARM + images:
                return totals[_WARM:]
            await asyncio.sleep(_PAUSE_S)
    raise UnavailableError(
        f"edge-node at {edge} did not answer {images} images from {Source.Name(source)}: "
        "see its log"
    )


async def call_times_ms(
    server: str, files: Sequence[bytes], images: int
) -> tuple[list[float], float]:
    """Milliseconds of each exchange on one open stream, and the mean size of an answer."""
    async with make_channel(server, max_message_bytes=MAX_IMAGE_BYTES) as channel:
        stream: Any = channel.stream_stream(f"/{SERVICE}/{STREAM}")()
        times, sizes = [], []
        for index in range(-_WARM, images):
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                began = time.perf_counter()
                await stream.write(files[index % len(files)])
                answer = await stream.read()
                took = 1e3 * (time.perf_counter() - began)
            if answer is grpc.aio.EOF:
                raise UnavailableError(f"the server at {server} ended its stream")
            if index >= 0:
                times.append(took)
                sizes.append(len(answer))
            await asyncio.sleep(_PAUSE_S)
        await stream.done_writing()
    return times, mean(sizes)
