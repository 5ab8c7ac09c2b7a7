"""The fault proxy does what it says: what passes, what is damaged, what is lost."""

import asyncio
import contextlib
import gc
import itertools
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fault_proxy import FaultProxy, abort, proxy_thread, running_proxy
from tests.fault_schedule import KINDS, FaultSchedule, random_faults
from tests.link_faults import HEALTHY, Faults

WITHIN_S = 30
DATA = random.Random(0).randbytes(200_000)


async def answer_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def echo(port: int = 0) -> AsyncIterator[str]:
    server = await asyncio.start_server(answer_back, "127.0.0.1", port)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@contextlib.asynccontextmanager
async def proxied_echo(**options: object) -> AsyncIterator[FaultProxy]:
    async with echo() as target, running_proxy(target, **options) as proxy:
        yield proxy


async def connect(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = proxy.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def round_trip(proxy: FaultProxy, data: bytes) -> bytes:
    """Everything that comes back for ``data``, to the end of the stream."""
    reader, writer = await connect(proxy)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    try:
        async with asyncio.timeout(WITHIN_S):
            back, _ = await asyncio.gather(reader.read(-1), send())
            return back
    finally:
        writer.close()


async def swallowed(proxy: FaultProxy, count: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while proxy.swallowed < count:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "faults",
    [
        HEALTHY,
        Faults.both(latency_ms=20, jitter_ms=20),
        Faults.both(bytes_per_s=1_000_000),
        Faults.both(slice_bytes=997),
        Faults(slow_close_ms=50),
    ],
    ids=["healthy", "slow", "rate", "slice", "slow_close"],
)
async def test_every_byte_passes_in_order_and_is_counted(faults: Faults) -> None:
    async with proxied_echo(faults=faults) as proxy:
        assert await round_trip(proxy, DATA) == DATA
        assert (proxy.up, proxy.down) == (len(DATA), len(DATA))
        assert (proxy.flipped, proxy.swallowed, proxy.connections) == (0, 0, 1)


async def test_latency_and_rate_take_at_least_their_time() -> None:
    async with proxied_echo(faults=Faults.both(latency_ms=100)) as proxy:
        started = time.monotonic()
        await round_trip(proxy, b"x")
        assert time.monotonic() - started >= 0.2
        proxy.faults = Faults(up=Faults.both(bytes_per_s=5000).up)
        started = time.monotonic()
        await round_trip(proxy, bytes(1000))
        assert time.monotonic() - started >= 0.2


async def corrupted(seed: int, slice_bytes: int | None) -> tuple[bytes, int]:
    up = Faults.both(corrupt_per_byte=0.01, slice_bytes=slice_bytes).up
    async with proxied_echo(seed=seed, faults=Faults(up=up)) as proxy:
        return await round_trip(proxy, DATA[:20_000]), proxy.flipped


async def test_corruption_flips_the_bits_it_counts_and_depends_on_the_seed_alone() -> None:
    found, flipped = await corrupted(1, None)
    differing = sum((a ^ b).bit_count() for a, b in zip(found, DATA[:20_000], strict=True))
    assert differing == flipped
    assert 100 <= flipped <= 300  # 200 wanted
    assert await corrupted(1, 13) == (found, flipped)
    assert (await corrupted(2, None))[0] != found


async def test_a_black_hole_leaves_connections_open_and_kills_those_that_lost_bytes() -> None:
    async with proxied_echo() as proxy:
        reader, writer = await connect(proxy)
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        proxy.faults = Faults(black_hole=True)
        new_reader, new_writer = await connect(proxy)
        writer.write(b"lost")
        new_writer.write(b"lost")
        await swallowed(proxy, 8)
        assert proxy.open_connections == 2
        proxy.faults = HEALTHY
        assert await round_trip(proxy, b"after") == b"after"
        writer.write(b"late")
        new_writer.write(b"late")
        await swallowed(proxy, 16)
        assert not reader.at_eof()
        assert not new_reader.at_eof()
        proxy.cut()
        assert await reader.read() == b""
        assert await new_reader.read() == b""
        for end in (writer, new_writer):
            end.close()


async def test_cut_ends_the_stream_and_reset_breaks_it() -> None:
    async with proxied_echo() as proxy:
        for end in (proxy.cut, proxy.reset):
            reader, writer = await connect(proxy)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            end()
            if end == proxy.cut:
                assert await reader.read() == b""
            else:
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            writer.close()
        assert await round_trip(proxy, b"again") == b"again"


async def test_the_end_for_a_client_that_has_gone_is_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with proxied_echo() as proxy:
        reader, writer = await connect(proxy)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        abort(writer, reset=True)
        async with asyncio.timeout(WITHIN_S):
            while proxy.open_connections:
                await asyncio.sleep(0.001)
        gc.collect()  # a task that has failed unseen is reported now
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_a_target_that_is_away_resets_and_is_found_again() -> None:
    async with echo() as target:
        port = int(target.rpartition(":")[2])
    async with running_proxy(target) as proxy:
        with pytest.raises(ConnectionResetError):
            await round_trip(proxy, b"x")
        async with echo(port):
            assert await round_trip(proxy, b"x") == b"x"
            proxy.faults = Faults(refuse=True)
            with pytest.raises(ConnectionResetError):
                await round_trip(proxy, b"x")


async def test_a_schedule_is_its_seed_and_comes_to_every_kind() -> None:
    steps = list(itertools.islice(FaultSchedule(7), 200))
    assert steps == list(itertools.islice(FaultSchedule(7), 200))
    assert steps != list(itertools.islice(FaultSchedule(8), 200))
    assert {step.kind for step in steps} == set(KINDS)
    assert all(0.5 <= step.healthy_s <= 3 and step.fault_s <= 2 for step in steps)


async def test_a_random_walk_records_what_it_did_and_leaves_the_link_healthy() -> None:
    async with proxied_echo() as proxy:
        short = {"fault_s": (0.001, 0.01), "healthy_s": (0.001, 0.01)}
        async with random_faults(proxy, 3, **short) as events, asyncio.timeout(WITHIN_S):
            while len(events) < 30:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(0.05):
                        await round_trip(proxy, b"some bytes")
        wanted = itertools.islice(FaultSchedule(3, **short), len(events))
        assert [event.kind for event in events] == [step.kind for step in wanted]
        assert [event.at_s for event in events] == sorted(event.at_s for event in events)
        assert proxy.faults == HEALTHY
        assert await round_trip(proxy, DATA) == DATA


async def test_a_proxy_in_a_thread_serves_blocking_tests() -> None:
    async with echo() as target:

        def talk() -> tuple[int, int]:
            with proxy_thread(target) as proxy:
                host, _, port = proxy.address.rpartition(":")
                with socket.create_connection((host, int(port)), timeout=WITHIN_S) as line:
                    line.sendall(b"hello")
                    assert line.recv(5, socket.MSG_WAITALL) == b"hello"
                    proxy.reset()
                    with pytest.raises(ConnectionResetError):
                        line.recv(1)
                return proxy.up, proxy.down

        assert await asyncio.to_thread(talk) == (5, 5)


async def test_many_broken_connections_leave_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Clients that end well, that give up and that never close, under every kind of fault."""
    short = {"fault_s": (0.001, 0.02), "healthy_s": (0.001, 0.02)}

    async def client(proxy: FaultProxy, number: int) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(0.1):
                if number % 3:
                    await round_trip(proxy, DATA[:3000])
                else:
                    _, writer = await connect(proxy)
                    writer.write(b"and gone")
                    writer.transport.abort() if number % 2 else abandoned.append(writer)

    abandoned: list[asyncio.StreamWriter] = []
    async with echo() as target:
        before = len(list(Path("/proc/self/fd").iterdir()))
        with proxy_thread(target) as proxy:
            async with random_faults(proxy, 5, **short) as events:
                for first in range(0, 400, 20):
                    await asyncio.gather(*(client(proxy, first + n) for n in range(20)))
            assert len(events) > 10
            assert await round_trip(proxy, DATA) == DATA
            proxy.cut()
            async with asyncio.timeout(WITHIN_S):
                while proxy.open_connections:
                    await asyncio.sleep(0.001)
            assert proxy.connections > 300
        for writer in abandoned:
            writer.close()
        async with asyncio.timeout(WITHIN_S):
            while len(list(Path("/proc/self/fd").iterdir())) > before:
                await asyncio.sleep(0.001)
    assert not [record for record in caplog.records if record.name == "asyncio"]
