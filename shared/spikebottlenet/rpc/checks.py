"""Checks of a checked stream: no flipped bit changes an answer or whose it is, with TLS or without.

    check = CRC32C(stream_id + message without check, serialized)

TCP's own checksum misses about one damaged segment in 2^16, and a proxy that rewrites bytes makes a
new one (Stone and Partridge, "When the CRC and TCP checksum disagree", SIGCOMM 2000).
"""

import struct
from typing import TypeVar

import google_crc32c

from spikebottlenet.errors import CorruptFrameError
from spikebottlenet.rpc.v1.coinference_pb2 import (
    AnswerBatch,
    Failure,
    Open,
    Prediction,
    RequestBatch,
)

CheckedT = TypeVar("CheckedT", Open, Prediction, Failure, RequestBatch, AnswerBatch)


def frame_context(stream_id: bytes, sequence: int, *, more: bool, previous: int = 0) -> bytes:
    """What a frame of a checked stream is bound to.

    ``previous`` is the sequence before it on an ordered stream, 0 for the stream's first and on
    others: a request that got lost between two whole ones is missed.
    """
    return stream_id + struct.pack("<Q?Q", sequence, more, previous)


def with_check(message: CheckedT, stream_id: bytes) -> CheckedT:
    """The message with its check set."""
    message.check = 0
    message.check = _check(message, stream_id)
    return message


def verify_check(message: CheckedT, stream_id: bytes) -> None:
    """Refuse a message that was damaged on its way.

    Raises:
        CorruptFrameError: names both checks.
    """
    got, message.check = message.check, 0
    want = _check(message, stream_id)
    message.check = got
    if got != want:
        kind = message.DESCRIPTOR.name
        raise CorruptFrameError(f"{kind} has check {got:#010x}, computed {want:#010x}: resend it")


def _check(bare: CheckedT, stream_id: bytes) -> int:
    """Of a message whose check is 0: it is not serialized then."""
    return int(google_crc32c.value(stream_id + bare.SerializeToString(deterministic=True)))
