"""What a run of the load generator is asked to do; crosses to its processes."""

from dataclasses import dataclass
from enum import StrEnum

from spikebottlenet.rpc.security import PLAINTEXT, ChannelSecurity


class Target(StrEnum):
    """What is spoken to."""

    CLOUD = "cloud"  # a cloud-node: a checked stream an edge, frames
    EDGE = "edge"  # an edge-node: a stream a client, image files
    UNARY = "unary"  # the bench's own gRPC servers: a call an image file
    HTTP = "http"  # an HTTP server: a POST an image file, connections kept


@dataclass(frozen=True)
class Aim:
    """Where requests go and what they carry."""

    target: Target
    address: str  # host:port
    payloads: tuple[bytes, ...]  # frames or image files, sent in turns
    fingerprint: bytes = b""  # of the bundle, for a cloud-node
    deadline_ms: int = 0  # of each request, for daemons; 0: none, or the daemon's own
    path: str = "/predict"  # for HTTP
    content_type: str = "image/jpeg"  # for HTTP
    security: ChannelSecurity = PLAINTEXT
    throttled: bool = False  # edges hold back once a cloud-node refuses, as edge-node does


@dataclass(frozen=True)
class Pace:
    """How requests come: open loop at a rate, or closed loop with so many in flight."""

    seconds: float  # measured
    edges: int = 1  # each with a connection of its own
    rate: float = 0.0  # requests a second, Poisson; 0: closed loop
    in_flight: int = 1  # closed loop: of each edge
    warm_s: float = 1.0  # before what is measured
    seed: int = 0
    processes: int = 1
    patience_s: float = 30.0  # after the end, for answers that are still to come

    @property
    def whole_s(self) -> float:
        """Warm-up and measured time."""
        return self.warm_s + self.seconds
