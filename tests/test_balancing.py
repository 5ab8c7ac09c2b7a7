"""One name, many servers: channels spread over its addresses, and pass by one that is down."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio
import pytest

from spikebottlenet.rpc.channel import make_channel

HOSTS = ("127.0.0.1", "127.0.0.2")
CHANNELS = 40  # one chance in 5e11 that all of them take the same of two addresses

Handler = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


class Fleet:
    """Servers on one port of several addresses, which count their calls."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.servers: dict[str, grpc.aio.Server] = {}
        self.port = 0

    async def start(self) -> None:
        for host in HOSTS:
            server = grpc.aio.server()
            method = grpc.unary_unary_rpc_method_handler(self._handler(host))
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler("test.Fleet", {"Ask": method}),)
            )
            self.port = server.add_insecure_port(f"{host}:{self.port}")
            await server.start()
            self.servers[host] = server

    def _handler(self, host: str) -> Handler:
        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            self.calls[host] += 1
            return request

        return answer

    async def ask(self, channels: int) -> None:
        target = "ipv4:" + ",".join(f"{host}:{self.port}" for host in HOSTS)
        for _ in range(channels):
            async with make_channel(target, max_message_bytes=1024) as channel:
                await channel.unary_unary("/test.Fleet/Ask")(b"", timeout=10)


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    running = Fleet()
    await running.start()
    yield running
    for server in running.servers.values():
        await server.stop(None)


async def test_channels_to_one_name_spread_over_its_addresses(fleet: Fleet) -> None:
    await fleet.ask(CHANNELS)
    assert set(fleet.calls) == set(HOSTS)
    assert fleet.calls.total() == CHANNELS


async def test_an_address_that_is_down_is_passed_by(fleet: Fleet) -> None:
    down, up = HOSTS
    await fleet.servers[down].stop(None)
    await fleet.ask(CHANNELS)
    assert fleet.calls == {up: CHANNELS}
