"""Inference records to and from their protobuf message."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from spikebottlenet.accounting.record import InferenceRecord, LabelScore, LatencyMs, Source
from spikebottlenet.rpc.v1 import edge_pb2

_TO_MESSAGE = {
    Source.CLOUD: edge_pb2.SOURCE_CLOUD,
    Source.EDGE_EXIT: edge_pb2.SOURCE_EDGE_EXIT,
}
_FROM_MESSAGE = {value: source for source, value in _TO_MESSAGE.items()}

_STAGES = tuple(stage.name for stage in fields(LatencyMs))
_OWN_FORM = {"top5", "source", "latency_ms"}  # the other fields are the same on both sides
_SAME = tuple(f.name for f in fields(InferenceRecord) if f.name not in _OWN_FORM)


def pack_record(message: edge_pb2.InferenceRecord, known: Mapping[str, Any]) -> None:
    """Put fields of a record into its message, one after another as they are known."""
    for name, value in known.items():
        match name:
            case "top5":
                for score in value:
                    message.top5.add(label=score.label, probability=score.probability)
            case "source":
                message.source = _TO_MESSAGE[value]
            case "latency_ms":
                latency = message.latency
                for stage in _STAGES:
                    setattr(latency, f"{stage}_ms", getattr(value, stage))
            case _:
                setattr(message, name, value)


def unpack_record(message: edge_pb2.InferenceRecord) -> InferenceRecord:
    """The record of a message."""
    return InferenceRecord(
        **{name: getattr(message, name) for name in _SAME},
        top5=tuple(LabelScore(score.label, score.probability) for score in message.top5),
        source=_FROM_MESSAGE[message.source],
        latency_ms=LatencyMs(
            **{stage: getattr(message.latency, f"{stage}_ms") for stage in _STAGES}
        ),
    )
