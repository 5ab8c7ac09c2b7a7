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
    message_bytes: int
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
        if self._opening.brief:
            response = leave_out(response, self._usual)
        elif self._opening.checked:
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

    async def next(self) -> Departure | None:
        """What is to be written next; None after the last.

        The ``sent`` of what it carries is called while it is on its way.
        """
        while not self._waiting:
            if self._complete:
                return None
            self._some.clear()
            await self._some.wait()
        together = self._together()
        first = together[0].response
        if len(together) == 1:
            if self._opening.brief and self._opening.checked:
                self._check(first)
            message, answers = first, int(not first.HasField("drain"))
        else:
            responses = [one.response for one in together]
            if self._opening.brief:
                leave_out_repeated(responses)
            batch = AnswerBatch(answers=responses)
            if self._opening.checked:
                with_check(batch, self._opening.stream_id)
            message, answers = StreamResponse(batch=batch), len(together)
        self._account(message, together)
        return Departure(message, answers, together[-1].response)

    def _together(self) -> list[_Waiting]:
        """The first that waits, and those behind it that may share its message."""
        together = [self._waiting.popleft()]
        if not self._opening.batches or together[0].response.HasField("drain"):
            return together
        room = BATCH_BYTES - together[0].message_bytes
        while self._waiting and not fails_for_now(together[-1].response):
            room -= self._waiting[0].message_bytes
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

    def _account(self, message: StreamResponse, together: list[_Waiting]) -> None:
        alone = len(together) == 1
        size = message.ByteSize()
        self._ledger.count_down(size)
        parts = (
            [framed_bytes(size)]
            if alone
            else shares(size, [w.response.ByteSize() for w in together])
        )
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
