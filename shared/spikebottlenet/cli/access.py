"""Options of every command that connects: how the edge-node is known, and shown who calls."""

from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.rpc.security import ChannelSecurity

Ca = Annotated[
    Path | None,
    typer.Option(
        help="PEM file of CAs that the edge-node's certificate is of; turns TLS on",
        envvar="SPIKEBOTTLENET_CA",
    ),
]
Cert = Annotated[
    Path | None,
    typer.Option(help="PEM file of the certificate to show", envvar="SPIKEBOTTLENET_CERT"),
]
Key = Annotated[
    Path | None,
    typer.Option(help="PEM file of that certificate's key", envvar="SPIKEBOTTLENET_KEY"),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="file of the token to show", envvar="SPIKEBOTTLENET_TOKEN_FILE"),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="show a token to another machine without TLS")
]


def channel_security(
    ca: Path | None, cert: Path | None, key: Path | None, token_file: Path | None, insecure: bool
) -> ChannelSecurity:
    """What these options say."""
    return ChannelSecurity(ca=ca, cert=cert, key=key, token_file=token_file, insecure=insecure)
