"""The durable queue's tables and rows; each row carries a CRC32C of its content."""

import json
import os
import sqlite3
import struct
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import uuid_utils

from edge_node.queue_paths import sync_folder

SCHEMA_VERSION = 1
_BUSY_S = 10.0
_PAGE_BYTES = 4096
_FEWEST_PAGES, _MOST_PAGES = 16, 1000  # of a log, when it is written back
_PAGE_SHARE = 64 * _PAGE_BYTES  # of free space for each page

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE orders (number INTEGER PRIMARY KEY, action TEXT NOT NULL);
CREATE TABLE requests (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB,                      -- the client's, NULL for none
    state INTEGER NOT NULL,        -- see State
    fingerprint TEXT NOT NULL,
    model TEXT NOT NULL,
    frame BLOB NOT NULL,           -- empty once answered or dropped
    frame_bytes INTEGER NOT NULL,
    stored_unix_ms INTEGER NOT NULL,
    stored_age_s REAL NOT NULL,    -- by the queue's own clock
    answer TEXT NOT NULL,          -- JSON once answered
    reason TEXT NOT NULL,
    crc INTEGER NOT NULL
);
CREATE UNIQUE INDEX requests_key ON requests (key) WHERE key IS NOT NULL;
CREATE INDEX requests_age ON requests (stored_age_s) WHERE state = 0;
CREATE INDEX requests_state ON requests (state, sequence, frame_bytes);
"""

COLUMNS = (
    *("sequence", "key", "state", "fingerprint", "model", "frame", "frame_bytes"),
    *("stored_unix_ms", "stored_age_s", "answer", "reason"),
)
_NAMES = ", ".join(COLUMNS)
INSERT = (
    f"INSERT OR REPLACE INTO requests ({_NAMES}, crc) "  # noqa: S608, names of ours
    f"VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
)
SELECT = f"SELECT {_NAMES} FROM requests"  # noqa: S608, names of ours
SELECT_WITH_CRC = f"SELECT {_NAMES}, crc FROM requests"  # noqa: S608, names of ours
SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"


class State(IntEnum):
    """What became of a request."""

    WAITING = 0  # for the cloud
    ANSWERED = 1  # by the cloud
    DEAD = 2  # the cloud refuses it for good; its spikes are kept
    DROPPED = 3  # by the queue's own limits; its spikes are gone


class Row(NamedTuple):
    """One request as it stands in the file."""

    sequence: int
    key: bytes | None
    state: int
    fingerprint: str
    model: str
    frame: bytes
    frame_bytes: int
    stored_unix_ms: int
    stored_age_s: float
    answer: str
    reason: str

    @property
    def values(self) -> tuple[object, ...]:
        """For ``INSERT``."""
        return (*self, row_crc(self))


class StoredAnswer(NamedTuple):
    """The cloud's answer, best class first."""

    classes: tuple[int, ...]
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    timesteps: int


def row_crc(row: Row) -> int:
    """CRC32C of what must not change unseen."""
    numbers = struct.pack(
        "<qqqqd?",
        *(row.sequence, row.state, row.frame_bytes, row.stored_unix_ms, row.stored_age_s),
        row.key is None,
    )
    texts = (row.fingerprint, row.model, row.answer, row.reason)
    parts = (numbers, row.key or b"", *(text.encode() for text in texts), row.frame)
    return int(google_crc32c.value(b"".join(struct.pack("<I", len(p)) + p for p in parts)))


def pack_answer(answer: StoredAnswer) -> str:
    """As it stands in a row."""
    return json.dumps(answer._asdict(), ensure_ascii=False, separators=(",", ":"))


def unpack_answer(text: str) -> StoredAnswer | None:
    """From a row; None if there is none yet."""
    if not text:
        return None
    plain = json.loads(text)
    return StoredAnswer(
        classes=tuple(plain["classes"]),
        labels=tuple(plain["labels"]),
        probabilities=tuple(plain["probabilities"]),
        timesteps=plain["timesteps"],
    )


def read_rows(
    connection: sqlite3.Connection, rest: str, values: Sequence[object] = ()
) -> list[Row]:
    """Requests that fit the ``rest`` of the statement."""
    return [Row(*found) for found in connection.execute(f"{SELECT} {rest}", values)]


def read_meta(connection: sqlite3.Connection, name: str) -> bytes | None:
    """A named value."""
    found = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if found is None else bytes(found[0])


def last_sequence(connection: sqlite3.Connection) -> int:
    """The highest number ever given."""
    found = connection.execute("SELECT seq FROM sqlite_sequence").fetchone()
    return int(found[0]) if found else 0


def generation(connection: sqlite3.Connection) -> int:
    """How many commits the file has seen."""
    return int(read_meta(connection, "generation") or b"0")


def connect(path: Path) -> sqlite3.Connection:
    """Open for reading and writing; every commit is on disk before it returns."""
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    # Written back early where there is little room, or the logs would fill the disk.
    found = os.statvfs(path.parent)
    pages = max(_FEWEST_PAGES, min(_MOST_PAGES, found.f_bavail * found.f_frsize // _PAGE_SHARE))
    connection.execute(f"PRAGMA wal_autocheckpoint={pages}")
    connection.execute(f"PRAGMA journal_size_limit={_PAGE_BYTES * pages}")
    return connection


def fresh(path: Path, *, stream_id: bytes = b"", sequence: int = 0) -> sqlite3.Connection:
    """Make an empty file; ``sequence`` is the last number taken."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = connect(path)
    connection.executescript(f"BEGIN IMMEDIATE;{TABLES}")
    connection.execute(SET_META, ("stream_id", stream_id or uuid_utils.uuid7().bytes))
    connection.execute("INSERT INTO sqlite_sequence VALUES ('requests', ?)", (sequence,))
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")
    sync_folder(path)
    return connection
