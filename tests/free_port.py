"""A port that nobody listens on yet."""

import socket


def free_port() -> str:
    """``host:port`` that a daemon started later can take."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
    return f"{host}:{port}"
