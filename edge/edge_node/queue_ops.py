"""What can be done to the durable queue, inside a group of its writer thread.

Age counts by a clock of the queue's own: seconds for which some process had it open, kept in the
file. A wall clock that jumps changes nothing.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence

from edge_node.queue_files import QueueFiles
from edge_node.queue_rows import (
    SET_META,
    Row,
    State,
    StoredAnswer,
    pack_answer,
    read_meta,
    read_rows,
    unpack_answer,
)
from edge_node.queue_tally import Dropped, QueueTally
from edge_node.queue_values import QueueCounts, QueueLimits, QueueResult, StoredRequest
from spikebottlenet.errors import OverloadedError
from spikebottlenet.logs import fields

log = logging.getLogger(__name__)

Clock = Callable[[], float]  # seconds, never back
_A_MOMENT_S = 1.0  # until a full queue may have room again
_AT_ONCE = 1000
_AGE_KEPT_EVERY_S = 30.0


class QueueOps:
    """Operations of the one writer."""

    def __init__(self, files: QueueFiles, limits: QueueLimits, clock: Clock) -> None:
        self._files = files
        self._limits = limits
        self._clock = clock
        stream_id = read_meta(files.first, "stream_id")
        assert stream_id is not None  # noqa: S101, files are checked when they are opened
        self.stream_id = stream_id
        self._age_base = float(read_meta(files.first, "age_s") or b"0") - clock()
        self._age_kept = clock()
        self._tally = QueueTally(files)

    def reload(self) -> None:
        """Count afresh what the file holds."""
        self._tally.reload()

    def accept(self, key: bytes, frame: bytes, fingerprint: str, model: str) -> int:
        """Put a request in; the sequence it has.

        Raises:
            OverloadedError: full, and set to reject.
        """
        if key:
            known = self._files.first.execute(
                "SELECT sequence FROM requests WHERE key = ?", (key,)
            ).fetchone()
            if known is not None:
                return int(known[0])
        self._files.need_room(len(frame))
        self._make_room(len(frame))
        self._tally.last += 1
        self._tally.put(
            Row(
                sequence=self._tally.last,
                key=key or None,
                state=State.WAITING,
                fingerprint=fingerprint,
                model=model,
                frame=frame,
                frame_bytes=len(frame),
                stored_unix_ms=time.time_ns() // 1_000_000,
                stored_age_s=self._age(),
                answer="",
                reason="",
            )
        )
        return self._tally.last

    def waiting(self, after: int, limit: int) -> list[StoredRequest]:
        """Those that wait, in order."""
        rest = "WHERE state = 0 AND sequence > ? ORDER BY sequence LIMIT ?"
        return [
            StoredRequest(
                row.sequence,
                row.key or b"",
                row.fingerprint,
                row.model,
                row.frame,
                row.stored_unix_ms,
            )
            for row in read_rows(self._files.first, rest, (after, limit))
        ]

    def complete(self, sequence: int, answer: StoredAnswer) -> bool:
        """Keep the answer; false if there was one, which stays."""
        row = self._tally.get(sequence)
        if row is None or row.state == State.ANSWERED:
            return False
        self._tally.change(row, State.ANSWERED, answer=pack_answer(answer))
        self._trim()
        return True

    def bury(self, sequences: Sequence[int], reason: str) -> int:
        """Set waiting ones aside as dead letters."""
        buried = 0
        for sequence in sequences:
            row = self._tally.get(sequence)
            if row is not None and row.state == State.WAITING:
                self._tally.change(row, State.DEAD, reason=reason)
                buried += 1
        return buried

    def results(self, after: int, sequences: Sequence[int] | None, limit: int) -> list[QueueResult]:
        """What became of requests, in order."""
        rest = "WHERE sequence > ?"
        values: list[object] = [after]
        if sequences is not None:
            rest += " AND sequence IN (SELECT value FROM json_each(?))"
            values.append(json.dumps(list(sequences)))
        rows = read_rows(self._files.first, f"{rest} ORDER BY sequence LIMIT ?", (*values, limit))
        return [
            QueueResult(
                sequence=row.sequence,
                key=row.key or b"",
                state=State(row.state),
                answer=unpack_answer(row.answer),
                fingerprint=row.fingerprint,
                model=row.model,
                stored_unix_ms=row.stored_unix_ms,
                reason=row.reason,
            )
            for row in rows
        ]

    def retry_dead(self) -> int:
        """Let dead letters wait again, in their old places."""
        retried = 0
        while dead := read_rows(
            self._files.first, "WHERE state = 2 ORDER BY sequence LIMIT ?", (_AT_ONCE,)
        ):
            for row in dead:
                # Their age counts afresh: they were not late by their own fault.
                self._tally.change(row._replace(stored_age_s=self._age()), State.WAITING)
            retried += len(dead)
        return retried

    def purge(self, states: Sequence[State]) -> int:
        """Forget all requests in these states."""
        purged = 0
        for state in states:
            sequences = self._files.first.execute(
                "SELECT sequence, frame_bytes FROM requests WHERE state = ?", (state,)
            ).fetchall()
            for sequence, frame_bytes in sequences:
                self._tally.forget(state, sequence, frame_bytes)
            purged += len(sequences)
        return purged

    def expire(self) -> int:
        """Drop waiting ones that are too old; how many."""
        if not self._limits.max_age_s:
            return 0
        horizon = self._age() - self._limits.max_age_s
        rest = "WHERE state = 0 AND stored_age_s < ? ORDER BY stored_age_s LIMIT ?"
        old = read_rows(self._files.first, rest, (horizon, _AT_ONCE))
        for row in old:
            self._drop(row, "age", f"older than {self._limits.max_age_s:g} s (store_max_age_s)")
        return len(old)

    def keep_age(self, *, now: bool = False) -> None:
        """Put the queue's clock on disk from time to time."""
        if now or self._clock() - self._age_kept >= _AGE_KEPT_EVERY_S:
            self._age_kept = self._clock()
            self._files.write(SET_META, ("age_s", repr(self._age()).encode()))

    def take_orders(self) -> list[str]:
        """What the ``queue`` command asked for while this process holds the file."""
        first = self._files.first
        orders = first.execute("SELECT number, action FROM orders ORDER BY number").fetchall()
        for number, _ in orders:
            first.execute("DELETE FROM orders WHERE number = ?", (number,))
        return [action for _, action in orders]

    def counts(self) -> QueueCounts:
        """What it holds."""
        return QueueCounts(
            waiting=self._tally.of[State.WAITING],
            answered=self._tally.of[State.ANSWERED],
            dead=self._tally.of[State.DEAD],
            kept_bytes=self._tally.kept_bytes,
            dropped=dict(self._tally.dropped),
            mirrored=self._files.mirrored,
        )

    def _age(self) -> float:
        return self._age_base + self._clock()

    def _fits(self, frame_bytes: int) -> bool:
        limits, held = self._limits, self._tally
        return held.kept < limits.max_count and held.kept_bytes + frame_bytes <= limits.max_bytes

    def _would_fit(self, frame_bytes: int) -> bool:
        """Whether there is room beside the dead letters, which are never dropped."""
        dead_bytes = self._files.first.execute(
            "SELECT coalesce(sum(frame_bytes), 0) FROM requests WHERE state = 2"
        ).fetchone()[0]
        limits = self._limits
        return bool(
            self._tally.of[State.DEAD] < limits.max_count
            and dead_bytes + frame_bytes <= limits.max_bytes
        )

    def _make_room(self, frame_bytes: int) -> None:
        while not self._fits(frame_bytes):
            drops = self._limits.when_full == "drop_oldest" and self._would_fit(frame_bytes)
            rest = "WHERE state = 0 ORDER BY sequence LIMIT 1"
            oldest = read_rows(self._files.first, rest) if drops else []
            if not oldest:
                held = self._tally
                raise OverloadedError(
                    f"the queue is full: {held.kept} requests of {self._limits.max_count}, "
                    f"{held.kept_bytes} bytes of {self._limits.max_bytes}, {held.of[State.DEAD]} "
                    "of them dead letters: send it again later, raise store_max_count or "
                    "store_max_bytes, or empty it with `edge-node queue`",
                    retry_after_s=_A_MOMENT_S,
                )
            self._drop(oldest[0], "full", "the queue was full (store_when_full: drop_oldest)")

    def _drop(self, row: Row, why: Dropped, reason: str) -> None:
        self._tally.drop(row, why, reason)
        log.warning(
            "dropped a stored request",
            extra=fields(sequence=row.sequence, reason=reason, dropped=self._tally.dropped[why]),
        )
        self._trim()

    def _trim(self) -> None:
        """Forget the oldest results above the limit."""
        held = self._tally.of
        over = held[State.ANSWERED] + held[State.DROPPED] - self._limits.keep_results
        if over <= 0:
            return
        oldest = self._files.first.execute(
            "SELECT state, sequence FROM requests WHERE state IN (1, 3) ORDER BY sequence LIMIT ?",
            (over,),
        ).fetchall()
        for state, sequence in oldest:
            self._tally.forget(State(state), sequence, 0)
