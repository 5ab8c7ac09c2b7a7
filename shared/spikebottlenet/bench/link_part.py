"""The link against a gRPC echo: one request at a time, compute taken off.

What runs before a request leaves the caches that it finds, and head and tail leave them emptied. So
requests come in a shuffled order, in which each kind follows each other one as often as itself. A
claim's two sides are shuffled with each other alone; the table, and a note on the claims, are of
all kinds together.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
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
from spikebottlenet.rpc.v1.edge_pb2 import SOURCE_CLOUD, ClassifyRequest
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub

_STREAM = "/bench.Peer/Stream"
_ANSWER_WITHIN_S = 60.0
_DEADLINE_MS = 20_000  # no answer of the edge exit among those that are measured
_PIECES = 20  # that the requests are parted into, for a spread of medians
_SHUFFLED = 10  # of each kind; the first of them do not count
_ALL_FEWER = 2  # times, of each kind, where they are many

# Milliseconds of requests by kind, in the order they were sent.
Times = Mapping[str, list[float]]

_KINDS = ("streamed", "called", "unary", "relayed", "stream", "relayed_stream", "frame")

# The table's rows: requests to the edge and parts of them, then echoes.
_ROWS = {
    "whole": "end to end at the client, on its stream",
    "head": "head",
    "tail": "tail",
    "streamed": "end to end less head and tail, on the client's stream",
    "called": "the same, a call of its own",
    "edge": "in the edge-node less preprocess, head, encode and tail",
    "network": "edge to cloud and back (network_ms)",
    "unary": "echo of the image file, unary",
    "relayed": "the same with the frame relayed to a second echo",
    "stream": "echo of the image file, on a stream",
    "relayed_stream": "the same with the frame relayed to a second echo, on a stream",
    "frame": "echo of the frame, on a stream",
}


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
        on_stream, as_call, times = asyncio.run(_measured(subject, servers, count))
    if not (on_stream.get("streamed") and as_call.get("called") and times.get("whole")):
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
            values=_medians(on_stream["streamed"]),
            references=_medians(on_stream["unary"]),
            reference_is="grpc.aio unary echo of the same image file, a process of its own",
        ),
        claim(
            "link.overhead_to_relayed_echo",
            "the same of a request that is a call, over an echo that takes the same way: the image "
            "file to one server, a frame's bytes from it to another and back; medians",
            Bound.AT_MOST,
            2.5,
            unit="ms",
            values=_medians(as_call["called"]),
            references=_medians(as_call["relayed"]),
            reference_is="two grpc.aio echoes in a row, unary and on a stream, each a process",
        ),
    )
    frame = spread(times["frame"]).median
    rows = []
    for kind, name in _ROWS.items():
        took = spread(times[kind])
        figures = (round(took.median, 3), round(took.low, 3), round(took.high, 3))
        rows.append((name, *figures, round(ratios([took.median], [frame])[0], 2)))
    columns = ("one request at a time", "p50 ms", "first quartile", "third quartile")
    table = Table("link", "Link", (*columns, "/ echo of the frame"), tuple(rows))
    notes = (
        f"{len(times['unary'])} requests of each kind. A request crosses two links (client to "
        "edge, edge to cloud), the plain echo one and the relayed echo two. On a stream it is "
        f"{_ratio(times, 'streamed', 'stream')} x the echo on a stream and "
        f"{_ratio(times, 'streamed', 'relayed_stream')} x the relayed one there, as a call "
        f"{_ratio(times, 'called', 'unary')} x the echo that is one. Edge to cloud alone, codec "
        f"and preprocess taken off as well, is {_ratio(times, 'edge', 'frame')} x the echo of the "
        "frame on a stream.",
        "Those are of all kinds in one shuffled order. The claims are of "
        f"{len(on_stream['unary'])} requests of each side, shuffled with the other side alone; "
        f"among all kinds, on colder caches, they would be {_ratio(times, 'streamed', 'unary')} "
        f"and {_ratio(times, 'called', 'relayed')}.",
    )
    return Part("link", claims, (table,), notes)


def _medians(values: list[float]) -> list[float]:
    """Medians of consecutive pieces."""
    size = max(1, len(values) // _PIECES)
    return [spread(values[at : at + size]).median for at in range(0, len(values) - size + 1, size)]


def _ratio(times: Times, kind: str, reference: str) -> str:
    return fixed(ratios([spread(times[kind]).median], [spread(times[reference]).median])[0])


class _Servers(NamedTuple):
    """Addresses."""

    edge: str
    echo: str
    relay: str


class _Contestants:
    """Open channels and streams to all servers."""

    def __init__(
        self,
        subject: Subject,
        to_edge: grpc.aio.Channel,
        to_echo: grpc.aio.Channel,
        to_relay: grpc.aio.Channel,
    ) -> None:
        self._files = [image_file(pixels, ENCODINGS[0]) for pixels in subject.images.pixels[:200]]
        self._frames = subject.frames
        self._order = np.random.default_rng(0)
        self._stub: Any = EdgeInferenceStub(to_edge)
        self._call: Any = to_echo.unary_unary(METHOD)
        self._relay: Any = to_relay.unary_unary(METHOD)
        self._requests = self._stub.ClassifyStream()
        self._echoes: Any = to_echo.stream_stream(_STREAM)()
        self._relayed: Any = to_relay.stream_stream(_STREAM)()

    async def end(self) -> None:
        """End the streams."""
        streams: tuple[Any, ...] = (self._requests, self._echoes, self._relayed)
        for stream in streams:
            await stream.done_writing()

    async def shuffled(self, kinds: Collection[str], count: int) -> Times:
        """About ``count`` requests of each of these kinds."""
        times: defaultdict[str, list[float]] = defaultdict(list)
        for turn in range(1 + count // _SHUFFLED):
            for index, kind in enumerate(self._order.permutation([*kinds] * _SHUFFLED)):
                ask, *what = self._asks(turn * _SHUFFLED + index)[kind]
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    began = time.perf_counter()
                    answer = await ask(*what)
                    took = 1e3 * (time.perf_counter() - began)
                if turn:
                    _add(times, str(kind), answer, took)
        return times

    def _asks(self, index: int) -> dict[str, tuple[Any, ...]]:
        """What is called for a request of each kind, and with what."""
        file = self._files[index % len(self._files)]
        frame = self._frames[index % len(self._frames)]
        request = ClassifyRequest(image=file, deadline_ms=_DEADLINE_MS)
        return {
            "streamed": (_exchange, self._requests, request),
            "called": (self._stub.Classify, request),
            "unary": (self._call, file),
            "relayed": (self._relay, file),
            "stream": (_exchange, self._echoes, file),
            "relayed_stream": (_exchange, self._relayed, file),
            "frame": (_exchange, self._echoes, frame),
        }


async def _measured(subject: Subject, servers: _Servers, count: int) -> tuple[Times, Times, Times]:
    """Each claim's two sides by themselves, and all kinds together."""
    async with AsyncExitStack() as until:
        channels = [
            await until.enter_async_context(make_channel(at, max_message_bytes=MAX_IMAGE_BYTES))
            for at in servers
        ]
        contestants = _Contestants(subject, *channels)
        measured = (
            await contestants.shuffled(("streamed", "unary"), count),
            await contestants.shuffled(("called", "relayed"), count),
            await contestants.shuffled(_KINDS, count // _ALL_FEWER),
        )
        await contestants.end()
        return measured


async def _exchange(stream: Any, message: object) -> Any:
    """The answer to a message on an open stream."""
    await stream.write(message)
    answer = await stream.read()
    if answer is grpc.aio.EOF:
        raise UnavailableError(f"a stream ended: {await stream.details()}")
    return answer


def _add(times: defaultdict[str, list[float]], kind: str, answer: Any, took: float) -> None:
    """Take in a request that took so many milliseconds, unless the edge exit answered it."""
    if kind not in ("streamed", "called"):
        times[kind].append(took)
        return
    record = answer.record if kind == "streamed" else answer
    if record.source != SOURCE_CLOUD:
        return
    stages = record.latency
    times[kind].append(took - stages.head_ms - stages.tail_ms)
    if kind == "streamed":
        compute_ms = stages.preprocess_ms + stages.head_ms + stages.encode_ms + stages.tail_ms
        times["whole"].append(took)
        times["head"].append(stages.head_ms)
        times["tail"].append(stages.tail_ms)
        times["edge"].append(stages.total_ms - compute_ms)
        times["network"].append(stages.network_ms)
