"""Bytes on the wire: a request's share by a framing model, a connection's total by the kernel.

A message of n bytes crosses an established stream as one HTTP/2 DATA frame: 9 bytes of frame
header (RFC 9113, section 4.1), 5 bytes of gRPC prefix, n bytes. What comes beside (preface,
SETTINGS, HEADERS, WINDOW_UPDATE, PING) belongs to the connection, not to a request; it is the
difference between the kernel's total and the sum of the shares.

Kernel totals are TCP payload, TLS included, from ``struct tcp_info`` of linux/tcp.h:
``tcpi_bytes_received``, and ``tcpi_bytes_sent`` less ``tcpi_bytes_retrans``. A connection that is
closed counts as last seen, so what it carried between its last sample and its end is not in a
total, nor is one that came and went between two samples.
"""

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

HTTP2_FRAME_BYTES = 9
GRPC_PREFIX_BYTES = 5

_TCP_INFO_BYTES = 232
_BYTES_RECEIVED_AT = 128
_BYTES_SENT_AT = 200
_BYTES_RETRANSMITTED_AT = 208
_DESCRIPTORS = Path("/proc/self/fd")
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_SLICE = 256  # descriptors that one sample reads, some milliseconds of the event loop's time
_REST_FACTOR = 100  # times a slice, rested before the next: samples take 1 % of the time at most


def framed_bytes(message_bytes: int) -> int:
    """Wire bytes of one message, by the framing model."""
    return message_bytes + GRPC_PREFIX_BYTES + HTTP2_FRAME_BYTES


def shares(message_bytes: int, parts: Sequence[int]) -> list[int]:
    """What each part of one message takes of the wire: together all that the message takes.

    ``parts`` are the parts' own sizes; what the message has beside them is split evenly, the first
    ones taking a byte more where it does not divide.
    """
    if not parts:
        return []
    each, over = divmod(framed_bytes(message_bytes) - sum(parts), len(parts))
    return [size + each + (index < over) for index, size in enumerate(parts)]


class Side(StrEnum):
    """Which end of the connections is known by its port."""

    LOCAL = "local"  # a server's own port
    REMOTE = "remote"  # the port that a client connects to


class WireBytes(NamedTuple):
    """TCP payload of connections, bytes."""

    sent: int
    received: int

    def plus(self, other: "WireBytes") -> "WireBytes":
        """Both together."""
        return WireBytes(self.sent + other.sent, self.received + other.received)


NOTHING = WireBytes(0, 0)


class Tally(NamedTuple):
    """What connections carried so far: those that live one by one, those that ended as one sum."""

    closed: WireBytes = NOTHING
    live: Mapping[int, WireBytes] = {}  # by the socket's inode, which no later socket has

    @property
    def total(self) -> WireBytes:
        """Live and closed."""
        total = self.closed
        for carried in self.live.values():
            total = total.plus(carried)
        return total


def observe(tally: Tally, live: Mapping[int, WireBytes]) -> Tally:
    """The tally after the live connections were read; totals never go down.

    One that is not seen any more has ended and is folded into the sum as last seen; so is one whose
    counts went down, because counts only grow: its inode is another connection's now.
    """
    closed = tally.closed
    for inode, before in tally.live.items():
        now = live.get(inode)
        if now is None or now.sent < before.sent or now.received < before.received:
            closed = closed.plus(before)
    return Tally(closed, dict(live))


@dataclass
class KernelCounters:
    """Totals over every connection of this process on one port, closed ones as last seen.

    Memory is bounded by the live connections, and time by resting between walks through the
    process's descriptors.
    """

    port: int
    side: Side
    clock: Callable[[], float] = time.monotonic  # seconds
    _tally: Tally = field(default_factory=Tally)
    _total: WireBytes = NOTHING
    _ahead: list[str] | None = None  # descriptors that this walk has not come to
    _met: dict[int, WireBytes] = field(default_factory=dict)  # connections of this walk
    _next_slice_s: float = float("-inf")

    @property
    def available(self) -> bool:
        """Whether this system shows its counters."""
        return _DESCRIPTORS.is_dir() and hasattr(socket, "TCP_INFO")

    def sample(self, *, force: bool = False) -> WireBytes:
        """Go on reading the live connections and return the totals so far.

        With thousands of them one walk takes many calls, and some calls only rest. ``force`` reads
        them all now.
        """
        start_s = self.clock()
        if self.available and (force or start_s >= self._next_slice_s):
            self._walk(whole=force)
            now_s = self.clock()
            self._next_slice_s = now_s + _REST_FACTOR * (now_s - start_s)
        return self._total

    def _walk(self, *, whole: bool) -> None:
        """Read descriptors; at the end of a walk, those not met are taken for closed."""
        try:
            if self._ahead is None or whole:
                self._met = {}
                self._ahead = os.listdir(_DESCRIPTORS)  # noqa: PTH208 (a Path each is slow)
            for _ in range(len(self._ahead) if whole else min(_SLICE, len(self._ahead))):
                self._read(self._ahead.pop(), self._met)
        except OSError:  # no free descriptor: taking the others for closed would count them twice
            self._ahead = None
            return
        if self._ahead:
            return
        self._tally = observe(self._tally, self._met)
        self._total = self._tally.total
        self._ahead = None

    def _read(self, descriptor: str, live: dict[int, WireBytes]) -> None:
        try:
            name = os.readlink(f"{_DESCRIPTORS}/{descriptor}")  # noqa: PTH115
            if not name.startswith("socket:"):
                return
            # The descriptor is the transport's, and may close meanwhile: work on a duplicate.
            with _duplicate(int(descriptor)) as connection:
                inode = os.fstat(connection.fileno()).st_ino
                # One that was reset has no far end any more, and still its counts.
                if inode in self._tally.live or self._is_ours(connection):
                    carried = _carried(connection)
                    if carried is not None:
                        live[inode] = carried
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise

    def _is_ours(self, connection: socket.socket) -> bool:
        if connection.type != socket.SOCK_STREAM or connection.family not in (
            socket.AF_INET,
            socket.AF_INET6,
        ):
            return False
        far = connection.getpeername()  # raises on a listening socket
        known = connection.getsockname() if self.side is Side.LOCAL else far
        return bool(known[1] == self.port)


@dataclass
class WireLedger:
    """Every message of a process's connections by the framing model, beside the kernel's totals.

    Up is towards the cloud. The two are kept apart and set against each other at the end.
    """

    counters: KernelCounters
    framed_up: int = 0
    framed_down: int = 0

    def count_up(self, message_bytes: int) -> int:
        """Count a message towards the cloud; returns its share of the wire."""
        share = framed_bytes(message_bytes)
        self.framed_up += share
        return share

    def count_down(self, message_bytes: int) -> int:
        """Count a message from the cloud; returns its share of the wire."""
        share = framed_bytes(message_bytes)
        self.framed_down += share
        return share

    def reconcile(self) -> dict[str, int | str]:
        """Totals by both ways of counting; what is over belongs to no message."""
        if not self.counters.available:
            return {
                "wire_bytes_source": "framing model",
                "connection_bytes_up": self.framed_up,
                "connection_bytes_down": self.framed_down,
            }
        sent, received = self.counters.sample(force=True)
        up, down = (sent, received) if self.counters.side is Side.REMOTE else (received, sent)
        return {
            "wire_bytes_source": "kernel",
            "connection_bytes_up": up,
            "connection_bytes_down": down,
            "framed_bytes_up": self.framed_up,
            "framed_bytes_down": self.framed_down,
            "unframed_bytes_up": up - self.framed_up,
            "unframed_bytes_down": down - self.framed_down,
        }


def _duplicate(descriptor: int) -> socket.socket:
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)  # it is no socket by now
        raise


def _carried(connection: socket.socket) -> WireBytes | None:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    if len(info) < _TCP_INFO_BYTES:
        return None  # a kernel before 4.19
    received, sent, again = (
        struct.unpack_from("=Q", info, at)[0]
        for at in (_BYTES_RECEIVED_AT, _BYTES_SENT_AT, _BYTES_RETRANSMITTED_AT)
    )
    return WireBytes(sent - again, received)
