"""One image's record, from what the head made of it and whoever answered."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from edge_node.head_worker import EncodedImage
from edge_node.queue_rows import StoredAnswer
from spikebottlenet.accounting.energy import RadioProfile, compute_uj
from spikebottlenet.accounting.record import InferenceRecord, LabelScore, Source
from spikebottlenet.bundle import Bundle
from spikebottlenet.rpc.chances import from_chances
from spikebottlenet.rpc.records import SOURCE_NUMBERS, unpack_record
from spikebottlenet.rpc.v1.coinference_pb2 import Prediction
from spikebottlenet.rpc.v1.edge_pb2 import ClassifyResponse
from spikebottlenet.rpc.v1.edge_pb2 import InferenceRecord as RecordMessage
from spikebottlenet.runtime.scores import Probabilities, best_classes


class Answer(NamedTuple):
    """What was answered, by whom, and what the cloud's part of it took."""

    classes: Sequence[int]  # indices, the most probable first
    probabilities: Sequence[float]  # of those
    source: Source
    timesteps: int  # that it rests on
    cloud_compute_uj: float = 0.0
    network_ms: float = 0.0
    queue_ms: float = 0.0
    tail_ms: float = 0.0


class Sending(NamedTuple):
    """How the spikes went, and under which name."""

    request_id: str  # stream id and sequence
    message_bytes: int
    wire_bytes_up: int = 0  # 0 if not sent when the answer was given
    wire_bytes_down: int = 0
    stored: bool = False


def cloud_answer(prediction: Prediction, *, waited_ms: float) -> Answer:
    """The cloud's prediction, which came after ``waited_ms``."""
    queue_ms, tail_ms = prediction.queue_us / 1e3, prediction.tail_us / 1e3
    return Answer(
        classes=prediction.classes,
        probabilities=from_chances(prediction.chances),
        source=Source.CLOUD,
        timesteps=prediction.timesteps,
        cloud_compute_uj=prediction.cloud_compute_uj,
        network_ms=max(0.0, waited_ms - queue_ms - tail_ms),
        queue_ms=queue_ms,
        tail_ms=tail_ms,
    )


def stored_answer(answer: StoredAnswer, *, waited_ms: float) -> Answer:
    """The cloud's answer to a stored request, which came while its client still waited."""
    return Answer(
        answer.classes, answer.probabilities, Source.CLOUD, answer.timesteps, network_ms=waited_ms
    )


def edge_exit_answer(probabilities: Probabilities, encoded: EncodedImage) -> Answer:
    """The edge exit's answer."""
    classes, best = zip(*best_classes(probabilities), strict=True)
    return Answer(classes, best, Source.EDGE_EXIT, len(encoded.spikes))


class Reply(NamedTuple):
    """What a client is answered."""

    response: ClassifyResponse  # with its record; on a stream it wants a sequence yet
    source: Source
    probabilities: Sequence[float]  # as they are; a message rounds them

    @property
    def message(self) -> RecordMessage:
        """The record in it."""
        return self.response.record

    def record(self) -> InferenceRecord:
        """The record that it was made of, which nobody waits for."""
        record = unpack_record(self.message)
        scores = zip(record.top5, self.probabilities, strict=True)
        top5 = tuple(LabelScore(score.label, probability) for score, probability in scores)
        return replace(record, confidence=top5[0].probability, top5=top5)


class Draft:
    """An image's record as far as the head made it.

    The message is begun while the cloud works: from its answer to the client's are the fewer steps.
    """

    def __init__(self, bundle: Bundle, radio: RadioProfile, encoded: EncodedImage) -> None:
        self._bundle = bundle
        self._radio = radio
        self._encoded = encoded
        self._response = ClassifyResponse()

    def begin(self) -> RecordMessage:
        """The message with what is known without an answer; done once."""
        message = self._response.record
        if not self._response.HasField("record"):
            encoded, bundle = self._encoded, self._bundle
            spikes = int(encoded.spikes.sum())
            message.payload_bytes = len(encoded.frame)
            message.spikes = spikes
            message.firing_rate = spikes / encoded.spikes.size
            message.edge_macs = encoded.macs
            message.edge_accumulates = encoded.accumulates
            message.edge_compute_uj = compute_uj(encoded.macs, encoded.accumulates)
            message.ann_head_uj = compute_uj(bundle.manifest.operations.ann_head_macs, 0)
            message.model = bundle.model
            message.fingerprint = bundle.fingerprint
            latency = message.latency
            latency.preprocess_ms = encoded.preprocess_ms
            latency.head_ms = encoded.head_ms
            latency.encode_ms = encoded.encode_ms
        return message

    def reply(self, answer: Answer, sending: Sending, *, total_ms: float) -> Reply:
        """The whole; a draft makes one."""
        message, names = self.begin(), self._bundle.manifest.class_names
        top5 = message.top5
        for index, probability in zip(answer.classes, answer.probabilities, strict=True):
            top5.add(label=names[index], probability=probability)
        message.label = names[answer.classes[0]]
        message.confidence = answer.probabilities[0]
        message.source = SOURCE_NUMBERS[answer.source]
        message.timesteps = answer.timesteps
        message.cloud_compute_uj = answer.cloud_compute_uj
        message.request_id = sending.request_id
        message.message_bytes = sending.message_bytes
        message.wire_bytes_up = sending.wire_bytes_up
        message.wire_bytes_down = sending.wire_bytes_down
        message.edge_radio_uj = self._radio.send_uj(sending.wire_bytes_up)
        message.stored = sending.stored
        latency = message.latency
        latency.network_ms = answer.network_ms
        latency.queue_ms = answer.queue_ms
        latency.tail_ms = answer.tail_ms
        latency.total_ms = total_ms
        return Reply(self._response, answer.source, answer.probabilities)
