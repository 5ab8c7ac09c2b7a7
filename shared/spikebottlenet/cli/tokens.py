"""``spikebottlenet token``: who may call a daemon."""

import io
import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TextIO

import typer

from spikebottlenet.errors import ConfigError
from spikebottlenet.rpc.tokens import TokenEntry, entry_of, new_token, read_tokens

app = typer.Typer(no_args_is_help=True, help="Make, list and remove tokens of a daemon.")

TokensFile = Annotated[Path, typer.Option("--file", help="the daemon's file of hashed tokens")]
Name = Annotated[str, typer.Argument(help="whose token it is: letters, digits and ._@-")]

_DEFAULT = Path("tokens.txt")
_PRIVATE = 0o600


@app.command()
def new(name: Name, file: TokensFile = _DEFAULT) -> None:
    """Make a token, print it once and add its hash to the file; running daemons take it at once."""
    token = new_token()
    entry = entry_of(name, token)
    entries = _entries(file)
    if name in {known.name for known in entries}:
        raise ConfigError(
            f"{file} has a token of {name!r} already: choose another name (such as {name}-2), or "
            "remove that one first"
        )
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    _write(file, [*text.splitlines(), entry.line])
    _keep_private(sys.stdout)
    print(token)


def _keep_private(out: TextIO) -> None:
    """Where a shell sends the token to a file, that is its owner's alone."""
    try:
        descriptor = out.fileno()
    except io.UnsupportedOperation:  # a stream of a program that calls this one
        return
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.fchmod(descriptor, 0o600)


@app.command("list")
def list_tokens(file: TokensFile = _DEFAULT) -> None:
    """List the names in the file and how their hashes begin."""
    for entry in read_tokens(file):
        print(f"{entry.name}\tsha256:{entry.digest[:8]}...")


@app.command()
def remove(name: Name, file: TokensFile = _DEFAULT) -> None:
    """Remove a token; running daemons refuse it at once."""
    entry = next((known for known in read_tokens(file) if known.name == name), None)
    if entry is None:
        raise ConfigError(f"{file} has no token of {name!r}: see `spikebottlenet token list`")
    lines = file.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition("#")[0].split()[:1] != [name]]
    _write(file, kept)


def _entries(file: Path) -> tuple[TokenEntry, ...]:
    return read_tokens(file) if file.exists() else ()


def _write(file: Path, lines: Sequence[str]) -> None:
    """Replace the file in one step, readable by its owner alone."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as written:
            written.writelines(f"{line}\n" for line in lines)
            written.flush()
            os.fchmod(written.fileno(), _PRIVATE)
            os.fsync(written.fileno())
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
