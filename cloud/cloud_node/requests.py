"""The requests of one stream that have come whole, each until it is answered in its turn.

A request is answered once and its answer kept, so that an edge which lost the connection may send
it again. Its work belongs to the process, not to the stream: it ends even if the stream does not.
Every answer holds a place (credit) from its request's arrival until it is written, so that an edge
which never reads holds ``max_in_flight`` answers and no more.
"""

import asyncio
import logging
import uuid
from collections.abc import Coroutine
from functools import partial
from typing import NamedTuple

from cloud_node.answers import AnswerCache, RequestKey
from cloud_node.inference import CloudInference
from cloud_node.models import ServedModel
from cloud_node.ordering import Order, Turn, fails_for_now
from cloud_node.outgoing import Departure, Outgoing
from cloud_node.received import Received
from cloud_node.waiting import TailAnswer
from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.errors import OverloadedError, SpikeBottleNetError, UnavailableError
from spikebottlenet.rpc.limits import current_client
from spikebottlenet.rpc.v1.coinference_pb2 import Drain, Open, Prediction, StreamResponse

log = logging.getLogger(__name__)

Answer = asyncio.Future[StreamResponse]


class _Request(NamedTuple):
    """A whole image to be answered."""

    key: RequestKey
    received: Received
    deadline_s: float | None
    turn: Turn
    answer: Answer


class Requests:
    """Answers them; callers take a place by :meth:`room` before each."""

    def __init__(
        self,
        opening: Open,
        model: ServedModel,
        inference: CloudInference,
        cache: AnswerCache,
        ledger: WireLedger,
    ) -> None:
        self._model = model
        self._stream_id = opening.stream_id
        self._name = str(uuid.UUID(bytes=opening.stream_id))
        self._inference = inference
        self._client = current_client()
        self._cache = cache
        self._out = Outgoing(opening, ledger, inference.usual(model))
        self._credit = asyncio.Semaphore(inference.settings.max_in_flight)
        self._order = Order(ordered=opening.ordered)
        self._unanswered: dict[RequestKey, Answer] = {}
        self.under_way = 0  # whose turn has not ended
        self._idle = asyncio.Event()  # there are none
        self._idle.set()

    async def room(self) -> None:
        """Wait until one more answer may be on its way."""
        await self._credit.acquire()

    def departure(self) -> Coroutine[None, None, Departure | None]:
        """What is to be written next; None after the last."""
        return self._out.next()

    def written(self, departure: Departure) -> bool:
        """Give the places of its answers back; whether the stream goes on."""
        for _ in range(departure.answers):
            self._credit.release()
        return not (self._order.ordered and fails_for_now(departure.last))

    def drain(self) -> None:
        """Tell the edge to send nothing new."""
        self._out.put(StreamResponse(drain=Drain()))

    async def all_answered(self) -> None:
        """Wait until none is under way."""
        await self._idle.wait()

    def complete(self) -> None:
        """Say that no more come."""
        self._out.complete()

    def close(self) -> None:
        """Write nothing more, whatever is answered yet."""
        self._out.close()

    def start(self, key: RequestKey, received: Received, deadline_s: float | None) -> None:
        """Have a whole image answered in its turn, which has its credit."""
        loop = asyncio.get_running_loop()
        request = _Request(key, received, deadline_s, self._turn(), loop.create_future())
        if not self._order.ended:
            self._cache.put(key, request.answer)
            self._unanswered[key] = request.answer
        loop.call_soon(self._ask, request)  # once all that has come with it is known to be there

    def _ask(self, request: _Request) -> None:
        try:
            self._client.begin_request()
        except OverloadedError as error:
            request.turn.ends(partial(self._give, request, error))
            return
        try:
            asked = self._inference.ask(
                self._model,
                request.received,
                deadline_s=request.deadline_s,
                stream=self._stream_id,
            )
        except Exception as error:
            self._client.end_request()
            request.turn.ends(partial(self._give, request, _said_of(error)))
        else:
            asked.add_done_callback(partial(self._answered, request))

    def _answered(self, request: _Request, asked: "asyncio.Future[TailAnswer]") -> None:
        self._client.end_request()
        if asked.cancelled():  # this process ends
            self._cache.forget(request.key, request.answer)
            request.answer.cancel()
            self._ended()
            return
        outcome: Prediction | SpikeBottleNetError
        try:
            outcome = self._inference.prediction(
                self._model, request.received, request.key.sequence, asked.result()
            )
        except Exception as error:
            outcome = _said_of(error)
        request.turn.ends(partial(self._give, request, outcome))

    def _give(
        self, request: _Request, outcome: Prediction | SpikeBottleNetError, in_turn: bool
    ) -> StreamResponse:
        """Answer a request whose turn it is."""
        if in_turn and isinstance(outcome, Prediction):
            response = self._respond(request.received, outcome)
        else:
            self._cache.forget(request.key, request.answer)
            if isinstance(outcome, Prediction):
                outcome = UnavailableError("one before it failed: send again from that one on")
            response = self._refuse(request.key.sequence, outcome, sent=in_turn)
        request.answer.set_result(response)
        self._unanswered.pop(request.key, None)
        return self._over_with(response)

    def repeat(self, known: Answer) -> None:
        """Answer a request as it was answered before, or once it is."""
        turn = self._turn()

        def give(in_turn: bool) -> StreamResponse:
            response = known.result()
            if in_turn:
                self._out.put(response)
            else:
                self._credit.release()
            return self._over_with(response)

        def found(_: Answer) -> None:
            if known.cancelled():  # this process ends
                self._ended()
            else:
                turn.ends(give)

        known.add_done_callback(found)

    def fail(self, sequence: int, error: SpikeBottleNetError) -> None:
        """Answer a request in its turn that cannot be computed."""

        def refuse(in_turn: bool) -> StreamResponse:
            return self._over_with(self._refuse(sequence, error, sent=in_turn))

        self._turn().ends(refuse)

    def give_early(self, key: RequestKey, received: Received, prediction: Prediction) -> None:
        """Answer a request before all of it has come."""
        answer: Answer = asyncio.get_running_loop().create_future()
        self._cache.put(key, answer)
        answer.set_result(self._respond(received, prediction))

    def _respond(self, received: Received, prediction: Prediction) -> StreamResponse:
        response = StreamResponse(prediction=prediction)

        def sent(wire_bytes: int) -> None:
            self._inference.log_answer(
                self._model.bundle,
                f"{self._name}/{prediction.sequence}",
                received,
                prediction,
                wire_bytes_down=wire_bytes,
            )

        self._out.put(response, sent)
        return response

    def _refuse(self, sequence: int, error: SpikeBottleNetError, *, sent: bool) -> StreamResponse:
        failure = self._inference.refuse(f"{self._name}/{sequence}", sequence, error)
        response = StreamResponse(failure=failure)
        if sent:
            self._out.put(response)
        else:
            self._credit.release()
        return response

    def _turn(self) -> Turn:
        """A place among the answers; :meth:`_ended` ends it."""
        self.under_way += 1
        self._inference.under_way += 1
        self._idle.clear()
        return self._order.turn()

    def _over_with(self, response: StreamResponse) -> StreamResponse:
        """End a turn; if the stream ends with it, what it leaves unanswered may be sent again."""
        if self._order.ordered and fails_for_now(response):
            for key, answer in self._unanswered.items():
                self._cache.forget(key, answer)
            self._unanswered.clear()
        self._ended()
        return response

    def _ended(self) -> None:
        self.under_way -= 1
        self._inference.under_way -= 1
        if not self.under_way:
            self._idle.set()


def _said_of(error: Exception) -> SpikeBottleNetError:
    """What a request is answered that failed with this."""
    if isinstance(error, SpikeBottleNetError):
        return error
    # A mistake of ours costs this request a try, and no other anything.
    log.error("request failed", exc_info=error)
    return UnavailableError("the request failed inside this cloud-node: send it again")
