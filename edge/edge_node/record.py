"""One image's record, from what the head made of it and whoever answered."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from edge_node.head_worker import EncodedImage
from edge_node.queue_rows import StoredAnswer
from spikebottlenet.accounting.energy import RadioProfile, compute_uj
from spikebottlenet.accounting.record import InferenceRecord, LabelScore, LatencyMs, Source
from spikebottlenet.bundle import Bundle
from spikebottlenet.rpc.chances import from_chances
from spikebottlenet.rpc.records import pack_record
from spikebottlenet.rpc.v1.coinference_pb2 import Prediction
from spikebottlenet.rpc.v1.edge_pb2 import InferenceRecord as RecordMessage
from spikebottlenet.runtime.scores import ClassScore, Probabilities, best_classes


class Answer(NamedTuple):
    """What was answered, by whom, and what the cloud's part of it took."""

    best: Sequence[ClassScore]  # best first
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
        best=_scores(prediction.classes, from_chances(prediction.chances)),
        source=Source.CLOUD,
        timesteps=prediction.timesteps,
        cloud_compute_uj=prediction.cloud_compute_uj,
        network_ms=max(0.0, waited_ms - queue_ms - tail_ms),
        queue_ms=queue_ms,
        tail_ms=tail_ms,
    )


def stored_answer(answer: StoredAnswer, *, waited_ms: float) -> Answer:
    """The cloud's answer to a stored request, which came while its client still waited."""
    best = _scores(answer.classes, answer.probabilities)
    return Answer(best, Source.CLOUD, answer.timesteps, network_ms=waited_ms)


def edge_exit_answer(probabilities: Probabilities, encoded: EncodedImage) -> Answer:
    """The edge exit's answer."""
    return Answer(best_classes(probabilities), Source.EDGE_EXIT, len(encoded.spikes))


def _scores(classes: Sequence[int], probabilities: Sequence[float]) -> list[ClassScore]:
    return [ClassScore(*score) for score in zip(classes, probabilities, strict=True)]


class Reply(NamedTuple):
    """What a client is answered, and the record that it was made of."""

    message: RecordMessage
    source: Source
    fields: dict[str, Any]  # of the record

    def record(self) -> InferenceRecord:
        """The record, which nobody waits for."""
        return InferenceRecord(**self.fields)


class Draft:
    """An image's record as far as the head made it.

    The message is begun while the cloud works: from its answer to the client's are the fewer steps.
    """

    def __init__(self, bundle: Bundle, radio: RadioProfile, encoded: EncodedImage) -> None:
        self._bundle = bundle
        self._radio = radio
        self._encoded = encoded
        self._message: RecordMessage | None = None
        self._known: dict[str, Any] = {}

    def begin(self) -> RecordMessage:
        """The message with what is known without an answer; done once."""
        if self._message is None:
            encoded, manifest = self._encoded, self._bundle.manifest
            spikes = int(encoded.spikes.sum())
            self._known = {
                "payload_bytes": len(encoded.frame),
                "spikes": spikes,
                "firing_rate": spikes / encoded.spikes.size,
                "edge_macs": encoded.macs,
                "edge_accumulates": encoded.accumulates,
                "edge_compute_uj": compute_uj(encoded.macs, encoded.accumulates),
                "ann_head_uj": compute_uj(manifest.operations.ann_head_macs, 0),
                "model": self._bundle.model,
                "fingerprint": self._bundle.fingerprint,
            }
            message = RecordMessage()
            pack_record(message, self._known)
            self._message = message
        return self._message

    def reply(self, answer: Answer, sending: Sending, *, total_ms: float) -> Reply:
        """The whole; a draft makes one."""
        message, encoded = self.begin(), self._encoded
        names = self._bundle.manifest.class_names
        top5 = tuple(LabelScore(names[s.class_index], s.probability) for s in answer.best)
        last = {
            "label": top5[0].label,
            "confidence": top5[0].probability,
            "top5": top5,
            "source": answer.source,
            "timesteps": answer.timesteps,
            "message_bytes": sending.message_bytes,
            "wire_bytes_up": sending.wire_bytes_up,
            "wire_bytes_down": sending.wire_bytes_down,
            "edge_radio_uj": self._radio.send_uj(sending.wire_bytes_up),
            "cloud_compute_uj": answer.cloud_compute_uj,
            "latency_ms": LatencyMs(
                preprocess=encoded.preprocess_ms,
                head=encoded.head_ms,
                encode=encoded.encode_ms,
                network=answer.network_ms,
                queue=answer.queue_ms,
                tail=answer.tail_ms,
                total=total_ms,
            ),
            "request_id": sending.request_id,
            "stored": sending.stored,
        }
        pack_record(message, last)
        return Reply(message, answer.source, self._known | last)
