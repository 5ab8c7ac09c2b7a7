"""A stored request's state as its message."""

from edge_node.queue_rows import State
from edge_node.queue_values import QueueResult
from spikebottlenet.rpc.v1.edge_pb2 import ClassScore, StoredResult

_STATES = {
    State.WAITING: StoredResult.STATE_WAITING,
    State.ANSWERED: StoredResult.STATE_ANSWERED,
    State.DEAD: StoredResult.STATE_DEAD,
    State.DROPPED: StoredResult.STATE_DROPPED,
}


def pack_result(result: QueueResult, request_id: str) -> StoredResult:
    """The message of what became of a stored request."""
    answer = result.answer
    scores = zip(answer.labels, answer.probabilities, strict=True) if answer else ()
    return StoredResult(
        position=result.sequence,
        request_id=request_id,
        request_key=result.key,
        state=_STATES[result.state],
        top5=[ClassScore(label=label, probability=probability) for label, probability in scores],
        timesteps=answer.timesteps if answer else 0,
        model=result.model,
        fingerprint=result.fingerprint,
        stored_unix_ms=result.stored_unix_ms,
        reason=result.reason,
    )
