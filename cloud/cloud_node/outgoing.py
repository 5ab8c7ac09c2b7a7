"""Answers on their way to one edge: those that are ready together leave in one message."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cloud_node.ordering import fails_for_now
from spikebottlenet.accounting.wire import WireLedger, framed_bytes, shares
from spikebottlenet.rpc.brief import leave_out, leave_out_repeated
from spikebottlenet.rpc.checks import with_check
from spikebottlenet.rpc.v1.coinference_pb2 import AnswerBatch, Open, Prediction, StreamResponse

log = logging.getLogger(__name__)

# A batch fits one HTTP/2 frame (16,384 bytes, RFC 9113, section 4.2), and its framing is little
# beside it long before.
BATCH_BYTES = 8192

Sent = Callable[[int], None]


class _Waiting(NamedTuple):
    response: StreamResponse
    most_bytes: int  # of it in a message
    sent: Sent


class Departure(NamedTuple):
    """One message, and what is in it."""

    message: StreamResponse
    answers: int  # 0: it carries none
    last: StreamResponse  # the same as the message, or the last one of a batch


class Outgoing:
    """What waits to be written on one stream."""

    def __init__(self, opening: Open, ledger: WireLedger, usual: Prediction) -> None:
        self._opening = opening
        self._usual = usual
        self._ledger = ledger
        self._waiting: deque[_Waiting] = deque()
        self._some = asyncio.Event()
        self._complete = self._closed = False

    def put(self, response: StreamResponse, sent: Sent = lambda _: None) -> None:
        """Have a response written; ``sent`` then gets its share of the wire, 0 if it never is.

        It is kept as it is: what is written may be a brief copy.
        """
        if self._closed:
            _say(sent, 0)
            return
        if self._opening.checked and not self._opening.brief:
            self._check(response)
        self._waiting.append(_Waiting(response, response.ByteSize(), sent))
        self._some.set()

    def complete(self) -> None:
        """Say that nothing more comes."""
        self._complete = True
        self._some.set()

    def close(self) -> None:
        """Write nothing more, whatever waits."""
        self._closed = True
        while self._waiting:
            _say(self._waiting.popleft().sent, 0)

    @property
    def waits(self) -> bool:
        """Whether something is to be written."""
        return bool(self._waiting)

    async def some(self) -> bool:
        """Wait until something has come to be written; False after the last.

        Another task may have taken it by then.
        """
        if not self._waiting and not self._complete:
            self._some.clear()
            await self._some.wait()
        return self.waits or not self._complete

    def take(self) -> Departure | None:
        """What is to be written next, if anything is.

        The ``sent`` of what it carries is called while it is on its way.
        """
        if not self._waiting:
            return None
        together = self._together()
        last = together[-1].response
        if len(together) > 1:
            return Departure(self._batch(together), len(together), last)
        return Departure(self._alone(together[0]), int(not last.HasField("drain")), last)

    def _alone(self, one: _Waiting) -> StreamResponse:
        message = one.response
        if self._opening.brief:
            message = StreamResponse()
            message.CopyFrom(one.response)
            leave_out(message, self._usual)
            if self._opening.checked:
                self._check(message)
        size = message.ByteSize()
        self._account(size, [one], [framed_bytes(size)])
        return message

    def _batch(self, together: Sequence[_Waiting]) -> StreamResponse:
        message = StreamResponse(batch=AnswerBatch())
        answers = message.batch.answers
        for one in together:
            answers.add().CopyFrom(one.response)
        if self._opening.brief:
            for answer in answers:
                leave_out(answer, self._usual)
            leave_out_repeated(answers)
        if self._opening.checked:
            with_check(message.batch, self._opening.stream_id)
        size = message.ByteSize()
        parts = shares(size, [answer.ByteSize() for answer in answers])
        self._account(size, together, parts)
        return message

    def _together(self) -> list[_Waiting]:
        """The first that waits, and those behind it that may share its message."""
        together = [self._waiting.popleft()]
        if not self._opening.batches or together[0].response.HasField("drain"):
            return together
        room = BATCH_BYTES - together[0].most_bytes
        while self._waiting and not fails_for_now(together[-1].response):
            room -= self._waiting[0].most_bytes
            if room < 0 or self._waiting[0].response.HasField("drain"):
                break
            together.append(self._waiting.popleft())
        return together

    def _check(self, response: StreamResponse) -> None:
        match response.WhichOneof("response"):
            case "prediction":
                with_check(response.prediction, self._opening.stream_id)
            case "failure":
                with_check(response.failure, self._opening.stream_id)

    def _account(self, size: int, together: Sequence[_Waiting], parts: Sequence[int]) -> None:
        self._ledger.count_down(size)
        asyncio.get_running_loop().call_soon(_tell, together, parts)


def _tell(together: Sequence[_Waiting], parts: Sequence[int]) -> None:
    """Tell each its share of the wire."""
    for one, share in zip(together, parts, strict=True):
        _say(one.sent, share)


def _say(sent: Sent, share: int) -> None:
    """Tell one; a mistake of ours there costs neither the others nor the answer anything."""
    try:
        sent(share)
    except Exception:
        log.exception("an answer was not accounted")
