"""``spikebottlenet certs``: a development CA and the certificates of a server and a client.

For anything larger use the CA that your organisation has; the daemons take any PEM files.
"""

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikebottlenet.errors import ConfigError

if TYPE_CHECKING:
    from spikebottlenet.cli.authority import PemFiles

_LOCAL = ("localhost", "127.0.0.1", "::1")
_PRIVATE = 0o600
_PUBLIC = 0o644


def certs(
    folder: Annotated[Path, typer.Argument(help="where ca, server and client .pem and .key go")],
    host: Annotated[
        list[str] | None,
        typer.Option(help="name or IP address of the server; again for more (default: this host)"),
    ] = None,
    client: Annotated[
        str | None, typer.Option(help="name of the client, as limits and logs know it")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="how long they are valid")] = 90,
    *,
    renew: Annotated[
        bool, typer.Option("--renew", help="new certificates from the CA that is there")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace all, the CA too")] = False,
) -> None:
    """Make a development CA, and certificates of a server and a client that it signed.

    Raises:
        ConfigError: files are there and neither --renew nor --force was said.
    """
    # The cryptography library takes its time to load: only this command waits for it.
    from spikebottlenet.cli.authority import (
        issue,
        names_in,
        new_authority,
        pem_files,
        read_authority,
    )

    folder.mkdir(parents=True, exist_ok=True)
    hosts, known_as = host or list(_LOCAL), client or "edge"
    if renew:
        authority = read_authority(folder)
        hosts = host or names_in(folder / "server.pem").hosts or hosts
        known_as = client or names_in(folder / "client.pem").name or known_as
    else:
        there = [path.name for path in _files(folder) if path.exists()]
        if there and not force:
            raise ConfigError(
                f"{folder} holds {', '.join(there)}: --renew makes new certificates from the CA "
                "there, --force makes all of them new"
            )
        authority = new_authority()
    lasts = datetime.timedelta(days=days)
    server_cert = issue(authority, "server", hosts=hosts, lasts=lasts)
    client_cert = issue(authority, known_as, hosts=(), lasts=lasts)
    if not renew:
        _save(folder / "ca", pem_files(authority))
    _save(folder / "server", pem_files(server_cert))
    _save(folder / "client", pem_files(client_cert))
    print(f"{folder}: ca, server ({', '.join(hosts)}), client ({known_as}), {days} days")


def _files(folder: Path) -> list[Path]:
    return [
        folder / f"{name}.{end}" for name in ("ca", "server", "client") for end in ("pem", "key")
    ]


def _save(stem: Path, pem: "PemFiles") -> None:
    # The key first: a daemon that looks between the two finds a pair that does not fit, keeps the
    # old one, and looks again when the certificate has changed too.
    _replace(stem.with_name(f"{stem.name}.key"), pem.key, _PRIVATE)
    _replace(stem.with_name(f"{stem.name}.pem"), pem.certificate, _PUBLIC)


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Write a file in one step, never readable by more than ``mode`` says."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)
    temporary.replace(path)
