"""Bearer tokens: who may call, by SHA-256 of what they show.

A token file has one token a line, ``name sha256:<64 hexadecimal digits>``; ``#`` begins a comment.
Several stand side by side, so that a new one is given out before an old one is removed. A token is
32 random bytes: there is nothing to guess, so one plain SHA-256 hides it as well as a slow password
hash would, and costs a microsecond a call.
"""

import hashlib
import hmac
import re
import secrets
from pathlib import Path
from typing import NamedTuple

from spikebottlenet.errors import ConfigError
from spikebottlenet.rpc.watched import Watched, read_file

SCHEME = "Bearer "

_TOKEN_BYTES = 32
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._@-]{0,62}) sha256:([0-9a-f]{64})")
_SHAPE = "`name sha256:<64 hexadecimal digits>`, the name of up to 63 letters, digits and ._@-"


class TokenEntry(NamedTuple):
    """One line of a token file."""

    name: str
    digest: str  # SHA-256 of the token's text, 64 hexadecimal digits

    @property
    def line(self) -> str:
        """As it stands in the file."""
        return f"{self.name} sha256:{self.digest}"


def new_token() -> str:
    """A fresh token: 32 random bytes in 43 letters that a header may carry."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def token_digest(token: str) -> str:
    """What a token file keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def entry_of(name: str, token: str) -> TokenEntry:
    """A line for a token.

    Raises:
        ConfigError: a name that cannot stand in a line.
    """
    entry = TokenEntry(name, token_digest(token))
    if not _LINE.fullmatch(entry.line):
        raise ConfigError(f"name is {name!r}, wanted up to 63 letters, digits and ._@-")
    return entry


def parse_tokens(text: str, *, source: str) -> tuple[TokenEntry, ...]:
    """The entries of a token file.

    Raises:
        ConfigError: names the line, never what stands in it: it might be a token put there bare.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = " ".join(line.partition("#")[0].split())
        if not words:
            continue
        found = _LINE.fullmatch(words)
        if found is None:
            raise ConfigError(
                f"{source}: line {number} is not {_SHAPE}: make it with `spikebottlenet token new`"
            )
        entries.append(TokenEntry(found[1], found[2]))
    return tuple(entries)


def read_tokens(path: Path) -> tuple[TokenEntry, ...]:
    """The entries of a token file on disk.

    Raises:
        ConfigError: it cannot be read or is not a token file.
    """
    data = read_file(path, "a file of hashed tokens (`spikebottlenet token new`)")
    try:
        return parse_tokens(data.decode(), source=str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text: wanted lines {_SHAPE}") from error


class TokenFile:
    """The tokens that are valid now; the file is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._entries = Watched((path,), lambda: read_tokens(path))

    def name_of(self, token: str) -> str | None:
        """Whose token this is; every entry is compared, in constant time."""
        digest = token_digest(token)
        name = None
        for entry in self._entries.current():
            if hmac.compare_digest(entry.digest, digest):
                name = entry.name
        return name


def read_client_token(path: Path) -> str:
    """The token that a client shows, from a file that holds it alone.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    data = read_file(path, "the token alone, as `spikebottlenet token new` printed it")
    token = data.decode("ascii", errors="replace").strip()
    if not token or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ConfigError(f"{path} does not hold one token: wanted it alone, on one line")
    return token
