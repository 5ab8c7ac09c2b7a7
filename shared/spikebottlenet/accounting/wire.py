"""Bytes on the wire: a request's share by a framing model, a connection's total by the kernel.

A message of n bytes crosses an established stream as one HTTP/2 DATA frame: 9 bytes of frame
header (RFC 9113, section 4.1), 5 bytes of gRPC prefix, n bytes. What comes beside (preface,
SETTINGS, HEADERS, WINDOW_UPDATE, PING) belongs to the connection, not to a request; it is the
difference between the kernel's total and the sum of the shares.

Kernel totals are TCP payload, TLS included, from ``struct tcp_info`` of linux/tcp.h:
``tcpi_bytes_received``, and ``tcpi_bytes_sent`` less ``tcpi_bytes_retrans``.
"""

import contextlib
import os
import socket
import struct
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


def framed_bytes(message_bytes: int) -> int:
    """Wire bytes of one message, by the framing model."""
    return message_bytes + GRPC_PREFIX_BYTES + HTTP2_FRAME_BYTES


class Side(StrEnum):
    """Which end of the connections is known by its port."""

    LOCAL = "local"  # a server's own port
    REMOTE = "remote"  # the port that a client connects to


class WireBytes(NamedTuple):
    """TCP payload of connections, bytes."""

    sent: int
    received: int


@dataclass
class KernelCounters:
    """Totals over every connection of this process on one port, closed ones as last seen."""

    port: int
    side: Side
    _seen: dict[tuple[object, ...], WireBytes] = field(default_factory=dict)

    @property
    def available(self) -> bool:
        """Whether this system shows its counters."""
        return _DESCRIPTORS.is_dir() and hasattr(socket, "TCP_INFO")

    def sample(self) -> WireBytes:
        """Read the live connections and return the totals so far."""
        if self.available:
            for descriptor in _socket_descriptors():
                self._read(descriptor)
        return WireBytes(
            sum(seen.sent for seen in self._seen.values()),
            sum(seen.received for seen in self._seen.values()),
        )

    def _read(self, descriptor: int) -> None:
        # The descriptor belongs to the transport and may close meanwhile: work on a duplicate.
        with contextlib.suppress(OSError), _duplicate(descriptor) as connection:
            if connection.type != socket.SOCK_STREAM or connection.family not in (
                socket.AF_INET,
                socket.AF_INET6,
            ):
                return
            near, far = connection.getsockname(), connection.getpeername()
            if (near if self.side is Side.LOCAL else far)[1] != self.port:
                return
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            if len(info) < _TCP_INFO_BYTES:
                return
            received, sent, again = (
                struct.unpack_from("=Q", info, at)[0]
                for at in (_BYTES_RECEIVED_AT, _BYTES_SENT_AT, _BYTES_RETRANSMITTED_AT)
            )
            self._seen[near, far] = WireBytes(sent - again, received)


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
        sent, received = self.counters.sample()
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
    return socket.socket(fileno=os.dup(descriptor))


def _socket_descriptors() -> list[int]:
    found = []
    for entry in _DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):
            if str(entry.readlink()).startswith("socket:"):
                found.append(int(entry.name))
    return found
