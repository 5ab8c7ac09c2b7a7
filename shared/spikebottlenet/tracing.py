"""Traces, as an option: one from client to tail, its context a W3C ``traceparent`` in the messages.

https://www.w3.org/TR/trace-context/ says what that is. OpenTelemetry (extra ``otel``) is imported
where a collector is named and nowhere else; without one a span is an object that does nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from spikebottlenet.errors import ConfigError

_LONGEST = 128  # characters; version 00 has 55, a later one may add to them


def caller_context(traceparent: str) -> str:
    """A caller's ``traceparent`` as it may be kept and parsed: '' if it is too long to be one."""
    return traceparent if len(traceparent) <= _LONGEST else ""


class Span:
    """A span that nobody records."""

    traceparent = ""  # what whoever works for this span is told

    def part(self, name: str, began: float, ended: float) -> None:
        """Record a stage of it, both ends in monotonic seconds."""

    def end(self, **attributes: str | int | float) -> None:
        """Record it, with what came of it."""


class Tracer:
    """Begins spans; this one records none."""

    def begin(self, name: str, traceparent: str, began: float) -> Span:
        """A span that began at ``began`` (monotonic seconds), under the caller's if it has one."""
        return NO_SPAN


NO_SPAN = Span()
NO_TRACES = Tracer()


def wall_ns(monotonic_s: float) -> int:
    """The same moment in nanoseconds since 1970."""
    return time.time_ns() - round(1e9 * (time.monotonic() - monotonic_s))


@asynccontextmanager
async def running_tracer(collector: str, service: str) -> AsyncIterator[Tracer]:
    """Send spans to a collector's URL until the block ends; '' records none.

    Raises:
        ConfigError: no such URL, or OpenTelemetry is not installed.
    """
    if not collector:
        yield NO_TRACES
        return
    if not collector.startswith(("http://", "https://")):
        raise ConfigError(f"trace_to is {collector!r}, wanted a URL like http://127.0.0.1:4317")
    try:
        from spikebottlenet.tracing_otel import OtelTracer
    except ImportError as error:
        raise ConfigError(
            "trace_to needs OpenTelemetry: pip install 'spikebottlenet[otel]', or leave it out"
        ) from error
    tracer = OtelTracer(collector, service)
    try:
        yield tracer
    finally:
        await asyncio.to_thread(tracer.close)
