"""Readiness and watchdog for systemd, by its notification protocol, sd_notify(3).

A datagram of ``KEY=VALUE`` lines goes to the socket that ``$NOTIFY_SOCKET`` names. Without that
variable, as outside systemd, nothing is sent. Nothing here raises into the daemon: a service
manager that does not listen is logged.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from spikebottlenet.logs import fields

log = logging.getLogger(__name__)

_SEND_WITHIN_S = 0.2  # the manager's queue is full for longer only if it hangs itself
_PINGS_A_PERIOD = 3  # one may be late, one may be lost
_MONOTONIC = time.CLOCK_MONOTONIC


@dataclass(frozen=True)
class Notifier:
    """Tells the service manager how the daemon is."""

    address: str | None = None  # of the socket; a leading zero byte: in the abstract name space
    watchdog_s: float | None = None  # the manager restarts a daemon that is silent for so long

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Notifier":
        """What the service manager asks for; a notifier that does nothing if there is none."""
        environment = os.environ if environment is None else environment
        address = _address(environment.get("NOTIFY_SOCKET", ""))
        return cls(address, None if address is None else _watchdog_s(environment))

    def ready(self, status: str = "") -> None:
        """The start, or a reload, is done."""
        self._send("READY=1", *_status_lines(status))

    def reloading(self) -> None:
        """A reload begins; ``ready`` ends it. The time tells this reload's answer from others."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> None:
        """The end begins."""
        self._send("STOPPING=1", *_status_lines(status))

    def status(self, text: str) -> None:
        """One line for people, which ``systemctl status`` shows."""
        self._send(*_status_lines(text))

    def ping(self) -> None:
        """The daemon is alive."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self.address is None or not lines:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_WITHIN_S)
                sender.sendto("\n".join(lines).encode(errors="replace"), os.fsencode(self.address))
        except (OSError, ValueError) as error:
            log.warning("service manager not told", extra=fields(reason=str(error), said=lines[0]))


@asynccontextmanager
async def watchdog(
    notifier: Notifier, alive: Callable[[], Awaitable[object]]
) -> AsyncIterator[None]:
    """Ping as long as the block runs and ``alive`` returns in time.

    ``alive`` is called three times in each period and has a third of it; when it is late or raises,
    the manager hears nothing, and restarts the daemon unless a later call returns.
    """
    if notifier.watchdog_s is None:
        yield
        return
    pinging = asyncio.create_task(_keep_pinging(notifier, alive, notifier.watchdog_s))
    try:
        yield
    finally:
        pinging.cancel()
        await asyncio.gather(pinging, return_exceptions=True)


async def _keep_pinging(
    notifier: Notifier, alive: Callable[[], Awaitable[object]], watchdog_s: float
) -> None:
    interval_s = watchdog_s / _PINGS_A_PERIOD
    loop = asyncio.get_running_loop()
    while True:
        start_s = loop.time()
        reason = await _why_not_alive(alive, within_s=interval_s)
        if reason is None:
            notifier.ping()
        else:
            log.error("watchdog not told", extra=fields(reason=reason))
        await asyncio.sleep(max(0.0, start_s + interval_s - loop.time()))


async def _why_not_alive(alive: Callable[[], Awaitable[object]], *, within_s: float) -> str | None:
    try:
        async with asyncio.timeout(within_s):
            await alive()
    except TimeoutError:
        return f"no sign of life within {within_s:.3g} s"
    except Exception as error:  # whatever it is, it is no sign of life
        return f"{type(error).__name__}: {error}"
    return None


def _address(given: str) -> str | None:
    if given.startswith("@"):
        return "\0" + given[1:]
    if given.startswith("/") or not given:
        return given or None
    log.warning("NOTIFY_SOCKET is not a Unix socket: nothing is told", extra=fields(found=given))
    return None


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """The period, if it is this process that is watched."""
    period_us = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    if not (period_us.isascii() and period_us.isdigit()) or int(period_us) == 0:
        if period_us:
            log.warning("WATCHDOG_USEC is not a number of microseconds: no watchdog")
        return None
    return int(period_us) / 1e6


def _status_lines(text: str) -> list[str]:
    """A line break would begin another assignment."""
    return [f"STATUS={' '.join(text.split())}"] if text else []
