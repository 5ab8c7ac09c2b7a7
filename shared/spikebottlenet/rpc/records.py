"""Inference records to and from their protobuf message."""

from spikebottlenet.accounting.record import InferenceRecord, LabelScore, LatencyMs, Source
from spikebottlenet.rpc.v1 import edge_pb2

_TO_MESSAGE = {
    Source.CLOUD: edge_pb2.SOURCE_CLOUD,
    Source.EDGE_EXIT: edge_pb2.SOURCE_EDGE_EXIT,
}
_FROM_MESSAGE = {value: source for source, value in _TO_MESSAGE.items()}

_SAME = (
    "label",
    "confidence",
    "timesteps",
    "payload_bytes",
    "message_bytes",
    "wire_bytes_up",
    "wire_bytes_down",
    "spikes",
    "firing_rate",
    "edge_macs",
    "edge_accumulates",
    "edge_compute_uj",
    "edge_radio_uj",
    "ann_head_uj",
    "cloud_compute_uj",
    "request_id",
    "model",
)
_STAGES = ("preprocess", "head", "encode", "network", "queue", "tail", "total")


def pack_record(record: InferenceRecord) -> edge_pb2.InferenceRecord:
    """The message of a record."""
    return edge_pb2.InferenceRecord(
        **{name: getattr(record, name) for name in _SAME},
        top5=[
            edge_pb2.ClassScore(label=score.label, probability=score.probability)
            for score in record.top5
        ],
        source=_TO_MESSAGE[record.source],
        latency=edge_pb2.Latency(
            **{f"{stage}_ms": getattr(record.latency_ms, stage) for stage in _STAGES}
        ),
    )


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
