"""Settings of a daemon's listening side: who gets in, and how much each may take."""

from dataclasses import fields
from pathlib import Path

from pydantic import Field

from spikebottlenet.config import Settings
from spikebottlenet.rpc.limits import ServerLimits
from spikebottlenet.rpc.security import ServerSecurity

_USUAL = ServerLimits()


class ListeningSettings(Settings):
    """Settings that every daemon has for its own ports."""

    web_listen: str = Field("", description="host:port of live page and /metrics; '': none")

    tls_cert: str = Field(
        "", description="PEM file of the certificate shown to clients; '': no TLS"
    )
    tls_key: str = Field("", description="PEM file of that certificate's private key")
    tls_client_ca: str = Field(
        "", description="PEM file of CAs; clients need a certificate of one (mutual TLS)"
    )
    tokens: str = Field("", description="file of hashed tokens; clients need one of them")
    insecure: bool = Field(
        False, description="listen to other machines without TLS or without knowing who calls"
    )
    rate: float = Field(
        _USUAL.rate, ge=0, description="requests of one client, a second; 0: any number"
    )
    burst: int = Field(
        _USUAL.burst, ge=0, description="requests of one client at once; 0: a second's worth"
    )
    client_in_flight: int = Field(
        _USUAL.client_in_flight,
        ge=0,
        description="requests of one client unanswered; 0: any number",
    )
    client_calls: int = Field(
        _USUAL.client_calls, ge=1, description="calls (streams too) of one client open"
    )
    max_calls: int = Field(_USUAL.max_calls, ge=1, description="calls of all clients open")
    max_unary: int = Field(
        _USUAL.max_unary, ge=1, description="calls open whose one request is held in memory"
    )
    silent_s: float = Field(
        _USUAL.silent_s, gt=0, description="seconds until a call's first message, then it is ended"
    )
    stream_rate: float = Field(
        _USUAL.stream_rate,
        gt=0,
        description="streams of one client that begin, a second; others wait for their turn",
    )
    stream_burst: int = Field(
        _USUAL.stream_burst, ge=1, description="streams of one client that begin at once"
    )
    max_connections: int = Field(
        _USUAL.max_connections, ge=1, description="connections; never more than open files allow"
    )
    backlog: int = Field(
        _USUAL.backlog,
        ge=1,
        description="new connections that wait to be taken; others try again after a second",
    )
    max_streams: int = Field(
        _USUAL.max_streams, ge=1, description="calls of one connection open; more wait"
    )
    handshake_s: float = Field(
        _USUAL.handshake_s, gt=0, description="seconds that a new connection gets to say something"
    )
    idle_s: float = Field(
        _USUAL.idle_s, ge=1, description="seconds without a call after which a connection is closed"
    )
    max_metadata_bytes: int = Field(
        _USUAL.max_metadata_bytes, ge=1024, description="bytes of one call's headers"
    )

    def server_security(self) -> ServerSecurity:
        """Who may enter."""
        return ServerSecurity(
            cert=file_or_none(self.tls_cert),
            key=file_or_none(self.tls_key),
            client_ca=file_or_none(self.tls_client_ca),
            tokens=file_or_none(self.tokens),
            insecure=self.insecure,
        )

    def server_limits(self) -> ServerLimits:
        """How much clients may take."""
        return ServerLimits(**{one.name: getattr(self, one.name) for one in fields(ServerLimits)})


def file_or_none(name: str) -> Path | None:
    """The file that a setting names; '' names none."""
    return Path(name) if name else None
