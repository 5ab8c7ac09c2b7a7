"""TLS of the web server, from the certificates that gRPC shows; changed files need no restart."""

import ssl
from pathlib import Path

from spikebottlenet.errors import ConfigError
from spikebottlenet.rpc.security import ServerSecurity
from spikebottlenet.rpc.watched import Watched


def server_context(security: ServerSecurity) -> ssl.SSLContext | None:
    """What visitors are shown; None without TLS.

    Raises:
        ConfigError: files that do not work.
    """
    cert, key, client_ca = security.cert, security.key, security.client_ca
    if cert is None or key is None:
        return None
    chain, private_key = cert, key
    paths = [path for path in (cert, key, client_ca) if path is not None]
    newest = Watched(paths, lambda: _context(chain, private_key, client_ca))
    context = newest.current()

    def show_newest(connection: ssl.SSLObject, *_: object) -> None:
        connection.context = newest.current()

    context.sni_callback = show_newest  # called at each handshake, with a name or without
    return context


def _context(cert: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")  # never asks at a terminal
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise ConfigError(f"{cert} and {key} cannot be used for TLS: {error}") from error
    return context
