"""The rows of the durable queue as they change, and the counts that follow them."""

from typing import Literal

from edge_node.queue_files import QueueFiles
from edge_node.queue_rows import INSERT, SET_META, Row, State, last_sequence, read_meta, read_rows

Dropped = Literal["full", "age"]
_DROPPED_KINDS: tuple[Dropped, ...] = ("full", "age")


class QueueTally:
    """Writes rows; its counts follow the group that is open."""

    def __init__(self, files: QueueFiles) -> None:
        self._files = files
        self.last = 0  # sequence given
        self.of = dict.fromkeys(State, 0)  # requests, by state
        self.kept_bytes = 0  # of spikes, waiting and dead
        self.dropped = dict.fromkeys(_DROPPED_KINDS, 0)  # ever
        self.reload()

    def reload(self) -> None:
        """Count afresh what the file holds."""
        first = self._files.first
        self.last = last_sequence(first)
        self.of = dict.fromkeys(State, 0)
        self.kept_bytes = 0
        grouped = "SELECT state, count(*), sum(frame_bytes) FROM requests GROUP BY state"
        for state, count, size in first.execute(grouped):
            self.of[State(state)] = count
            self.kept_bytes += size
        for why in _DROPPED_KINDS:
            self.dropped[why] = int(read_meta(first, f"dropped_{why}") or b"0")

    @property
    def kept(self) -> int:
        """Requests whose spikes are kept: waiting and dead."""
        return self.of[State.WAITING] + self.of[State.DEAD]

    def get(self, sequence: int) -> Row | None:
        """A request's row, if it is known."""
        found = read_rows(self._files.first, "WHERE sequence = ?", (sequence,))
        return found[0] if found else None

    def put(self, row: Row) -> None:
        """Write a row that takes no other's place."""
        self._files.write(INSERT, row.values)
        self.of[State(row.state)] += 1
        self.kept_bytes += row.frame_bytes

    def change(self, row: Row, state: State, *, answer: str = "", reason: str = "") -> None:
        """Give a row another state; spikes that nobody needs any more go."""
        self.of[State(row.state)] -= 1
        self.kept_bytes -= row.frame_bytes
        changed = row._replace(state=state, answer=answer, reason=reason)
        if state in (State.ANSWERED, State.DROPPED):
            changed = changed._replace(frame=b"", frame_bytes=0)
        self.put(changed)

    def drop(self, row: Row, why: Dropped, reason: str) -> None:
        """Give up a waiting request, counted."""
        self.change(row, State.DROPPED, reason=reason)
        self.dropped[why] += 1
        self._files.write(SET_META, (f"dropped_{why}", str(self.dropped[why]).encode()))

    def forget(self, state: State, sequence: int, frame_bytes: int) -> None:
        """Delete a row."""
        self._files.write("DELETE FROM requests WHERE sequence = ?", (sequence,))
        self.of[state] -= 1
        self.kept_bytes -= frame_bytes
