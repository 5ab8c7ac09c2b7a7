"""What an edge counts for Prometheus: the sums of its records, and how it stands at a scrape."""

from typing import NamedTuple

from spikebottlenet.accounting.record import InferenceRecord, Source
from spikebottlenet.metrics.families import (
    DURATION_BOUNDS,
    Counter,
    Family,
    Histogram,
)

_MS_PER_S = 1e3
_UJ_PER_J = 1e6
_RATE_BOUNDS = tuple(step / 20 for step in range(1, 21))
_ESTIMATED = "estimated"


class Delivered(NamedTuple):
    """What the cloud's answer to one stored request took."""

    wire_bytes_up: int
    wire_bytes_down: int
    edge_radio_uj: float
    cloud_compute_uj: float


class EdgeMetrics:
    """Counts of one edge-node; written by the event loop alone."""

    def __init__(self) -> None:
        requests = Counter(
            "spikebottlenet_edge_requests",
            "Images by gRPC status code and by who answered; source is none for refused ones.",
            ("code", "source"),
        )
        stages = Histogram(
            "spikebottlenet_edge_stage_duration_seconds",
            "Duration of each stage of answered images; network, queue and tail where the cloud "
            "answered.",
            DURATION_BOUNDS,
            ("stage",),
        )
        total = Histogram(
            "spikebottlenet_edge_request_duration_seconds",
            "From an image's arrival to its answer.",
            DURATION_BOUNDS,
        )
        rate = Histogram(
            "spikebottlenet_edge_firing_rate_ratio",
            "Spikes a site a timestep at the cut, by image.",
            _RATE_BOUNDS,
        )
        payload = Counter("spikebottlenet_edge_payload_bytes", "Spike frames of answered images.")
        message = Counter("spikebottlenet_edge_message_bytes", "Protobuf messages around them.")
        wire = Counter(
            "spikebottlenet_edge_wire_bytes",
            "Answered images' share of the wire, by the framing model; up is to the cloud.",
            ("direction",),
        )
        energy = Counter(
            "spikebottlenet_edge_energy_joules",
            "Energy of answered images by part: edge_compute, edge_radio, cloud_compute.",
            ("part", "method"),
        )
        ordinary = Counter(
            "spikebottlenet_edge_ordinary_head_energy_joules",
            "What the same layers would have cost as an ordinary network; not spent.",
            ("method",),
        )
        operations = Counter("spikebottlenet_edge_operations", "Operations of the head.", ("kind",))
        spikes = Counter("spikebottlenet_edge_spikes", "Spikes at the cut of answered images.")
        delivered = Counter("spikebottlenet_edge_delivered_requests", "Stored requests answered.")
        delivered_wire = Counter(
            "spikebottlenet_edge_delivered_wire_bytes",
            "Their share of the wire, by the framing model; in no record.",
            ("direction",),
        )
        delivered_energy = Counter(
            "spikebottlenet_edge_delivered_energy_joules",
            "Energy of their delivery and answer by part; in no record.",
            ("part", "method"),
        )
        reconnects = Counter(
            "spikebottlenet_edge_reconnects", "Streams to the cloud after each model's first."
        )
        self.families: list[Family] = [
            *(requests, stages, total, rate, payload, message, wire, energy, ordinary),
            *(operations, spikes, delivered, delivered_wire, delivered_energy, reconnects),
        ]
        self._requests = requests
        self._answered = {source: requests.of("OK", source.value) for source in Source}
        self._preprocess, self._head, self._encode = (
            stages.of(stage) for stage in ("preprocess", "head", "encode")
        )
        self._network, self._queue, self._tail = (
            stages.of(stage) for stage in ("network", "queue", "tail")
        )
        self._total, self._rate = total.of(), rate.of()
        self._payload, self._message, self._spikes = payload.of(), message.of(), spikes.of()
        self._wire_up, self._wire_down = wire.of("up"), wire.of("down")
        self._compute, self._radio, self._cloud = (
            energy.of(part, _ESTIMATED) for part in ("edge_compute", "edge_radio", "cloud_compute")
        )
        self._ordinary = ordinary.of(_ESTIMATED)
        self._macs, self._accumulates = operations.of("mac"), operations.of("accumulate")
        self._delivered = delivered.of()
        self._delivered_up, self._delivered_down = (
            delivered_wire.of("up"),
            delivered_wire.of("down"),
        )
        self._delivered_radio = delivered_energy.of("edge_radio", _ESTIMATED)
        self._delivered_cloud = delivered_energy.of("cloud_compute", _ESTIMATED)
        self._reconnects = reconnects.of()

    def answered(self, record: InferenceRecord) -> None:
        """Count one answered image."""
        took = record.latency_ms
        self._answered[record.source].value += 1
        self._preprocess.observe(took.preprocess / _MS_PER_S)
        self._head.observe(took.head / _MS_PER_S)
        self._encode.observe(took.encode / _MS_PER_S)
        if record.source is Source.CLOUD:
            self._network.observe(took.network / _MS_PER_S)
            self._queue.observe(took.queue / _MS_PER_S)
            self._tail.observe(took.tail / _MS_PER_S)
        self._total.observe(took.total / _MS_PER_S)
        self._rate.observe(record.firing_rate)
        self._payload.value += record.payload_bytes
        self._message.value += record.message_bytes
        self._wire_up.value += record.wire_bytes_up
        self._wire_down.value += record.wire_bytes_down
        self._compute.value += record.edge_compute_uj / _UJ_PER_J
        self._radio.value += record.edge_radio_uj / _UJ_PER_J
        self._cloud.value += record.cloud_compute_uj / _UJ_PER_J
        self._ordinary.value += record.ann_head_uj / _UJ_PER_J
        self._macs.value += record.edge_macs
        self._accumulates.value += record.edge_accumulates
        self._spikes.value += record.spikes

    def refused(self, code: str) -> None:
        """Count one image that got no answer, by the name of its status code."""
        self._requests.of(code, "none").value += 1

    def delivered(self, one: Delivered) -> None:
        """Count one stored request that the cloud has answered."""
        self._delivered.value += 1
        self._delivered_up.value += one.wire_bytes_up
        self._delivered_down.value += one.wire_bytes_down
        self._delivered_radio.value += one.edge_radio_uj / _UJ_PER_J
        self._delivered_cloud.value += one.cloud_compute_uj / _UJ_PER_J

    def reconnected(self) -> None:
        """Count a stream to the cloud that is not the first."""
        self._reconnects.value += 1
