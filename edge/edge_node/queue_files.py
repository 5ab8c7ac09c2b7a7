"""The durable queue's two files: opened whole, or put right from each other.

Every commit goes to ``NAME`` and then to ``NAME.copy``, and bears a number (generation). At the
start the sound file with the highest number wins and the other is made its copy. A file that is
damaged is renamed to ``NAME.damaged-N``, never deleted. If both are, every row whose CRC fits in
either is put into fresh ones.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import uuid_utils

from edge_node.queue_reserve import Reserve
from edge_node.queue_rows import (
    INSERT,
    SCHEMA_VERSION,
    SELECT_WITH_CRC,
    SET_META,
    TABLES,
    Row,
    State,
    connect,
    generation,
    last_sequence,
    read_meta,
    row_crc,
)
from spikebottlenet.errors import StoreError
from spikebottlenet.logs import fields

log = logging.getLogger(__name__)

_MENDED_EVERY_S = 10.0  # tries to make a lost copy again
_GAP = 1 << 20  # numbers left out after a salvage: those given and not readable are not given again
_LONGEST_GAP_PROBED = 1 << 17
_UNREADABLE = (sqlite3.Error, TypeError, ValueError, AttributeError, struct.error, OverflowError)
_NOT_DAMAGE = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM),
)

Statement = tuple[str, Sequence[object]]


class QueueInUseError(StoreError):
    """Another process has the queue."""


class _Found(NamedTuple):
    path: Path
    problem: str  # "" for a sound file
    generation: int  # -1 for no file or a damaged one
    there: bool


class QueueFiles:
    """Both files, written one after the other."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._pending: list[Statement] = []
        self._new_bytes = 0  # of frames in the group
        try:
            self._reserve = Reserve(path)
            self.first = _opened(path)
        except StoreError:
            if not self._reserve.give_up():
                raise
            self.first = _opened(path)
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
            self._copy = _copied(self.first, self.path)
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
        _unlink(copy_path(self.path))  # one that lags must not be taken for a whole one


def copy_path(path: Path) -> Path:
    """Where a queue's copy lies."""
    return path.with_name(f"{path.name}.copy")


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
        raise _cannot_open(path, error) from error
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


def _cannot_open(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"cannot open the queue {path}: {error}; free space or correct its permissions, or give "
        "another --store-path"
    )


def _opened(path: Path) -> sqlite3.Connection:
    """The first file, put right if it has to be."""
    try:
        if _salvage_path(path).exists():  # a salvage that ended, and was not put in place
            return _put_in_place(path)
        found = [_look(path), _look(copy_path(path))]
        best = max(found, key=lambda one: one.generation)
        damaged = [one for one in found if one.there and one.problem]
        if best.generation < 0:
            if not damaged:
                return _fresh(path)
            _salvage(path, [one.path for one in damaged])
            return _put_in_place(path)
        for one in damaged:
            aside = _set_aside(one.path, path)
            log.error(
                "queue file was damaged; nothing is lost, its copy is whole",
                extra=fields(file=str(one.path), reason=one.problem, kept_as=str(aside)),
            )
        if best.path != path:
            with contextlib.closing(connect(best.path)) as source:
                _copy_to(source, path)
        return connect(path)
    except (OSError, sqlite3.Error) as error:
        raise _cannot_open(path, error) from error


def _look(path: Path) -> _Found:
    if not path.exists():
        return _Found(path, "", -1, there=False)
    if path.stat().st_size == 0:
        return _Found(path, "it is empty", -1, there=True)
    try:
        with contextlib.closing(connect(path)) as connection:
            problem = _problem(connection)
            return _Found(path, problem, -1 if problem else generation(connection), there=True)
    except sqlite3.Error as error:
        _only_damage(error)
        return _Found(path, str(error), -1, there=True)


def _problem(connection: sqlite3.Connection) -> str:
    """What is wrong with a file; nothing if it is sound."""
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"the queue is of version {version}, this edge-node reads {SCHEMA_VERSION}: "
                "upgrade it, or give another --store-path"
            )
        said = str(connection.execute("PRAGMA quick_check").fetchone()[0])
        if said != "ok":
            return said
        if not read_meta(connection, "stream_id"):
            return "it names no stream"
        for values in connection.execute(SELECT_WITH_CRC):
            row = Row(*values[:-1])
            if row_crc(row) != values[-1]:
                return f"request {row.sequence} does not fit its CRC"
    except _UNREADABLE as error:
        _only_damage(error)
        return f"not readable ({error})"
    return ""


def _only_damage(error: Exception) -> None:
    """Raise again what says nothing about the file's content: a full disk damages nothing."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in _NOT_DAMAGE:
        raise error


def _fresh(path: Path, *, stream_id: bytes = b"", sequence: int = 0) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = connect(path)
    connection.executescript(f"BEGIN IMMEDIATE;{TABLES}")
    connection.execute(SET_META, ("stream_id", stream_id or uuid_utils.uuid7().bytes))
    connection.execute("INSERT INTO sqlite_sequence VALUES ('requests', ?)", (sequence,))
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")
    _sync_folder(path)
    return connection


def _copied(first: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """The copy, with what the first file holds."""
    copy = copy_path(path)
    with contextlib.suppress(sqlite3.Error):
        if copy.exists():
            connection = connect(copy)
            if generation(connection) == generation(first):
                return connection
            connection.close()
    _copy_to(first, copy)
    return connect(copy)


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _copy_to(source: sqlite3.Connection, path: Path) -> None:
    _unlink(path)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    with contextlib.closing(sqlite3.connect(path)) as target:
        target.execute("PRAGMA synchronous=FULL")
        source.backup(target)
    _sync_folder(path)


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _set_aside(path: Path, queue: Path) -> Path:
    number = 1
    while (aside := queue.with_name(f"{queue.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


class _Salvage(NamedTuple):
    rows: dict[int, Row]
    unreadable: set[int]
    last: int
    meta: dict[str, bytes]


def _salvage_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.salvaged")


def _salvage(path: Path, damaged: Sequence[Path]) -> None:
    """Write what can be read of damaged files beside them, whole or not at all."""
    parts = [_readable(one) for one in damaged]
    rows: dict[int, Row] = {}
    meta: dict[str, bytes] = {}
    for part in parts:
        meta |= part.meta
        for sequence, row in part.rows.items():
            if sequence not in rows or row.state == State.ANSWERED:
                rows[sequence] = row
    lost = set.union(*(part.unreadable for part in parts)) - set(rows)
    last = max(part.last for part in parts)
    unfinished = path.with_name(f"{path.name}.salvaging")
    _unlink(unfinished)
    connection = _fresh(unfinished, stream_id=meta.get("stream_id", b""), sequence=last + _GAP)
    with contextlib.closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        for name in ("age_s", "dropped_full", "dropped_age"):
            if name in meta:
                connection.execute(SET_META, (name, meta[name]))
        for sequence in sorted(rows):
            connection.execute(INSERT, rows[sequence].values)
        connection.execute("COMMIT")
    unfinished.rename(_salvage_path(path))
    _sync_folder(path)
    log.error(
        "queue was damaged, and its copy too", extra=fields(salvaged=len(rows), lost=len(lost))
    )


def _put_in_place(path: Path) -> sqlite3.Connection:
    """Have a salvage take the place of the damaged files, which are kept."""
    kept = [_set_aside(one, path) for one in (path, copy_path(path)) if one.exists()]
    _salvage_path(path).rename(path)
    _sync_folder(path)
    log.error("damaged queue files are kept", extra=fields(kept_as=[str(one) for one in kept]))
    return connect(path)


def _readable(damaged: Path) -> _Salvage:
    """Rows whose CRC fits, numbers that are there and are not readable, the last number, meta."""
    salvage = _Salvage({}, set(), 0, {})
    try:
        connection = sqlite3.connect(damaged, isolation_level=None)
    except sqlite3.Error:
        return salvage
    with contextlib.closing(connection):
        for name in ("stream_id", "age_s", "dropped_full", "dropped_age"):
            with contextlib.suppress(*_UNREADABLE):
                value = read_meta(connection, name)
                if value and (name != "stream_id" or len(value) == 16):
                    salvage.meta[name] = value
        last = 0
        with contextlib.suppress(*_UNREADABLE):
            last = last_sequence(connection)
        after = 0
        while (following := _next_readable(connection, after, last, salvage)) is not None:
            after = following
        return salvage._replace(last=max([last, *salvage.rows, *salvage.unreadable]))


def _next_readable(
    connection: sqlite3.Connection, after: int, last: int, salvage: _Salvage
) -> int | None:
    """Take the next row; where a page is damaged, ask number by number for the one behind it."""
    tail = "WHERE sequence > ? ORDER BY sequence LIMIT 1"
    try:
        found = connection.execute(f"{SELECT_WITH_CRC} {tail}", (after,)).fetchone()
        if found is None:
            return None
        _take(found, salvage)
        return int(found[0])
    except _UNREADABLE:
        pass
    for sequence in range(after + 1, min(last, after + _LONGEST_GAP_PROBED) + 1):
        try:
            found = connection.execute(
                f"{SELECT_WITH_CRC} WHERE sequence = ?", (sequence,)
            ).fetchone()
        except _UNREADABLE:
            salvage.unreadable.add(sequence)
            continue
        if found is not None:
            _take(found, salvage)
            return sequence
    return None


def _take(found: Sequence[object], salvage: _Salvage) -> None:
    row = Row(*found[:-1])  # type: ignore[arg-type]  # wrong types do not fit the CRC
    sequence = int(row.sequence)
    try:
        if row_crc(row) == found[-1]:
            salvage.rows[sequence] = row
            return
    except _UNREADABLE:
        pass
    salvage.unreadable.add(sequence)
