"""One trace from client to tail, as a collector gets it from real processes."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spikebottlenet.errors import ConfigError
from spikebottlenet.tracing import NO_SPAN, NO_TRACES, caller_context, running_tracer
from spikebottlenet.tracing_otel import OtelTracer
from tests.conftest import Start


class Collector(TraceServiceServicer):
    """Keeps every span it gets."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.url = ""

    def Export(  # noqa: N802, the contract's name
        self, request: service.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> service.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return service.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = grpc.server(ThreadPoolExecutor(2))
    found = Collector()
    add_TraceServiceServicer_to_server(found, server)
    found.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield found
    server.stop(None).wait()


def test_a_photo_is_one_trace_from_client_to_tail(
    start: Start, collector: Collector, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image at all")
    tracing = ("--trace-to", collector.url)
    cloud = start("cloud_node", *tracing)
    edge = start("edge_node", "--cloud", cloud.address, "--deadline-ms", "30000", *tracing)
    command = [sys.executable, "-m", "spikebottlenet.cli", "send", "--edge", edge.address]
    paths = [str(photo), str(tmp_path / "bad.png")]
    done = subprocess.run([*command, *tracing, *paths], check=False, capture_output=True)
    assert done.returncode == 1
    assert edge.stop() == 0
    assert cloud.stop() == 0
    traces: dict[bytes, dict[str, Span]] = {}
    for span in collector.spans:
        traces.setdefault(span.trace_id, {})[span.name] = span
    by_size = sorted(traces.values(), key=len)
    assert [len(trace) for trace in by_size] == [2, 9]
    assert set(by_size[0]) == {"client.classify", "edge.classify"}
    under = {
        "edge.classify": "client.classify",
        "preprocess": "edge.classify",
        "head": "edge.classify",
        "encode": "edge.classify",
        "exchange": "edge.classify",
        "cloud.infer": "edge.classify",
        "queue": "cloud.infer",
        "tail": "cloud.infer",
    }
    spans = by_size[1]
    assert set(spans) == {"client.classify", *under}
    assert not spans["client.classify"].parent_span_id
    slack_ns = 1_000_000  # two clock readings apart, and the cloud's whole microseconds
    for name, parent in under.items():
        child, whole = spans[name], spans[parent]
        assert child.parent_span_id == whole.span_id
        assert whole.start_time_unix_nano - slack_ns <= child.start_time_unix_nano
        assert child.start_time_unix_nano <= child.end_time_unix_nano
    for name in ("preprocess", "head", "encode", "exchange"):
        assert (
            spans[name].end_time_unix_nano <= spans["edge.classify"].end_time_unix_nano + slack_ns
        )
    order = ["preprocess", "head", "encode", "exchange"]
    starts = [spans[name].start_time_unix_nano for name in order]
    assert starts == sorted(starts)


async def test_without_a_collector_nothing_is_recorded_or_imported() -> None:
    async with running_tracer("", "anything") as tracer:
        assert tracer is NO_TRACES
        assert tracer.begin("name", "", 0.0) is NO_SPAN
    assert NO_SPAN.traceparent == ""
    with pytest.raises(ConfigError, match="URL"):
        async with running_tracer("collector:4317", "anything"):
            pass


def test_a_context_is_taken_up_with_its_flag_and_rubbish_begins_a_trace(
    collector: Collector,
) -> None:
    tracer = OtelTracer(collector.url, "test")
    known = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    span = tracer.begin("sampled", known, 0.0)
    assert span.traceparent[3:35] == known[3:35]
    assert span.traceparent[36:52] != known[36:52]
    span.end()
    unsampled = tracer.begin("unsampled", known[:-2] + "00", 0.0)
    assert unsampled.traceparent[3:35] == known[3:35]
    assert unsampled.traceparent.endswith("-00")
    unsampled.end()
    for rubbish in ("x" * 5000, "00-0-0-0", known.replace("00-", "ff-", 1)):
        other = tracer.begin("rubbish", rubbish, 0.0)
        assert other.traceparent[3:35] != known[3:35]
        other.end()
    tracer.close()
    assert sorted(span.name for span in collector.spans) == ["rubbish"] * 3 + ["sampled"]


def test_a_context_that_is_too_long_to_be_one_is_not_kept() -> None:
    sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert caller_context(sampled) == sampled
    assert caller_context(sampled + " " * 1000) == ""
