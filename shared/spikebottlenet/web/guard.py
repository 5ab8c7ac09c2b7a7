"""What guards a web server, as checked at the start, and whom it refused."""

import ssl
from dataclasses import dataclass, field

from spikebottlenet.rpc.tokens import TokenFile

_USUAL = (401, 403, 413, 429)  # counted as 0 from the start


@dataclass(frozen=True)
class Guard:
    """Who may enter, and how what is said there is kept private."""

    tokens: TokenFile | None = None
    context: ssl.SSLContext | None = None
    only_here: bool = False  # no other machine can connect
    refused: dict[int, int] = field(default_factory=lambda: dict.fromkeys(_USUAL, 0))  # by status
