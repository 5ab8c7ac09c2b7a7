"""What the durable queue is asked with and answers with."""

from typing import Literal, NamedTuple

from edge_node.queue_rows import State, StoredAnswer
from edge_node.queue_tally import Dropped


class QueueLimits(NamedTuple):
    """What a queue may hold; waiting and dead requests count."""

    max_bytes: int  # of spikes
    max_count: int
    max_age_s: float  # of a waiting one; 0: any
    when_full: Literal["reject", "drop_oldest"]
    keep_results: int  # answered and dropped ones that can still be asked for


class StoredRequest(NamedTuple):
    """One that waits for the cloud."""

    sequence: int
    key: bytes
    fingerprint: str
    model: str
    frame: bytes
    stored_unix_ms: int


class QueueResult(NamedTuple):
    """What became of a request."""

    sequence: int
    key: bytes
    state: State
    answer: StoredAnswer | None
    fingerprint: str
    model: str
    stored_unix_ms: int
    reason: str


class QueueCounts(NamedTuple):
    """What a queue holds."""

    waiting: int
    answered: int
    dead: int
    kept_bytes: int  # of spikes, waiting and dead
    dropped: dict[Dropped, int]  # ever
    mirrored: bool  # the copy is whole
