"""The link against a gRPC echo: one request at a time, compute taken off."""

import asyncio
import time
from typing import Any, NamedTuple

import grpc
import grpc.aio

from spikebottlenet.bench.figures import Bound, Part, Table, claim, fixed
from spikebottlenet.bench.images import ENCODINGS, image_file
from spikebottlenet.bench.load.unary_line import METHOD
from spikebottlenet.bench.measuring import ratios, spread
from spikebottlenet.bench.peers.servers import (
    running_cloud,
    running_echo,
    running_edge,
    running_relay,
)
from spikebottlenet.bench.subject import Subject
from spikebottlenet.errors import UnavailableError
from spikebottlenet.rpc.channel import MAX_IMAGE_BYTES, make_channel
from spikebottlenet.rpc.v1.edge_pb2 import SOURCE_CLOUD, ClassifyRequest, InferenceRecord
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub

_STREAM = "/bench.Peer/Stream"
_ANSWER_WITHIN_S = 60.0  # all of one turn
_DEADLINE_MS = 20_000  # no answer of the edge exit among those that are measured
_PIECES = 20  # that the requests are parted into, for a spread of medians


class _Taken(NamedTuple):
    """Milliseconds of every request of one kind, in the order they were sent."""

    client: list[float]  # client's clock, head and tail taken off
    edge: list[float]  # edge's clock (the record), preprocess, head, encode and tail taken off
    network: list[float]  # the record's network_ms
    unary: list[float]  # echo of the image file, one call
    relayed: list[float]  # the same call, with the frame's bytes echoed by another before it ends
    stream: list[float]  # echo of the frame, on an open stream
    whole: list[float]  # client's clock, nothing taken off
    head: list[float]
    tail: list[float]


def measure_link(subject: Subject) -> Part:
    """Requests and echoes in turns on one machine."""
    with (
        running_cloud(subject.bundle_name, subject.folder) as cloud,
        running_edge(subject.bundle_name, subject.folder, cloud.address) as edge,
        running_echo(subject.folder) as echo,
        running_relay(subject.folder, echo.address, sent_on=max(map(len, subject.frames))) as relay,
    ):
        count = 40 if subject.quick else 600
        servers = _Servers(edge.address, echo.address, relay.address)
        taken = asyncio.run(_take(subject, servers, count))
    if not taken.whole:
        raise UnavailableError("no request was answered by the cloud: see the log of its edge-node")
    values = _medians(taken.client)
    claims = (
        claim(
            "link.overhead_to_echo",
            "one request end to end at the client, head and tail compute taken off (image "
            "decoding and codec are not), over a gRPC echo of the image file; medians",
            Bound.AT_MOST,
            2.5,
            unit="ms",
            values=values,
            references=_medians(taken.unary),
            reference_is="grpc.aio unary echo of the same image file, a process of its own",
        ),
        claim(
            "link.overhead_to_relayed_echo",
            "the same over an echo that takes the same way: the image file to one server, a "
            "frame's bytes from it to another and back; medians",
            Bound.AT_MOST,
            2.5,
            unit="ms",
            values=values,
            references=_medians(taken.relayed),
            reference_is="two grpc.aio echoes in a row, unary and on a stream, each a process",
        ),
    )
    names = (
        ("end to end at the client", taken.whole),
        ("head", taken.head),
        ("tail", taken.tail),
        ("end to end less head and tail", taken.client),
        ("in the edge-node less preprocess, head, encode and tail", taken.edge),
        ("edge to cloud and back (network_ms)", taken.network),
        ("echo of the image file, unary", taken.unary),
        ("the same with the frame relayed to a second echo", taken.relayed),
        ("echo of the frame, on a stream", taken.stream),
    )
    stream = spread(taken.stream).median
    rows = []
    for name, values in names:
        took = spread(values)
        figures = (round(took.median, 3), round(took.low, 3), round(took.high, 3))
        rows.append((name, *figures, round(ratios([took.median], [stream])[0], 2)))
    columns = ("one request at a time", "p50 ms", "first quartile", "third quartile")
    table = Table("link", "Link", (*columns, "/ echo of the frame"), tuple(rows))
    milder = ratios([spread(taken.edge).median], [stream])[0]
    notes = (
        f"{len(taken.whole)} requests. A request crosses two links (client to edge, edge to "
        "cloud), the plain echo one and the relayed echo two. Edge to cloud alone, codec and "
        f"preprocess taken off as well, is {fixed(milder)} x the echo of the frame on a stream.",
    )
    return Part("link", claims, (table,), notes)


def _medians(values: list[float]) -> list[float]:
    """Medians of consecutive pieces."""
    size = max(1, len(values) // _PIECES)
    return [spread(values[at : at + size]).median for at in range(0, len(values) - size + 1, size)]


class _Servers(NamedTuple):
    """Addresses."""

    edge: str
    echo: str
    relay: str


async def _take(subject: Subject, servers: _Servers, count: int) -> _Taken:
    files = [image_file(pixels, ENCODINGS[0]) for pixels in subject.images.pixels[:200]]
    taken = _Taken([], [], [], [], [], [], [], [], [])
    async with (
        make_channel(servers.edge, max_message_bytes=MAX_IMAGE_BYTES) as to_edge,
        make_channel(servers.echo, max_message_bytes=MAX_IMAGE_BYTES) as to_echo,
        make_channel(servers.relay, max_message_bytes=MAX_IMAGE_BYTES) as to_relay,
    ):
        stub = EdgeInferenceStub(to_edge)
        call: Any = to_echo.unary_unary(METHOD)
        relay: Any = to_relay.unary_unary(METHOD)
        stream: Any = to_echo.stream_stream(_STREAM)()
        for index in range(-5, count):
            file = files[index % len(files)]
            request = ClassifyRequest(image=file, deadline_ms=_DEADLINE_MS)
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                began = time.perf_counter()
                record = await stub.Classify(request)
                whole = 1e3 * (time.perf_counter() - began)
                began = time.perf_counter()
                await call(file)
                unary = 1e3 * (time.perf_counter() - began)
                began = time.perf_counter()
                await relay(file)
                relayed = 1e3 * (time.perf_counter() - began)
                began = time.perf_counter()
                await stream.write(subject.frames[index % len(subject.frames)])
                answered = await stream.read()
                streamed = 1e3 * (time.perf_counter() - began)
            if answered is grpc.aio.EOF:
                raise UnavailableError(f"the echo at {servers.echo} ended its stream")
            if index >= 0 and record.source == SOURCE_CLOUD:
                _add(taken, record, whole)
                taken.unary.append(unary)
                taken.relayed.append(relayed)
                taken.stream.append(streamed)
        await stream.done_writing()
    return taken


def _add(taken: _Taken, record: InferenceRecord, whole: float) -> None:
    stages = record.latency
    taken.whole.append(whole)
    taken.head.append(stages.head_ms)
    taken.tail.append(stages.tail_ms)
    taken.client.append(whole - stages.head_ms - stages.tail_ms)
    compute_ms = stages.preprocess_ms + stages.head_ms + stages.encode_ms + stages.tail_ms
    taken.edge.append(stages.total_ms - compute_ms)
    taken.network.append(stages.network_ms)
