"""The one check at the web server's door: the tokens that gRPC takes, and no other site's pages.

Without a token anyone sees ``/healthz``, ``/`` and ``/assets/`` (pages that hold no data and ask
for the token themselves); all else needs one where tokens are set. Where only this machine can
connect, its browser still does so on behalf of any site that it shows: so a request that another
site's page made, or that calls this daemon by a foreign name (DNS rebinding), is refused.
"""

import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from spikebottlenet.rpc.access import address_name
from spikebottlenet.rpc.limits import ServerLimits
from spikebottlenet.rpc.tokens import SCHEME
from spikebottlenet.web.ending import ENDING, Ending
from spikebottlenet.web.guard import Guard

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLIENT = "spikebottlenet.client"  # in a request's scope: who calls, as gRPC's door names them
CERTIFICATE = "certificate"  # in its state: the common name that the client has shown

_READING = ("GET", "HEAD")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_NO_FRAME = (b"content-security-policy", b"frame-ancestors 'none'")  # where a page says no more


class _RefusedError(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Door:
    """Lets requests in to ``app``, or refuses them with a reason as JSON."""

    def __init__(self, app: App, guard: Guard, limits: ServerLimits, ending: Ending) -> None:
        self._app = app
        self._guard = guard
        self._limits = limits
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(message["status"])
                message["headers"] = [*message["headers"], *_HEADERS]
                if not any(name == _NO_FRAME[0] for name, _ in message["headers"]):
                    message["headers"].append(_NO_FRAME)
            await send(message)

        try:
            self._check_size(scope)
            self._check_origin(scope, headers)
            scope[CLIENT] = self._name(scope, headers)
        except _RefusedError as refusal:
            await _refuse(send_guarded, refusal)
            return
        scope[ENDING] = self._ending
        await self._app(scope, receive, send_guarded)

    def _count(self, status: int) -> None:
        refused = self._guard.refused
        if status // 100 == 4:
            refused[status] = refused.get(status, 0) + 1

    def _check_size(self, scope: Scope) -> None:
        """Of headers that come in one read the parser has no limit."""
        said = len(scope["raw_path"]) + len(scope["query_string"])
        said += sum(len(name) + len(value) for name, value in scope["headers"])
        most = self._limits.max_metadata_bytes
        if said > most:
            raise _RefusedError(
                431,
                f"headers are {said} bytes, wanted at most {most}: send fewer, or raise "
                "max_metadata_bytes",
            )

    def _check_origin(self, scope: Scope, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        guard = self._guard
        if guard.only_here and guard.tokens is None and not _is_this_machine(host):
            raise _RefusedError(403, f"called by the name {host!r}: use 127.0.0.1 or localhost")
        # A link from elsewhere may open a page; data are for the page's own requests.
        navigates = headers.get("sec-fetch-mode") == "navigate" and _is_open(scope)
        site = headers.get("sec-fetch-site", "same-origin")
        origin = headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2] != host
        if (site not in ("same-origin", "none") and not navigates) or foreign:
            raise _RefusedError(403, "asked for by another site's page: open this one's own")

    def _name(self, scope: Scope, headers: dict[str, str]) -> str:
        tokens = self._guard.tokens
        if tokens is None or _is_open(scope):
            certificate = scope["state"].get(CERTIFICATE)
            if tokens is None and certificate is not None:
                return f"certificate {certificate}"
            return f"address {address_name(scope['client'][0]) if scope['client'] else 'unknown'}"
        given = headers.get("authorization", "")
        if not given.startswith(SCHEME):
            raise _RefusedError(401, "no token came: send the header `Authorization: Bearer TOKEN`")
        name = tokens.name_of(given.removeprefix(SCHEME).strip())
        if name is None:
            raise _RefusedError(401, "the token is not known here, or not any more: get a new one")
        return f"token {name}"


def _is_open(scope: Scope) -> bool:
    path = scope["path"]
    pages = path in ("/", "/healthz") or path.startswith("/assets/")
    return pages and scope["method"] in _READING


def _is_this_machine(host: str) -> bool:
    """Whether a Host header is an address or ``localhost``, which no foreign name can stand for."""
    name = host.partition("]")[0].strip("[") if host.startswith("[") else host.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(send: Send, refusal: _RefusedError) -> None:
    body = json.dumps({"error": str(refusal)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
