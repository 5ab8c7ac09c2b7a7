"""The one check at the door of a server: who calls, and is there room.

Every method but those of grpc.health needs a valid token where tokens are set. A client is known by
its token's name, else by its certificate's common name, else by its address (of IPv6 the first 64
bits: one subscriber has all the others). No message is read from a call before it is let in, so
that strangers cost their headers and no more.
"""

import ipaddress
import logging
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any

import grpc
import grpc.aio

from spikebottlenet.errors import AuthenticationError, SpikeBottleNetError
from spikebottlenet.logs import Seldom, fields
from spikebottlenet.rpc.limits import (
    PLACE_FREE_AFTER_S,
    Clients,
    Places,
    ServerLimits,
    current_client,
    set_current_client,
)
from spikebottlenet.rpc.messages import Messages, answer_many, answer_one
from spikebottlenet.rpc.refusal import refuse
from spikebottlenet.rpc.status import status_code
from spikebottlenet.rpc.tokens import SCHEME, TokenFile

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Valid = Callable[[], bool]
Answer = Callable[[Any, Messages, Context], Awaitable[Any]]

_many: Any = grpc.stream_stream_rpc_method_handler
_one: Any = grpc.stream_unary_rpc_method_handler

_HEALTH = "/grpc.health.v1.Health/"
_HEALTH_CALLS = 64  # of all addresses: anyone may ask, nobody needs more
_USUAL_CODES = ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED")  # counted as 0 from the start


class Door(grpc.aio.ServerInterceptor):
    """Lets calls in, or refuses them; around every method of a server."""

    def __init__(self, limits: ServerLimits, tokens: TokenFile | None) -> None:
        self._limits = limits
        self._tokens = tokens
        self.clients = Clients(limits)
        self._calls = Places(limits.max_calls, "end some calls, or raise max_calls")
        self._unary = Places(
            limits.max_unary,
            "wait for one, or raise max_unary",
            retry_after_s=PLACE_FREE_AFTER_S,
        )
        self._health = Places(_HEALTH_CALLS, "ask again later")
        self.refused = dict.fromkeys(_USUAL_CODES, 0)  # calls, by status code
        self._seldom = Seldom()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method, with the check before it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        enter = self._enter_health if method.startswith(_HEALTH) else self._enter

        async def serve(answer: Answer, requests: AsyncIterator[Any], context: Context) -> Any:
            try:
                with ExitStack() as places:
                    valid = places.enter_context(enter(handler, context))
                    if handler.request_streaming:
                        await current_client().stream_turn()
                    messages = Messages(requests, silent_s=self._limits.silent_s, valid=valid)
                    answered = await answer(handler, messages, context)
                    # Held until gRPC has sent the answer: whoever does not read it keeps a place.
                    held = places.pop_all()
                    context.add_done_callback(lambda _: held.close())
                    return answered
            except SpikeBottleNetError as error:
                self._log(method, context, error)
                await refuse(context, error)

        streams = handler.response_streaming
        kind = _many if streams else _one
        return kind(
            partial(serve, answer_many if streams else answer_one),
            handler.request_deserializer,
            handler.response_serializer,
        )

    @contextmanager
    def _enter_health(self, handler: Any, context: Context) -> Iterator[Valid]:
        with self._health.taken(f"address {_address(context)}"):
            yield lambda: True

    @contextmanager
    def _enter(self, handler: Any, context: Context) -> Iterator[Valid]:
        token = _token(context)
        client = self.clients.get(self._name(token, context))
        with client.call(), self._calls.taken(client.name):
            set_current_client(client)
            if handler.request_streaming:
                yield lambda: self._valid(token)
            else:
                with self._unary.taken(client.name), client.request():
                    yield lambda: True

    def _name(self, token: str | None, context: Context) -> str:
        if self._tokens is not None:
            if token is None:
                raise AuthenticationError(
                    "no token came: send metadata `authorization: Bearer TOKEN`; whoever runs this "
                    "daemon makes one with `spikebottlenet token new`"
                )
            name = self._tokens.name_of(token)
            if name is None:
                raise AuthenticationError(
                    "the token is not known here, or not any more: ask whoever runs this daemon "
                    "for a new one"
                )
            return f"token {name}"
        for common_name in context.auth_context().get("x509_common_name", ()):
            return f"certificate {common_name.decode(errors='replace')}"
        return f"address {_address(context)}"

    def _valid(self, token: str | None) -> bool:
        return self._tokens is None or self._tokens.name_of(token or "") is not None

    def _log(self, method: str, context: Context, error: SpikeBottleNetError) -> None:
        code = status_code(error).name
        self.refused[code] = self.refused.get(code, 0) + 1
        if calls := self._seldom.again():
            peer, reason = _address(context), str(error)
            said = fields(peer=peer, method=method, code=code, reason=reason, calls=calls)
            log.warning("refused a call", extra=said)


def _token(context: Context) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith(SCHEME):
            return value.removeprefix(SCHEME).strip()
    return None


def _address(context: Context) -> str:
    """Where a call comes from, without the port."""
    return _address_of(context.peer())


@lru_cache(maxsize=1024)  # a connection's calls all come from one peer
def _address_of(peer: str) -> str:
    kind, _, rest = urllib.parse.unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    return address_name(rest.rpartition(":")[0].strip("[]"))


def address_name(host: str) -> str:
    """What an address is known by: itself, of IPv6 its first 64 bits."""
    host = host.partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
