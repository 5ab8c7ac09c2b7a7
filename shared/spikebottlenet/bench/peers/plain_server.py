"""A gRPC server with nothing to it: one unary method, one stream, bytes in and bytes out.

Run as a module it is the echo that the link is held against: by itself, or with ``--relay`` as the
first of two, which sends so many bytes on to the second and answers once they are back.
"""

import argparse
import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

SERVICE, CALL, STREAM = "bench.Peer", "Call", "Stream"

_SERVING = re.compile(r"serving on (\S+:\d+)")

# A proxy set for web browsing is not on the way to a node named by address.
_NO_PROXY = [("grpc.enable_http_proxy", 0)]

Context = grpc.aio.ServicerContext[Any, Any]


async def serve_calls(answer: Callable[[bytes, Context], Awaitable[bytes]]) -> None:
    """Bind a free port, say so on standard output, serve until terminated."""

    async def each(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for request in requests:
            yield await answer(request, context)

    server = grpc.aio.server()
    methods = {
        CALL: grpc.unary_unary_rpc_method_handler(answer),
        STREAM: grpc.stream_stream_rpc_method_handler(each),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"serving on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def address_in(log: Path) -> str | None:
    """The address that a server said in its log, once it has."""
    found = _SERVING.search(log.read_text(encoding="utf-8", errors="replace"))
    return None if found is None else found[1]


async def _echo(request: bytes, _: Context) -> bytes:
    return request


async def _relay(address: str, sent_on: int) -> None:
    """Serve calls one at a time, each with a message to the next server and back before it ends."""
    async with grpc.aio.insecure_channel(address, options=_NO_PROXY) as channel:
        stream: Any = channel.stream_stream(f"/{SERVICE}/{STREAM}")()

        async def answer(request: bytes, _: Context) -> bytes:
            await stream.write(request[:sent_on])
            answered = await stream.read()
            if answered is grpc.aio.EOF:
                raise ConnectionError(f"the stream to {address} ended: is the second server up?")
            return bytes(answered)

        await serve_calls(answer)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="echo")
    parser.add_argument("--relay", help="host:port of the second server")
    parser.add_argument("--sent-on", type=int, default=0, help="bytes of a request that go there")
    given = parser.parse_args()
    asyncio.run(_relay(given.relay, given.sent_on) if given.relay else serve_calls(_echo))


if __name__ == "__main__":
    _main()
