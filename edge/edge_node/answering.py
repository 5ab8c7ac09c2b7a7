"""One image to its record: head, then the cloud in time or the edge exit, or the queue."""

import asyncio
import logging
import time
from typing import NamedTuple

from edge_node.head_worker import EncodedImage, HeadWorker
from edge_node.models import ServedModel, ServedModels
from edge_node.record import (
    Answer,
    Draft,
    Reply,
    Sending,
    cloud_answer,
    edge_exit_answer,
    stored_answer,
)
from edge_node.settings import EdgeSettings
from edge_node.store import Store
from spikebottlenet.accounting.energy import RADIO_PROFILES
from spikebottlenet.errors import (
    ModelMismatchError,
    OverloadedError,
    SpikeBottleNetError,
    StoreError,
    UnavailableError,
)
from spikebottlenet.logs import fields
from spikebottlenet.rpc.chances import CERTAIN
from spikebottlenet.tracing import NO_SPAN, Span

log = logging.getLogger(__name__)

# Kept of a deadline for the edge exit and the way back to the client.
_RESERVE = 0.1  # of the deadline
_MAX_RESERVE_S = 0.1


class Wanted(NamedTuple):
    """What a client asks for."""

    image: bytes
    arrived: float  # monotonic seconds
    deadline: float  # monotonic seconds
    store: bool = False
    key: bytes = b""
    model: str = ""
    span: Span = NO_SPAN


class Answered(NamedTuple):
    """A reply, why it is not the cloud's if it is not, and what it was made from."""

    reply: Reply
    cloud_missing: str
    encoded: EncodedImage
    model: ServedModel


class _Image(NamedTuple):
    """An image that the head has run."""

    wanted: Wanted
    model: ServedModel
    encoded: EncodedImage
    draft: Draft
    alone: bool  # no other was under way when it came


class _Outcome(NamedTuple):
    answer: Answer
    sending: Sending
    cloud_missing: str = ""


class Answering:
    """Answers images by whichever model they want."""

    def __init__(
        self, models: ServedModels, settings: EdgeSettings, worker: HeadWorker, store: Store
    ) -> None:
        self._models = models
        self._settings = settings
        self._worker = worker
        self._store = store
        self._radio = RADIO_PROFILES[settings.radio]
        self._under_way = 0  # images without an answer
        self.not_stored = 0  # images that the settings would have stored, and the disk did not

    async def answer(self, wanted: Wanted) -> Answered:
        """Answer by the deadline: the cloud's answer, else the edge exit's.

        Raises:
            ImageError, TooLargeError, BundleError: the image or the model asked for.
            OverloadedError, DeadlineError: the head has no time for it.
            ModelMismatchError: the cloud does not serve this model.
            StoreError: it was to be stored, and could not be.
        """
        self._under_way += 1
        try:
            return await self._answer(wanted, alone=self._under_way == 1)
        finally:
            self._under_way -= 1

    async def _answer(self, wanted: Wanted, *, alone: bool) -> Answered:
        with self._models.find(wanted.model) as model:
            encoded = await self._worker.encode(
                model.head, wanted.image, deadline=wanted.deadline, alone=alone
            )
            _trace_stages(wanted.span, encoded)
            draft = Draft(model.bundle, self._radio, encoded)
            outcome = await self._decide(_Image(wanted, model, encoded, draft, alone))
            total_ms = 1e3 * (time.monotonic() - wanted.arrived)
            reply = draft.reply(outcome.answer, outcome.sending, total_ms=total_ms)
        return Answered(reply, outcome.cloud_missing, encoded, model)

    async def _decide(self, image: _Image) -> _Outcome:
        if image.wanted.store:
            sequence = await self._keep(image)
            return _Outcome(_exit_answer(image), self._stored(sequence), "stored for delivery")
        if self._settings.store == "always":
            kept = await self._try_store(image)
            if kept is not None:
                return await self._wait_for_delivery(kept, image)
        live = await self._live(image)
        if live.cloud_missing and self._settings.store == "on_failure":
            kept = await self._try_store(image)
            if kept is not None:
                return live._replace(sending=self._stored(kept))
        return live

    async def _live(self, image: _Image) -> _Outcome:
        wanted, model = image.wanted, image.model
        latest = _latest(wanted)
        if self._settings.store == "on_failure":  # there is a disk to be written yet
            latest -= min(_RESERVE * (latest - wanted.arrived), _MAX_RESERVE_S)
        exchange = model.link.new_exchange(
            image.encoded.frame, deadline=latest, traceparent=wanted.span.traceparent
        )
        sent = time.monotonic()
        missing = ""
        try:
            prediction = await model.link.infer(
                exchange, meanwhile=image.draft.begin, alone=image.alone
            )
            if max(prediction.classes) >= len(model.bundle.manifest.class_names):
                raise UnavailableError("the cloud's answer is of another model's classes")
            if max(prediction.chances) > CERTAIN:
                raise UnavailableError("the cloud's answer has probabilities that are none")
            answer = cloud_answer(prediction, waited_ms=1e3 * (time.monotonic() - sent))
        except ModelMismatchError:
            raise  # a mistake of whoever set this up; the exit would hide it
        except SpikeBottleNetError as reason:  # whatever keeps the cloud from answering
            missing = str(reason)
            answer = _exit_answer(image)
        wanted.span.part("exchange", sent, time.monotonic())
        sending = Sending(
            request_id=exchange.request_id,
            message_bytes=exchange.message_bytes,
            wire_bytes_up=exchange.wire_bytes_up,
            wire_bytes_down=exchange.wire_bytes_down,
        )
        return _Outcome(answer, sending, missing)

    async def _keep(self, image: _Image) -> int:
        """Store its spikes; the sequence that they have there."""
        return await self._store.accept(image.wanted.key, image.encoded.frame, image.model.bundle)

    async def _try_store(self, image: _Image) -> int | None:
        left_s = max(0.0, image.wanted.deadline - time.monotonic())
        try:
            async with asyncio.timeout(left_s):
                return await self._keep(image)
        except (OverloadedError, StoreError) as error:
            reason = str(error)
        except TimeoutError:
            reason = "the disk was too slow for the deadline; it may be stored all the same"
        self.not_stored += 1
        log.error("not stored in time", extra=fields(reason=reason))
        return None

    async def _wait_for_delivery(self, sequence: int, image: _Image) -> _Outcome:
        queue = await self._store.queue()
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, _latest(image.wanted) - began)):
                answer = await queue.answer_of(sequence)
        except TimeoutError:
            missing = "stored; not delivered within the deadline"
            return _Outcome(_exit_answer(image), self._stored(sequence), missing)
        waited_ms = 1e3 * (time.monotonic() - began)
        return _Outcome(stored_answer(answer, waited_ms=waited_ms), self._stored(sequence))

    def _stored(self, sequence: int) -> Sending:
        return Sending(self._store.request_id(sequence), message_bytes=0, stored=True)


def _exit_answer(image: _Image) -> Answer:
    probabilities = image.model.head.exit_probabilities(image.encoded)
    return edge_exit_answer(probabilities, image.encoded)


def _trace_stages(span: Span, encoded: EncodedImage) -> None:
    began = encoded.began
    span.part("preprocess", began.preprocess, began.preprocess + encoded.preprocess_ms / 1e3)
    span.part("head", began.head, began.head + encoded.head_ms / 1e3)
    span.part("encode", began.encode, began.encode + encoded.encode_ms / 1e3)


def _latest(wanted: Wanted) -> float:
    """When waiting for the cloud has to end."""
    whole = wanted.deadline - wanted.arrived
    return wanted.deadline - min(_RESERVE * whole, _MAX_RESERVE_S)
