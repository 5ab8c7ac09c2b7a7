"""One image's record, from what the head made of it and whoever answered."""

from collections.abc import Sequence
from typing import NamedTuple

from edge_node.head_worker import EncodedImage
from edge_node.queue_rows import StoredAnswer
from spikebottlenet.accounting.energy import RadioProfile, compute_uj
from spikebottlenet.accounting.record import InferenceRecord, LabelScore, LatencyMs, Source
from spikebottlenet.bundle import Bundle
from spikebottlenet.rpc.chances import from_chances
from spikebottlenet.rpc.v1.coinference_pb2 import Prediction
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


def make_record(
    bundle: Bundle,
    radio: RadioProfile,
    encoded: EncodedImage,
    sending: Sending,
    answer: Answer,
    *,
    total_ms: float,
) -> InferenceRecord:
    """Answer and accounting of one image."""
    manifest, spikes = bundle.manifest, int(encoded.spikes.sum())
    names = manifest.class_names
    top5 = tuple(LabelScore(names[s.class_index], s.probability) for s in answer.best)
    return InferenceRecord(
        label=top5[0].label,
        confidence=top5[0].probability,
        top5=top5,
        source=answer.source,
        timesteps=answer.timesteps,
        payload_bytes=len(encoded.frame),
        message_bytes=sending.message_bytes,
        wire_bytes_up=sending.wire_bytes_up,
        wire_bytes_down=sending.wire_bytes_down,
        spikes=spikes,
        firing_rate=spikes / encoded.spikes.size,
        edge_macs=encoded.macs,
        edge_accumulates=encoded.accumulates,
        edge_compute_uj=compute_uj(encoded.macs, encoded.accumulates),
        edge_radio_uj=radio.send_uj(sending.wire_bytes_up),
        ann_head_uj=compute_uj(manifest.operations.ann_head_macs, 0),
        cloud_compute_uj=answer.cloud_compute_uj,
        latency_ms=LatencyMs(
            preprocess=encoded.preprocess_ms,
            head=encoded.head_ms,
            encode=encoded.encode_ms,
            network=answer.network_ms,
            queue=answer.queue_ms,
            tail=answer.tail_ms,
            total=total_ms,
        ),
        request_id=sending.request_id,
        model=bundle.model,
        fingerprint=bundle.fingerprint,
        stored=sending.stored,
    )
