"""Spans by OpenTelemetry, sent to a collector over OTLP/gRPC by a thread of its own."""

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spikebottlenet import __version__
from spikebottlenet.tracing import Span, Tracer, wall_ns

_EXPORT_WITHIN_S = 2.0  # an absent collector holds up the end of a process no longer
_PROPAGATOR = TraceContextTextMapPropagator()


class OtelSpan(Span):
    """A span, its own and its parts' times given by the caller."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span
        found = span.get_span_context()
        flags = f"{found.trace_flags:02x}"
        self.traceparent = f"00-{found.trace_id:032x}-{found.span_id:016x}-{flags}"

    def part(self, name: str, began: float, ended: float) -> None:
        """Record a stage of it."""
        within = trace.set_span_in_context(self._span, Context())
        part = self._tracer.start_span(name, context=within, start_time=wall_ns(began))
        part.end(wall_ns(ended))

    def end(self, **attributes: str | int | float) -> None:
        """Record it."""
        self._span.set_attributes(attributes)
        self._span.end()


class OtelTracer(Tracer):
    """Begins spans of one service."""

    def __init__(self, collector: str, service: str) -> None:
        resource = Resource.create({"service.name": service, "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=collector, timeout=_EXPORT_WITHIN_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("spikebottlenet", __version__)

    def begin(self, name: str, traceparent: str, began: float) -> Span:
        """A span under the caller's; a ``traceparent`` that is none begins a trace of its own."""
        caller = _PROPAGATOR.extract({"traceparent": traceparent}, Context())
        return OtelSpan(
            self._tracer, self._tracer.start_span(name, context=caller, start_time=wall_ns(began))
        )

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
