"""``edge-node queue``: look at the durable queue, let dead letters wait again, write it out."""

import argparse
import asyncio
import base64
import contextlib
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edge_node.queue import open_queue
from edge_node.queue_files import QueueInUseError
from edge_node.queue_rows import Row, State, read_rows
from edge_node.queue_values import QueueLimits
from edge_node.queue_writer import PURGE, RETRY, follow
from spikebottlenet.errors import SpikeBottleNetError, StoreError
from spikebottlenet.state_dir import state_dir

_UNLIMITED = QueueLimits(
    max_bytes=1 << 62, max_count=1 << 62, max_age_s=0.0, when_full="reject", keep_results=1 << 62
)
_ORDER_WITHIN_S = 15.0
_LOOK_EVERY_S = 0.1
_PAGE = 500
_BUSY_S = 10.0

ABOUT = """Look at an edge-node's durable queue and mend it; the edge-node may be running."""


def default_store_path() -> Path:
    """Where the queue lies unless the settings say otherwise.

    Raises:
        StoreError: there is no folder for state.
    """
    return state_dir() / "edge-queue.sqlite"


def queue_main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit status.

    0 is done, 1 is that the queue could not be used, 2 a mistake in the arguments.
    """
    wanted = _parser().parse_args(arguments)
    try:
        path = Path(wanted.store_path) if wanted.store_path else default_store_path()
        if not path.exists():
            raise StoreError(
                f"no queue at {path}: nothing was stored yet, or name it with --store-path"
            )
        return int(wanted.run(path, wanted))
    except SpikeBottleNetError as error:
        print(f"edge-node queue: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-node queue", description=ABOUT)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, words: str, run: Callable[[Path, Any], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=words, description=words)
        command.add_argument("--store-path", default="", metavar="FILE", help="the queue's file")
        command.set_defaults(run=run)
        return command

    listing = add("list", "say what waits, what is answered, what is dead and why", _list)
    listing.add_argument("--json", action="store_true", help="one JSON object")
    add("retry", "let dead letters wait for the cloud again, in their old places", _retry)
    export = add("export", "write what waits and what is dead as JSON lines", _export)
    export.add_argument("file", help="file to write, - for standard output")
    purge = add("purge", "forget requests; there is no way back", _purge)
    for state in ("waiting", "dead", "results"):
        purge.add_argument(f"--{state}", action="store_true", help=f"forget {state}")
    purge.add_argument("--yes", action="store_true", help="really do it")
    return parser


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(connection):
            yield connection
    except sqlite3.Error as error:
        raise StoreError(
            f"cannot read the queue {path}: {error}; an edge-node that starts puts it right"
        ) from error


def _list(path: Path, wanted: Any) -> int:
    with _reading(path) as connection:
        found = connection.execute(
            "SELECT state, count(*), sum(frame_bytes) FROM requests GROUP BY state"
        ).fetchall()
        counts = {State(state).name.lower(): (count, size) for state, count, size in found}
        reasons = connection.execute(
            "SELECT reason, fingerprint, count(*) FROM requests WHERE state = 2 "
            "GROUP BY reason, fingerprint ORDER BY min(sequence)"
        ).fetchall()
        dropped = connection.execute(
            "SELECT name, value FROM meta WHERE name LIKE 'dropped%'"
        ).fetchall()
    plain = {
        "file": str(path),
        **{state.name.lower(): counts.get(state.name.lower(), (0, 0))[0] for state in State},
        "kept_bytes": sum(size for _, size in counts.values()),
        "dropped_ever": {name.removeprefix("dropped_"): int(value) for name, value in dropped},
        "dead_letters": [
            {"reason": reason, "fingerprint": fingerprint, "requests": count}
            for reason, fingerprint, count in reasons
        ],
    }
    if wanted.json:
        print(json.dumps(plain, ensure_ascii=False))
        return 0
    for name, value in plain.items():
        if name != "dead_letters":
            print(f"{name:14} {value}")
    for reason, fingerprint, count in reasons:
        print(f"dead: {count} of model {fingerprint[:8]}: {reason}")
    return 0


def _retry(path: Path, _: Any) -> int:
    print(f"{_order(path, RETRY)} requests wait again")
    return 0


def _purge(path: Path, wanted: Any) -> int:
    states = []
    if wanted.waiting:
        states.append(State.WAITING)
    if wanted.dead:
        states.append(State.DEAD)
    if wanted.results:
        states += [State.ANSWERED, State.DROPPED]
    if not states or not wanted.yes:
        print(
            "edge-node queue purge: wanted --waiting, --dead or --results, and --yes: what is "
            "purged is gone; `edge-node queue export` keeps it",
            file=sys.stderr,
        )
        return 2
    print(f"{_order(path, PURGE + ' '.join(state.name for state in states))} requests forgotten")
    return 0


def _export(path: Path, wanted: Any) -> int:
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(_reading(path))
        try:
            out = (
                sys.stdout
                if wanted.file == "-"
                else stack.enter_context(Path(wanted.file).open("w", encoding="utf-8"))
            )
            written = 0
            for row in _kept_rows(connection):
                print(json.dumps(_plain(row), ensure_ascii=False), file=out)
                written += 1
        except OSError as error:
            raise StoreError(f"cannot write {wanted.file}: {error}") from error
    print(f"{written} requests", file=sys.stderr)
    return 0


def _kept_rows(connection: sqlite3.Connection) -> Iterator[Row]:
    after = 0
    rest = "WHERE state IN (0, 2) AND sequence > ? ORDER BY sequence LIMIT ?"
    while rows := read_rows(connection, rest, (after, _PAGE)):
        yield from rows
        after = rows[-1].sequence


def _plain(row: Row) -> dict[str, Any]:
    return {
        "sequence": row.sequence,
        "key": (row.key or b"").hex(),
        "state": State(row.state).name.lower(),
        "fingerprint": row.fingerprint,
        "model": row.model,
        "stored_unix_ms": row.stored_unix_ms,
        "reason": row.reason,
        "frame": base64.b64encode(row.frame).decode(),
    }


def _order(path: Path, order: str) -> int:
    """Do it here, or have the edge-node that holds the queue do it; how many requests."""
    try:
        return asyncio.run(_order_here(path, order))
    except QueueInUseError:
        return _order_there(path, order)


async def _order_here(path: Path, order: str) -> int:
    async with open_queue(path, _UNLIMITED) as queue:
        return await queue.do(lambda ops: follow(ops, order))


def _order_there(path: Path, order: str) -> int:
    """Leave it in the file, where the edge-node looks once a second."""
    state = (
        "2"
        if order == RETRY
        else ", ".join(str(int(State[name])) for name in order.removeprefix(PURGE).split())
    )
    try:
        with contextlib.closing(
            sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        ) as connection:
            count = connection.execute(
                f"SELECT count(*) FROM requests WHERE state IN ({state})"  # noqa: S608, numbers
            ).fetchone()[0]
            number = connection.execute(
                "INSERT INTO orders (action) VALUES (?)", (order,)
            ).lastrowid
            give_up = time.monotonic() + _ORDER_WITHIN_S
            look = "SELECT 1 FROM orders WHERE number = ?"
            while connection.execute(look, (number,)).fetchone():
                if time.monotonic() > give_up:
                    connection.execute("DELETE FROM orders WHERE number = ?", (number,))
                    raise StoreError(
                        f"the edge-node that holds {path} did not do it within "
                        f"{_ORDER_WITHIN_S:g} s: see its log, or stop it and try again"
                    )
                time.sleep(_LOOK_EVERY_S)
            return int(count)
    except sqlite3.Error as error:
        raise StoreError(f"cannot write the queue {path}: {error}") from error
