"""What can still be read of a queue whose two files are both damaged."""

import contextlib
import logging
import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge_node.queue_paths import copy_path, salvage_path, set_aside, sync_folder, unlink_file
from edge_node.queue_rows import (
    INSERT,
    SELECT_WITH_CRC,
    SET_META,
    Row,
    State,
    connect,
    fresh,
    last_sequence,
    read_meta,
    row_crc,
)
from spikebottlenet.logs import fields

log = logging.getLogger(__name__)

_GAP = 1 << 20  # numbers left out after a salvage: those given and not readable are not given again
_LONGEST_GAP_PROBED = 1 << 17
UNREADABLE = (sqlite3.Error, TypeError, ValueError, AttributeError, struct.error, OverflowError)


class _Salvage(NamedTuple):
    rows: dict[int, Row]
    unreadable: set[int]
    last: int
    meta: dict[str, bytes]


def salvage(path: Path, damaged: Sequence[Path]) -> None:
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
    unlink_file(unfinished)
    connection = fresh(unfinished, stream_id=meta.get("stream_id", b""), sequence=last + _GAP)
    with contextlib.closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        for name in ("age_s", "dropped_full", "dropped_age"):
            if name in meta:
                connection.execute(SET_META, (name, meta[name]))
        for sequence in sorted(rows):
            connection.execute(INSERT, rows[sequence].values)
        connection.execute("COMMIT")
    unfinished.rename(salvage_path(path))
    sync_folder(path)
    log.error(
        "queue was damaged, and its copy too", extra=fields(salvaged=len(rows), lost=len(lost))
    )


def put_in_place(path: Path) -> sqlite3.Connection:
    """Have a salvage take the place of the damaged files, which are kept."""
    kept = [set_aside(one, path) for one in (path, copy_path(path)) if one.exists()]
    salvage_path(path).rename(path)
    sync_folder(path)
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
            with contextlib.suppress(*UNREADABLE):
                value = read_meta(connection, name)
                if value and (name != "stream_id" or len(value) == 16):
                    salvage.meta[name] = value
        last = 0
        with contextlib.suppress(*UNREADABLE):
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
    except UNREADABLE:
        pass
    for sequence in range(after + 1, min(last, after + _LONGEST_GAP_PROBED) + 1):
        try:
            found = connection.execute(
                f"{SELECT_WITH_CRC} WHERE sequence = ?", (sequence,)
            ).fetchone()
        except UNREADABLE:
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
    except UNREADABLE:
        pass
    salvage.unreadable.add(sequence)
