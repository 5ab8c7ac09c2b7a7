"""Files that are read again once they change, while the process runs.

New content that cannot be used leaves the old in place: a certificate written halfway, or a token
file with a typing error, locks nobody out.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from spikebottlenet.errors import ConfigError
from spikebottlenet.logs import fields

log = logging.getLogger(__name__)

ValueT = TypeVar("ValueT")


class _Stamp(NamedTuple):
    modified_ns: int
    size: int
    inode: int


class Watched(Generic[ValueT]):
    """What ``read`` makes of ``paths``, as new as the files; any thread may ask.

    Raises:
        ConfigError: the files cannot be used at the start.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], ValueT]) -> None:
        self._paths = paths
        self._read = read
        self._lock = threading.Lock()
        self._stamps = self._look()
        self._value = read()

    def current(self) -> ValueT:
        """The newest content that could be used."""
        with self._lock:
            stamps = self._look()
            if stamps != self._stamps:
                self._change(stamps)
            return self._value

    def _change(self, stamps: tuple[_Stamp | None, ...]) -> None:
        names = ", ".join(str(path) for path in self._paths)
        try:
            value = self._read()
        except ConfigError as error:
            self._stamps = stamps
            log.error("kept the old content", extra=fields(files=names, reason=str(error)))
            return
        if self._look() != stamps:  # written while it was read: the next call reads it again
            return
        self._stamps, self._value = stamps, value
        log.info("read again", extra=fields(files=names))

    def _look(self) -> tuple[_Stamp | None, ...]:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Stamp(found.st_mtime_ns, found.st_size, found.st_ino)


def read_file(path: Path, what: str) -> bytes:
    """The bytes of a file that a setting names.

    Raises:
        ConfigError: it cannot be read; says what it should hold.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}; wanted {what}: give a file this user may read"
        ) from error
