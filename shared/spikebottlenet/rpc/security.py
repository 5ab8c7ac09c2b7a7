"""TLS, mutual TLS and tokens of both ends of a connection.

A server's certificates are read again when their files change, a channel's each time a channel is
made: neither needs a restart when they are renewed.
"""

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grpc

from spikebottlenet.errors import ConfigError
from spikebottlenet.rpc.tokens import SCHEME, read_client_token
from spikebottlenet.rpc.watched import Watched, read_file

CallMetadata = tuple[tuple[str, str], ...]

_ADVICE = (
    "add --tls-cert FILE --tls-key FILE, and --tokens FILE or --tls-client-ca FILE "
    "(`spikebottlenet certs` and `spikebottlenet token new` make them); or listen on 127.0.0.1; or "
    "say --insecure on a network that you trust"
)


@dataclass(frozen=True)
class ServerSecurity:
    """Who may enter a server, and how what is said there is kept private."""

    cert: Path | None = None  # PEM, the server's certificate and what it was signed by
    key: Path | None = None  # PEM, its private key
    client_ca: Path | None = None  # PEM; clients need a certificate signed by one of these
    tokens: Path | None = None  # file of hashed tokens; clients need one of them
    insecure: bool = False  # listen on any address whatever is missing above


@dataclass(frozen=True)
class ChannelSecurity:
    """How a client knows its server, and says who it is itself."""

    ca: Path | None = None  # PEM; turns TLS on, the server's certificate is signed by one of these
    cert: Path | None = None  # PEM, the client's certificate, for mutual TLS
    key: Path | None = None  # PEM, its private key
    token_file: Path | None = None  # holds the token alone
    insecure: bool = False  # a token may go over the network without TLS


PLAINTEXT = ChannelSecurity()


def server_credentials(security: ServerSecurity) -> grpc.ServerCredentials | None:
    """TLS of a server; None without.

    Raises:
        ConfigError: half of a pair, or files that do not work.
    """
    cert, key, client_ca = security.cert, security.key, security.client_ca
    _both("tls_cert", cert, "tls_key", key)
    if cert is None or key is None:
        if client_ca is not None:
            raise ConfigError(
                "tls_client_ca is set without TLS: set tls_cert and tls_key, or leave it out"
            )
        return None
    certificate, private_key = cert, key
    paths = [path for path in (cert, key, client_ca) if path is not None]
    shown = _Shown(Watched(paths, lambda: _read_pem(certificate, private_key, client_ca)))
    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        shown.first(), shown.changed, require_client_authentication=client_ca is not None
    )
    return credentials


class _Pem(NamedTuple):
    chain: bytes
    key: bytes
    client_ca: bytes | None


class _Shown:
    """The certificate that new connections see; gRPC asks at each handshake, from any thread."""

    def __init__(self, files: Watched[_Pem]) -> None:
        self._files = files
        self._now = files.current()

    def first(self) -> grpc.ServerCertificateConfiguration:
        """What to show from the start."""
        return _configuration(self._now)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What to show from now on; None for what is shown already."""
        pem = self._files.current()
        if pem is self._now:
            return None
        self._now = pem
        return _configuration(pem)  # made anew each time: gRPC's core takes it over


def _read_pem(cert: Path, key: Path, client_ca: Path | None) -> _Pem:
    chain, private_key = _pair(cert, key)
    return _Pem(chain, private_key, None if client_ca is None else _authorities(client_ca))


def _configuration(pem: _Pem) -> grpc.ServerCertificateConfiguration:
    configuration: grpc.ServerCertificateConfiguration = grpc.ssl_server_certificate_configuration(
        [(pem.key, pem.chain)], pem.client_ca
    )
    return configuration


def check_address(address: str, security: ServerSecurity) -> None:
    """Refuse to serve other machines without TLS and without knowing who they are.

    Raises:
        ConfigError: says what to add.
    """
    if security.insecure or is_loopback(address):
        return
    missing = []
    if security.cert is None:
        missing.append("no TLS")
    if security.tokens is None and security.client_ca is None:
        missing.append("no tokens and no client CA")
    if missing:
        raise ConfigError(
            f"{address} can be reached from other machines, and there is {' and '.join(missing)}: "
            f"{_ADVICE}"
        )


def is_loopback(address: str) -> bool:
    """Whether all that ``host:port`` stands for is this machine's own; an unknown name is not."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.removeprefix("dns:///").removeprefix("dns:")
    host = host.removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0].strip("[]")
    if not host:
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    hosts = [str(entry[4][0]).partition("%")[0] for entry in found]
    return all(ipaddress.ip_address(one).is_loopback for one in hosts)


def channel_credentials(security: ChannelSecurity, target: str) -> grpc.ChannelCredentials | None:
    """TLS of a channel to ``target``; None without.

    Raises:
        ConfigError: half of a pair, files that do not work, or a token that everyone on the way
            could read.
    """
    _both("the client's certificate", security.cert, "its key", security.key)
    if security.ca is None:
        if security.cert is not None:
            raise ConfigError(
                "a client certificate is set without TLS: name the CA of the server as well"
            )
        if security.token_file and not security.insecure and not is_loopback(target):
            raise ConfigError(
                f"the token would go to {target} in plain text: name the CA of the server to turn "
                "TLS on, or say insecure on a network that you trust"
            )
        return None
    roots, chain, key = _authorities(security.ca), None, None
    if security.cert is not None and security.key is not None:
        chain, key = _pair(security.cert, security.key)
    credentials: grpc.ChannelCredentials = grpc.ssl_channel_credentials(roots, key, chain)
    return credentials


def call_metadata(security: ChannelSecurity) -> CallMetadata:
    """What every call carries: the token, once a call and so once a stream.

    Raises:
        ConfigError: the token cannot be read.
    """
    if security.token_file is None:
        return ()
    return (("authorization", SCHEME + read_client_token(security.token_file)),)


def _both(one_name: str, one: Path | None, other_name: str, other: Path | None) -> None:
    if (one is None) != (other is None):
        there, missing = (one_name, other_name) if other is None else (other_name, one_name)
        raise ConfigError(f"{there} is set and {missing} is not: set both")


def _pair(cert: Path, key: Path) -> tuple[bytes, bytes]:
    """A certificate and its key, once they are known to belong together."""
    chain = read_file(cert, "a certificate in PEM (`spikebottlenet certs`)")
    private_key = read_file(key, "a private key in PEM (`spikebottlenet certs`)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")  # never asks at a terminal
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{cert} and {key} are not a certificate and its key without a password: {error}"
        ) from error
    return chain, private_key


def _authorities(path: Path) -> bytes:
    """CA certificates, once they are known to be some."""
    data = read_file(path, "CA certificates in PEM (`spikebottlenet certs`)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=data.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{path} holds no CA certificates in PEM: {error}") from error
    return data
