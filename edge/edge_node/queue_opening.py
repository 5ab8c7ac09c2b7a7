"""Opening the durable queue's files: whole, or put right from each other.

The sound file with the highest generation wins and the other is made its copy. A file that is
damaged is renamed to ``NAME.damaged-N``, never deleted. If both are, every row whose CRC fits in
either is put into fresh ones.
"""

import contextlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

from edge_node.queue_paths import copy_path, salvage_path, set_aside, sync_folder, unlink_file
from edge_node.queue_rows import (
    SCHEMA_VERSION,
    SELECT_WITH_CRC,
    Row,
    connect,
    fresh,
    generation,
    read_meta,
    row_crc,
)
from edge_node.queue_salvage import UNREADABLE, put_in_place, salvage
from spikebottlenet.errors import StoreError
from spikebottlenet.logs import fields

log = logging.getLogger(__name__)

_NOT_DAMAGE = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM),
)


class NewerQueueError(StoreError):
    """The queue was written by a newer edge-node; it is left as it is."""


class _Found(NamedTuple):
    path: Path
    problem: str  # "" for a sound file
    generation: int  # -1 for no file or a damaged one
    there: bool


def open_first(path: Path) -> sqlite3.Connection:
    """The first file, put right if it has to be."""
    try:
        if salvage_path(path).exists():  # a salvage that ended, and was not put in place
            return put_in_place(path)
        found = [_look(path), _look(copy_path(path))]
        best = max(found, key=lambda one: one.generation)
        damaged = [one for one in found if one.there and one.problem]
        if best.generation < 0:
            if not damaged:
                return fresh(path)
            salvage(path, [one.path for one in damaged])
            return put_in_place(path)
        for one in damaged:
            aside = set_aside(one.path, path)
            log.error(
                "queue file was damaged; nothing is lost, its copy is whole",
                extra=fields(file=str(one.path), reason=one.problem, kept_as=str(aside)),
            )
        if best.path != path:
            with contextlib.closing(connect(best.path)) as source:
                _copy_to(source, path)
        return connect(path)
    except (OSError, sqlite3.Error) as error:
        raise cannot_open(path, error) from error


def open_copy(first: sqlite3.Connection, path: Path) -> sqlite3.Connection:
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


def cannot_open(path: Path, error: Exception) -> StoreError:
    """What to say of a queue that cannot be opened."""
    return StoreError(
        f"cannot open the queue {path}: {error}; free space or correct its permissions, or give "
        "another --store-path"
    )


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
            raise NewerQueueError(
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
    except UNREADABLE as error:
        _only_damage(error)
        return f"not readable ({error})"
    return ""


def _only_damage(error: Exception) -> None:
    """Raise again what says nothing about the file's content: a full disk damages nothing."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in _NOT_DAMAGE:
        raise error


def _copy_to(source: sqlite3.Connection, path: Path) -> None:
    unlink_file(path)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    with contextlib.closing(sqlite3.connect(path)) as target:
        target.execute("PRAGMA synchronous=FULL")
        source.backup(target)
    sync_folder(path)
