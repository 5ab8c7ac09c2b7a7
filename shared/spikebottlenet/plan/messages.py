"""Wire bytes of one image's request and answer on an open stream, as the daemons write them."""

from spikebottlenet.accounting.wire import framed_bytes
from spikebottlenet.rpc.chances import to_chances
from spikebottlenet.rpc.v1.coinference_pb2 import Prediction, StreamRequest, StreamResponse

# Two WINDOW_UPDATE frames of 13 bytes (RFC 9113, section 6.9), of stream and connection: gRPC
# writes them with the next message, each way, so they take their time on the link before it.
WINDOW_UPDATES_BYTES = 2 * 13

_TYPICAL_SEQUENCE = 9_999  # two bytes on the wire, as of images 128 to 16,383 of a stream


def request_bytes(frame: int) -> int:
    """Wire bytes of one image's request on an open stream, frame included."""
    message = StreamRequest(sequence=_TYPICAL_SEQUENCE, frame=bytes(frame), deadline_ms=2000)
    return on_stream(message.ByteSize())


def answer_bytes() -> int:
    """Wire bytes of its answer, a brief one."""
    prediction = Prediction(
        sequence=_TYPICAL_SEQUENCE,
        classes=range(5),
        chances=to_chances([0.2] * 5).tolist(),
        queue_us=100,
        tail_us=20_000,
        check=1,
    )
    return on_stream(StreamResponse(prediction=prediction).ByteSize())


def on_stream(message_bytes: int) -> int:
    """Wire bytes of one message on a stream that carries one at a time."""
    return framed_bytes(message_bytes) + WINDOW_UPDATES_BYTES
