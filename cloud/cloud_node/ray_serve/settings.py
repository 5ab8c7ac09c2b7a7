"""Settings of the cloud under Ray Serve: those of ``cloud-node`` that Ray can keep, and more."""

from pydantic import Field

from cloud_node.settings import CloudSettings
from spikebottlenet.errors import ConfigError

# What Ray's gRPC proxy does not do, and so must not be asked for in silence.
_NOT_BY_RAY = (
    *("tls_cert", "tls_key", "tls_client_ca", "web_listen", "trace_to"),
    *("rate", "burst", "client_in_flight", "client_calls", "max_calls", "max_unary", "silent_s"),
    *("stream_rate", "stream_burst", "max_connections", "backlog", "max_streams", "handshake_s"),
    *("idle_s", "max_metadata_bytes", "max_waiting_bytes", "max_queue_ms", "max_batch_ms"),
)


class RaySettings(CloudSettings):
    """How the cloud serves under Ray Serve."""

    listen: str = Field("0.0.0.0:50061", description="host:port; Ray listens on every address")
    web_listen: str = Field("", description="none here: Ray has its own dashboard and metrics")
    max_batch: int = Field(16, ge=1, description="images that one pass of the tail takes at most")
    http_port: int = Field(8000, ge=0, description="port of Ray Serve's own HTTP on 127.0.0.1")
    address: str = Field("", description="Ray cluster to join; '' starts one on this machine")
    replicas: int = Field(2, ge=1, description="replicas of the tails, at least")
    max_replicas: int = Field(0, ge=0, description="and at most, by load; 0: no more")
    # With one, edges answer by themselves until Ray has started another in its place.
    ingresses: int = Field(2, ge=1, description="replicas of the service before the tails")
    replica_cpus: float = Field(1.0, ge=0, description="processors that Ray counts for a tail")

    def checked(self) -> "RaySettings":
        """These settings, once they are known to be ones that Ray Serve can keep.

        Raises:
            ConfigError: one is not, or nobody said that the network is trusted.
        """
        fields = type(self).model_fields
        asked = [name for name in _NOT_BY_RAY if getattr(self, name) != fields[name].default]
        if asked:
            raise ConfigError(
                f"{', '.join(asked)}: Ray's gRPC proxy has nothing of that kind; leave it out, and "
                "put a proxy with TLS in front"
            )
        if not self.insecure:
            raise ConfigError(
                "Ray's gRPC proxy listens on every address of the machine without TLS: say "
                "--insecure on a network that you trust, and put a proxy with TLS in front "
                "elsewhere"
            )
        if not self.listen.startswith("0.0.0.0:"):
            raise ConfigError(
                f"listen is {self.listen}: Ray's gRPC proxy listens on every address and no one of "
                "them; say 0.0.0.0:PORT, and let a firewall keep others out"
            )
        if self.max_replicas and self.max_replicas < self.replicas:
            raise ConfigError(
                f"max_replicas is {self.max_replicas}, wanted {self.replicas} (replicas) or more"
            )
        return self
