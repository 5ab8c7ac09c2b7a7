"""The requests of one stream that have come whole, each until it is answered in its turn.

A request is answered once and its answer kept, so that an edge which lost the connection may send
it again. Its work belongs to the process, not to the stream: it ends even if the stream does not.
Every answer holds a place (credit) from its request's arrival until it is written, so that an edge
which never reads holds ``max_in_flight`` answers and no more.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable

import grpc

from cloud_node.answers import AnswerCache, RequestKey
from cloud_node.inference import CloudInference
from cloud_node.job import Job, Outcome, TailAnswer
from cloud_node.models import ServedModel
from cloud_node.ordering import Finish, Order, Turn, fails_for_now
from cloud_node.outgoing import Departure, Outgoing
from cloud_node.received import Received
from spikebottlenet.accounting.wire import WireLedger
from spikebottlenet.errors import SpikeBottleNetError, UnavailableError
from spikebottlenet.rpc.limits import current_client
from spikebottlenet.rpc.v1.coinference_pb2 import (
    Failure,
    Open,
    Prediction,
    StreamResponse,
)

log = logging.getLogger(__name__)

_LOST = grpc.StatusCode.UNAVAILABLE.value[0]

Answer = asyncio.Future[StreamResponse]


class _Request(Job):
    """A whole image to be answered."""

    __slots__ = ("_answered", "answer", "key", "received", "turn")

    def __init__(
        self,
        key: RequestKey,
        received: Received,
        deadline_s: float | None,
        turn: Turn,
        answered: "Callable[[_Request, Outcome], None]",
    ) -> None:
        super().__init__(received, deadline_s)
        self.key = key
        self.received = received
        self.turn = turn
        self.answer: Answer = asyncio.get_running_loop().create_future()
        self._answered = answered

    def _told(self, outcome: Outcome) -> None:
        self._answered(self, outcome)


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
        self.out = Outgoing(opening, ledger, inference.usual(model))
        self._credit = asyncio.Semaphore(inference.settings.max_in_flight)
        self._order = Order(ordered=opening.ordered)
        self._unanswered: dict[RequestKey, Answer] = {}  # of an ordered stream
        self._come: list[_Request] = []  # and not asked yet
        self.under_way = 0  # whose turn has not ended
        self._idle = asyncio.Event()  # there are none
        self._idle.set()

    async def room(self) -> None:
        """Wait until one more answer may be on its way."""
        await self._credit.acquire()

    def written(self, departure: Departure) -> bool:
        """Give the places of its answers back; whether the stream goes on."""
        for _ in range(departure.answers):
            self._credit.release()
        return not (self._order.ordered and fails_for_now(departure.last))

    async def all_answered(self) -> None:
        """Wait until none is under way."""
        await self._idle.wait()

    def known(self, sequence: int) -> Answer | None:
        """The answer to come or already there, of this stream or one before it."""
        return self._cache.get(self._key(sequence))

    def _key(self, sequence: int) -> RequestKey:
        return RequestKey(self._stream_id, sequence)

    def start(self, sequence: int, received: Received, deadline_s: float | None) -> None:
        """Have a whole image answered in its turn; the caller has waited for :meth:`room`."""
        key = self._key(sequence)
        request = _Request(key, received, deadline_s, self._turn(), self._answered)
        if not self._order.ended:
            self._cache.put(key, request.answer)
            if self._order.ordered:
                self._unanswered[key] = request.answer
        if not self._come:  # what comes at the same time counts as under way, and is asked together
            asyncio.get_running_loop().call_soon(self.ask)
        self._come.append(request)

    def ask(self) -> None:
        """Have those answered that have come, if nobody has done so yet."""
        if not self._come:
            return
        come, self._come = self._come, []
        begun = [request for request in come if self._begins(request)]
        try:
            client, stream = self._client.name, self._stream_id
            self._inference.ask(self._model, begun, client=client, stream=stream)
        except Exception as error:
            said = _said_of(error)
            for request in begun:
                request.settle(said)

    def _begins(self, request: _Request) -> bool:
        """Whether its client may have it answered now; else it is refused."""
        try:
            self._client.begin_request()
        except Exception as error:
            self._settle(request, _said_of(error))
            return False
        return True

    def _answered(self, request: _Request, outcome: Outcome) -> None:
        self._client.end_request()
        said: StreamResponse | SpikeBottleNetError
        if isinstance(outcome, TailAnswer):
            try:
                said = StreamResponse()
                prediction, received = said.prediction, request.received
                prediction.sequence = request.key.sequence
                self._inference.write(
                    prediction, self._model, received, outcome, arrived=request.arrived
                )
            except Exception as error:
                said = _said_of(error)
        else:
            said = _said_of(outcome)
        self._settle(request, said)

    def _settle(self, request: _Request, outcome: StreamResponse | SpikeBottleNetError) -> None:
        """Answer a request once its turn has come."""

        def give(in_turn: bool) -> StreamResponse:
            answered = outcome
            if not in_turn and isinstance(outcome, StreamResponse):
                answered = UnavailableError("one before it failed: send again from that one on")
            if self._order.ordered:
                self._unanswered.pop(request.key, None)
            try:
                if isinstance(answered, StreamResponse):
                    response = answered
                    self._respond(request.received, response)
                else:
                    self._cache.forget(request.key, request.answer)
                    response = self._refuse(request.key.sequence, answered, sent=in_turn)
            except BaseException:
                self._cache.forget(request.key, request.answer)
                request.answer.cancel()
                raise
            request.answer.set_result(response)
            return response

        self._end(request.turn, give)

    def repeat(self, sequence: int, known: Answer) -> None:
        """Answer a request as it was answered before, or once it is."""
        turn = self._turn()

        def give(in_turn: bool) -> StreamResponse:
            if known.cancelled():
                lost = UnavailableError("its answer was lost inside this cloud-node: send it again")
                return self._refuse(sequence, lost, sent=in_turn)
            response = known.result()
            if in_turn:
                self.out.put(response)
            else:
                self._credit.release()
            return response

        known.add_done_callback(lambda _: self._end(turn, give))

    def fail(self, sequence: int, error: SpikeBottleNetError) -> None:
        """Answer a request in its turn that cannot be computed."""
        self._end(self._turn(), lambda in_turn: self._refuse(sequence, error, sent=in_turn))

    def give_early(self, received: Received, prediction: Prediction) -> None:
        """Answer a request before all of it has come."""
        answer: Answer = asyncio.get_running_loop().create_future()
        self._cache.put(self._key(prediction.sequence), answer)
        response = StreamResponse(prediction=prediction)
        self._respond(received, response)
        answer.set_result(response)

    def _respond(self, received: Received, response: StreamResponse) -> None:
        def sent(wire_bytes: int) -> None:
            prediction = response.prediction
            self._inference.log_answer(
                self._model,
                f"{self._name}/{prediction.sequence}",
                received,
                prediction,
                client=self._client.name,
                wire_bytes_down=wire_bytes,
            )

        self.out.put(response, sent)

    def _refuse(self, sequence: int, error: SpikeBottleNetError, *, sent: bool) -> StreamResponse:
        failure = self._inference.refuse(f"{self._name}/{sequence}", sequence, error)
        response = StreamResponse(failure=failure)
        if sent:
            self.out.put(response)
        else:
            self._credit.release()
        return response

    def _turn(self) -> Turn:
        """A place among the answers; :meth:`_end` ends it."""
        if not self.under_way:
            self._idle.clear()
        self.under_way += 1
        self._inference.under_way += 1
        return self._order.turn()

    def _end(self, turn: Turn, give: Finish) -> None:
        """Have a turn end with an answer.

        If the stream ends with it, what that leaves unanswered may be sent again.
        """

        def finish(in_turn: bool) -> StreamResponse:
            try:
                response = give(in_turn)
            except Exception:  # a mistake of ours costs this request its answer, and no other
                log.exception("request was not answered")
                self._credit.release()
                response = StreamResponse(failure=Failure(code=_LOST))
            finally:
                self._ended()
            if self._order.ordered and fails_for_now(response):
                for key, answer in self._unanswered.items():
                    self._cache.forget(key, answer)
                self._unanswered.clear()
            return response

        turn.ends(finish)

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
