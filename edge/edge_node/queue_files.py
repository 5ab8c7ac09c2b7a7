"""The durable queue's two files, written one after the other.

Every commit goes to ``NAME`` and then to ``NAME.copy``, and bears a number (generation).
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edge_node.queue_opening import NewerQueueError, cannot_open, open_copy, open_first
from edge_node.queue_paths import copy_path, unlink_file
from edge_node.queue_reserve import Reserve
from edge_node.queue_rows import SET_META, generation
from spikebottlenet.errors import StoreError
from spikebottlenet.logs import fields

log = logging.getLogger(__name__)

_MENDED_EVERY_S = 10.0  # tries to make a lost copy again

Statement = tuple[str, Sequence[object]]


class QueueInUseError(StoreError):
    """Another process has the queue."""


class QueueFiles:
    """Both files, written one after the other."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._pending: list[Statement] = []
        self._new_bytes = 0  # of frames in the group
        try:
            self._reserve = Reserve(path)
            self.first = open_first(path)
        except NewerQueueError:
            raise
        except StoreError:
            if not self._reserve.give_up():
                raise
            self.first = open_first(path)
        self._generation = generation(self.first)
        self._copy: sqlite3.Connection | None = None
        self._mended_at = -_MENDED_EVERY_S
        self._mend()

    @property
    def mirrored(self) -> bool:
        """Whether the copy holds all that the first file does."""
        return self._copy is not None

    def begin(self) -> None:
        """Start a group of statements."""
        self._pending = []
        self._new_bytes = 0
        self.first.execute("BEGIN IMMEDIATE")

    def need_room(self, frame_bytes: int) -> None:
        """Make sure that a new frame leaves room for what frees room.

        Raises:
            StoreError: the disk is too full for it.
        """
        self._new_bytes += frame_bytes
        if not self._reserve.has_room_for(self._new_bytes):
            self._new_bytes -= frame_bytes
            raise StoreError(
                f"the queue {self.path} cannot take more: its disk has "
                f"{self._reserve.free_bytes()} bytes left; free space"
            )

    def make_room(self) -> bool:
        """After a failed group: shorten the logs, give up the reserve; whether to try again."""
        for connection in (self.first, self._copy):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self._reserve.give_up()

    def write(self, statement: str, values: Sequence[object] = ()) -> None:
        """Part of the group."""
        self.first.execute(statement, values)
        self._pending.append((statement, values))

    def commit(self) -> None:
        """Put the group on disk, whole.

        Raises:
            sqlite3.Error: it is not there; roll back.
        """
        if self._pending:
            self.write(SET_META, ("generation", str(self._generation + 1).encode()))
        self.first.execute("COMMIT")
        if self._pending:
            self._generation += 1
            self._repeat()

    def rollback(self) -> None:
        """Undo the group."""
        self._pending = []
        with contextlib.suppress(sqlite3.Error):
            self.first.execute("ROLLBACK")

    def close(self) -> None:
        """Write the logs back into the files."""
        for connection in (self.first, self._copy):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()

    def _repeat(self) -> None:
        """The same on the copy; one that cannot be written is made again later."""
        if self._copy is None:
            self._mend()
            return
        try:
            try:
                self._repeat_on(self._copy)
            except sqlite3.Error:
                with contextlib.suppress(sqlite3.Error):
                    self._copy.execute("ROLLBACK")
                if not self.make_room():
                    raise
                self._repeat_on(self._copy)
        except sqlite3.Error as error:
            self._lose_copy(error)

    def _repeat_on(self, copy: sqlite3.Connection) -> None:
        copy.execute("BEGIN IMMEDIATE")
        for statement, values in self._pending:
            copy.execute(statement, values)
        copy.execute("COMMIT")

    def _mend(self) -> None:
        now = self._clock()
        if now < self._mended_at + _MENDED_EVERY_S:
            return
        self._mended_at = now
        try:
            self._copy = open_copy(self.first, self.path)
        except (OSError, sqlite3.Error) as error:
            self._lose_copy(error)

    def _lose_copy(self, error: Exception) -> None:
        log.error(
            "queue has no copy for now: free space",
            extra=fields(file=str(copy_path(self.path)), reason=str(error)),
        )
        if self._copy is not None:
            with contextlib.suppress(sqlite3.Error):
                self._copy.close()
        self._copy = None
        self._mended_at = self._clock()
        unlink_file(copy_path(self.path))  # one that lags must not be taken for a whole one


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the queue's lock.

    Raises:
        QueueInUseError: another process has it.
        StoreError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise cannot_open(path, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            raise QueueInUseError(
                f"the queue {path} is in use by process {holder}: stop it, or give another "
                "--store-path"
            ) from error
        with contextlib.suppress(OSError):  # on a full disk the number is missing, the lock holds
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)
