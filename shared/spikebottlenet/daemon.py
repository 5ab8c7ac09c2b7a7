"""What both daemons share: common settings, the start and the end of a process."""

import asyncio
import contextlib
import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

import uvloop
from pydantic import Field

from spikebottlenet import __version__
from spikebottlenet.bundle import Bundle
from spikebottlenet.errors import ConfigError, SpikeBottleNetError
from spikebottlenet.heap import bound_heaps, trimmed_heap
from spikebottlenet.listening import ListeningSettings
from spikebottlenet.logs import LogFormat, fields, start_logging
from spikebottlenet.notify import Notifier, watchdog
from spikebottlenet.options import parse_options
from spikebottlenet.rpc.server import Serving
from spikebottlenet.web.server import Web

log = logging.getLogger(__name__)


class DaemonSettings(ListeningSettings):
    """Settings that every daemon has."""

    bundle: str = Field(
        "default",
        description="bundle's folder, or 'default' for the shipped one; several with commas",
    )
    drain_s: float = Field(
        20.0, gt=0, description="seconds that running requests get to end after SIGTERM"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level of the log lines on standard error"
    )
    trace_to: str = Field(
        "", description="URL of an OpenTelemetry collector (OTLP over gRPC); '': no traces"
    )
    log_format: LogFormat = Field("json", description="json for machines, console for people")


SettingsT = TypeVar("SettingsT", bound=DaemonSettings)
ResultT = TypeVar("ResultT")


def run_daemon(
    model: type[SettingsT],
    serve: Callable[[SettingsT, Callable[[], SettingsT]], Awaitable[None]],
    arguments: Sequence[str] | None,
    *,
    prog: str,
    about: str,
    example: str,
) -> None:
    """Read settings and serve until a signal; exits 2 on bad settings, 1 on what else cannot start.

    ``serve`` gets the settings and a function that reads them again.
    """

    def read() -> SettingsT:
        return parse_options(model, arguments, prog=prog, about=about, example=example)

    try:
        settings = read()
    except SpikeBottleNetError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        sys.exit(2)
    start_logging(settings.log_level, settings.log_format)
    _allow_open_files()
    bound_heaps()

    async def whole_life() -> None:
        await serve(settings, read)

    try:
        uvloop.run(whole_life())
    except SpikeBottleNetError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def _allow_open_files() -> None:
    """Take all the descriptors that this process may: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # the start goes on with what there is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop_requested() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; call it from the running loop, first of all.

    SIGHUP before there is anything to reload, or after, does nothing.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _nothing)
    return stop


def _nothing() -> None:
    pass


async def unless_stopped(stop: asyncio.Event, work: Awaitable[ResultT]) -> ResultT | None:
    """The result of something that takes long at the start; None if ``stop`` came first."""
    working, stopping = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def start_line(prog: str, listen: str, serving: Serving, web: Web, bundle: Bundle) -> str:
    """The one line on standard output that says where and what is served."""
    host = listen.rpartition(":")[0]
    pages = f"web {web.url}, " if web.url else ""
    return (
        f"{prog} {__version__} serving on {host}:{serving.port}, {pages}"
        f"bundle {bundle.manifest.name}, fingerprint {bundle.fingerprint}"
    )


async def serve_until(
    stop: asyncio.Event,
    serving: Serving,
    web: Web,
    drain: Callable[[], None],
    *,
    drain_s: float,
    alive: Callable[[], Awaitable[object]],
) -> None:
    """Be healthy until ``stop``; then unhealthy, drain, and wait for what runs.

    A service manager is told, and hears from its watchdog as long as ``alive`` returns in time.
    """
    notifier = Notifier.from_environment()
    async with watchdog(notifier, alive), trimmed_heap():
        await serving.set_healthy(True)
        notifier.ready()
        await stop.wait()
        notifier.stopping()
        log.info("draining", extra=fields(drain_s=drain_s))
        await serving.set_healthy(False)
        drain()
        await asyncio.gather(serving.stop(drain_s), web.drain(drain_s))
