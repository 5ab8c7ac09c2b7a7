"""The link against a gRPC echo: one request at a time, compute taken off."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc
import grpc.aio
import numpy as np

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

    streamed: list[float]  # on an open stream; client's clock, head and tail taken off
    called: list[float]  # the same, a call of its own
    edge: list[float]  # edge's clock (the record), preprocess, head, encode and tail taken off
    network: list[float]  # the record's network_ms
    unary: list[float]  # echo of the image file, a call
    relayed: list[float]  # the same call, with the frame's bytes echoed by another before it ends
    stream: list[float]  # echo of the image file, on an open stream
    relayed_stream: list[float]  # the same, with the frame's bytes echoed by another
    frame: list[float]  # echo of the frame, on an open stream
    whole: list[float]  # of those on a stream, nothing taken off
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
    claims = (
        claim(
            "link.overhead_to_echo",
            "one request end to end at the client, on its open stream as `spikebottlenet send` has "
            "it, head and tail compute taken off (image decoding and codec are not), over a gRPC "
            "echo of the image file; medians",
            Bound.AT_MOST,
            2.5,
            unit="ms",
            values=_medians(taken.streamed),
            references=_medians(taken.unary),
            reference_is="grpc.aio unary echo of the same image file, a process of its own",
        ),
        claim(
            "link.overhead_to_relayed_echo",
            "the same of a request that is a call, over an echo that takes the same way: the image "
            "file to one server, a frame's bytes from it to another and back; medians",
            Bound.AT_MOST,
            2.5,
            unit="ms",
            values=_medians(taken.called),
            references=_medians(taken.relayed),
            reference_is="two grpc.aio echoes in a row, unary and on a stream, each a process",
        ),
    )
    names = (
        ("end to end at the client, on its stream", taken.whole),
        ("head", taken.head),
        ("tail", taken.tail),
        ("end to end less head and tail, on the client's stream", taken.streamed),
        ("the same, a call of its own", taken.called),
        ("in the edge-node less preprocess, head, encode and tail", taken.edge),
        ("edge to cloud and back (network_ms)", taken.network),
        ("echo of the image file, unary", taken.unary),
        ("the same with the frame relayed to a second echo", taken.relayed),
        ("echo of the image file, on a stream", taken.stream),
        ("the same with the frame relayed to a second echo, on a stream", taken.relayed_stream),
        ("echo of the frame, on a stream", taken.frame),
    )
    frame = spread(taken.frame).median
    rows = []
    for name, values in names:
        took = spread(values)
        figures = (round(took.median, 3), round(took.low, 3), round(took.high, 3))
        rows.append((name, *figures, round(ratios([took.median], [frame])[0], 2)))
    columns = ("one request at a time", "p50 ms", "first quartile", "third quartile")
    table = Table("link", "Link", (*columns, "/ echo of the frame"), tuple(rows))
    milder = ratios([spread(taken.edge).median], [frame])[0]
    ours = spread(taken.streamed).median
    one_hop = ratios([ours], [spread(taken.stream).median])[0]
    two_hops = ratios([ours], [spread(taken.relayed_stream).median])[0]
    as_call = ratios([spread(taken.called).median], [spread(taken.unary).median])[0]
    notes = (
        f"{len(taken.whole)} requests of each kind. A request crosses two links (client to edge, "
        "edge to cloud), the plain echo one and the relayed echo two. On a stream it is "
        f"{fixed(one_hop)} x the echo on a stream and {fixed(two_hops)} x the relayed one there, "
        f"as a call {fixed(as_call)} x the echo that is one. Edge to cloud alone, codec and "
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
    taken = _Taken(*([] for _ in _Taken._fields))
    async with (
        make_channel(servers.edge, max_message_bytes=MAX_IMAGE_BYTES) as to_edge,
        make_channel(servers.echo, max_message_bytes=MAX_IMAGE_BYTES) as to_echo,
        make_channel(servers.relay, max_message_bytes=MAX_IMAGE_BYTES) as to_relay,
    ):
        stub: Any = EdgeInferenceStub(to_edge)
        call: Any = to_echo.unary_unary(METHOD)
        relay: Any = to_relay.unary_unary(METHOD)
        requests = stub.ClassifyStream()
        echoes: Any = to_echo.stream_stream(_STREAM)()
        relayed: Any = to_relay.stream_stream(_STREAM)()
        order = np.random.default_rng(0)  # what one leaves in the caches is the next one's
        for index in range(-5, count):
            file = files[index % len(files)]
            frame = subject.frames[index % len(subject.frames)]
            request = ClassifyRequest(image=file, deadline_ms=_DEADLINE_MS)
            asks: dict[str, tuple[Any, ...]] = {
                "called": (stub.Classify, request),
                "streamed": (_exchange, requests, request),
                "unary": (call, file),
                "relayed": (relay, file),
                "stream": (_exchange, echoes, file),
                "relayed_stream": (_exchange, relayed, file),
                "frame": (_exchange, echoes, frame),
            }
            answers: dict[str, Any] = {}
            took: dict[str, float] = {}
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                for name in order.permutation(list(asks)):
                    answers[name], took[name] = await _timed(*asks[name])
            called, streamed = answers["called"], answers["streamed"].record
            if index >= 0 and {called.source, streamed.source} == {SOURCE_CLOUD}:
                _add(taken, called, streamed, took)
        for stream in (requests, echoes, relayed):
            await stream.done_writing()
    return taken


async def _timed(ask: Callable[..., Awaitable[Any]], *what: object) -> tuple[Any, float]:
    """An answer, and the milliseconds until it was there."""
    began = time.perf_counter()
    return await ask(*what), 1e3 * (time.perf_counter() - began)


async def _exchange(stream: Any, message: object) -> Any:
    """The answer to a message on an open stream."""
    await stream.write(message)
    answer = await stream.read()
    if answer is grpc.aio.EOF:
        raise UnavailableError(f"a stream ended: {await stream.details()}")
    return answer


def _add(
    taken: _Taken, called: InferenceRecord, streamed: InferenceRecord, took: dict[str, float]
) -> None:
    stages = streamed.latency
    taken.whole.append(took["streamed"])
    taken.head.append(stages.head_ms)
    taken.tail.append(stages.tail_ms)
    taken.streamed.append(took["streamed"] - stages.head_ms - stages.tail_ms)
    taken.called.append(took["called"] - called.latency.head_ms - called.latency.tail_ms)
    compute_ms = stages.preprocess_ms + stages.head_ms + stages.encode_ms + stages.tail_ms
    taken.edge.append(stages.total_ms - compute_ms)
    taken.network.append(stages.network_ms)
    for name in ("unary", "relayed", "stream", "relayed_stream", "frame"):
        getattr(taken, name).append(took[name])
