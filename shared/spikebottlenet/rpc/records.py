"""Inference records from their protobuf message."""

from dataclasses import fields

from spikebottlenet.accounting.record import InferenceRecord, LabelScore, LatencyMs, Source
from spikebottlenet.rpc.v1 import edge_pb2

SOURCE_NUMBERS = {
    Source.CLOUD: edge_pb2.SOURCE_CLOUD,
    Source.EDGE_EXIT: edge_pb2.SOURCE_EDGE_EXIT,
}
_SOURCES = {value: source for source, value in SOURCE_NUMBERS.items()}

_STAGES = tuple(stage.name for stage in fields(LatencyMs))
_OWN_FORM = {"top5", "source", "latency_ms"}  # the other fields are the same on both sides
_SAME = tuple(f.name for f in fields(InferenceRecord) if f.name not in _OWN_FORM)


def unpack_record(message: edge_pb2.InferenceRecord) -> InferenceRecord:
    """The record of a message."""
    return InferenceRecord(
        **{name: getattr(message, name) for name in _SAME},
        top5=tuple(LabelScore(score.label, score.probability) for score in message.top5),
        source=_SOURCES[message.source],
        latency_ms=LatencyMs(
            **{stage: getattr(message.latency, f"{stage}_ms") for stage in _STAGES}
        ),
    )
