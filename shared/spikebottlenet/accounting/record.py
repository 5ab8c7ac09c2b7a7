"""One record for each request, and running totals of them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple


class Source(StrEnum):
    """Who answered."""

    CLOUD = "cloud"
    EDGE_EXIT = "edge_exit"


class LabelScore(NamedTuple):
    """A class by name and its probability, 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True)
class LatencyMs:
    """Milliseconds by stage."""

    preprocess: float
    head: float
    encode: float
    network: float  # sent until answered, less queue and tail
    queue: float  # waited for the tail, in the cloud
    tail: float
    total: float  # in the edge, waiting for its own worker included


@dataclass(frozen=True)
class InferenceRecord:
    """Answer and accounting of one image. Energies are estimates, in microjoules."""

    label: str
    confidence: float  # probability of label, 0 to 1
    top5: tuple[LabelScore, ...]
    source: Source
    timesteps: int  # that the answer rests on
    payload_bytes: int  # spike frame, header and CRC included
    message_bytes: int  # protobuf message around it
    wire_bytes_up: int  # message, gRPC prefix and HTTP/2 frame header; 0 if never sent
    wire_bytes_down: int  # the answer's, alike
    spikes: int  # of the bottleneck, all timesteps
    firing_rate: float  # spikes a site a timestep
    edge_macs: int
    edge_accumulates: int  # from the spikes that fired
    edge_compute_uj: float
    edge_radio_uj: float  # the radio's tail left out
    ann_head_uj: float  # of the same layers as an ordinary network
    cloud_compute_uj: float  # 0 from the edge exit
    latency_ms: LatencyMs
    request_id: str  # stream id and sequence
    model: str  # bundle name and short fingerprint
    fingerprint: str  # of the bundle that answered, hexadecimal
    stored: bool = False  # spikes are in the durable queue; the cloud's answer comes later

    def as_json(self) -> dict[str, Any]:
        """Plain values in the order of the fields; ``top5`` as label and probability pairs."""
        top5 = [score._asdict() for score in self.top5]
        return vars(self) | {"top5": top5, "latency_ms": dict(vars(self.latency_ms))}


@dataclass
class Totals:
    """Sums over the answered requests of one process."""

    images: int = 0
    cloud_answers: int = 0
    edge_exit_answers: int = 0
    payload_bytes: int = 0
    message_bytes: int = 0
    wire_bytes_up: int = 0  # by the framing model
    wire_bytes_down: int = 0  # by the framing model
    edge_compute_uj: float = 0.0
    edge_radio_uj: float = 0.0
    ann_head_uj: float = 0.0
    cloud_compute_uj: float = 0.0

    def add(self, record: InferenceRecord) -> None:
        """Count one answered request."""
        self.images += 1
        self.cloud_answers += record.source is Source.CLOUD
        self.edge_exit_answers += record.source is Source.EDGE_EXIT
        self.payload_bytes += record.payload_bytes
        self.message_bytes += record.message_bytes
        self.wire_bytes_up += record.wire_bytes_up
        self.wire_bytes_down += record.wire_bytes_down
        self.edge_compute_uj += record.edge_compute_uj
        self.edge_radio_uj += record.edge_radio_uj
        self.ann_head_uj += record.ann_head_uj
        self.cloud_compute_uj += record.cloud_compute_uj
