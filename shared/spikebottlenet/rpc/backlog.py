"""How many new connections may wait until the server takes them.

gRPC core takes connections as fast as they come and lets the system hold thousands more: a storm of
them then stands before everybody else's calls. With a short queue the system itself paces it, for a
connection that finds no place is tried again by its own end after a second (RFC 6298). gRPC has no
option for it; listen(2) on a socket that listens already changes the length.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")


def limit_backlog(port: int, connections: int) -> int:
    """Let so many connections wait at ``port``; returns how many of our sockets listen there."""
    found = 0
    with listeners(port) as sockets:
        for listener in sockets:
            listener.listen(connections)
            found += 1
    return found


@contextmanager
def listeners(port: int) -> Iterator[list[socket.socket]]:
    """This process's own sockets that listen at ``port``, under other descriptors."""
    found: list[socket.socket] = []
    try:
        for number in _open_sockets():
            with suppress(OSError):  # closed meanwhile
                candidate = socket.socket(fileno=os.dup(number))
                found.append(candidate)
        yield [candidate for candidate in found if _listens(candidate, port)]
    finally:
        for listener in found:
            listener.close()


def _open_sockets() -> list[int]:
    """Descriptors of this process that are sockets; all of them before any new one is made."""
    if not _DESCRIPTORS.is_dir():  # not Linux
        return []
    sockets = []
    for entry in _DESCRIPTORS.iterdir():
        with suppress(OSError):  # closed meanwhile
            if str(entry.readlink()).startswith("socket:"):
                sockets.append(int(entry.name))
    return sockets


def _listens(candidate: socket.socket, port: int) -> bool:
    if candidate.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    with suppress(OSError):
        accepts = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return bool(accepts) and candidate.getsockname()[1] == port
    return False
