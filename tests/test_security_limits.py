"""What one client may take: rate, requests in flight, calls; and what strangers may not hold."""

import asyncio
import ctypes
import resource
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from spikebottlenet.errors import OverloadedError
from spikebottlenet.heap import trimmed_heap
from spikebottlenet.rpc import limits as limits_module
from spikebottlenet.rpc.limits import Client, Clients, Places, ServerLimits, TokenBucket
from spikebottlenet.rpc.refusal import error_from_call
from spikebottlenet.rpc.v1.coinference_pb2 import InferRequest, StreamRequest
from tests.door import Echo, ask, asking, echo_server

OK = grpc.StatusCode.OK
RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_and_then_the_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=4.0, burst=3, clock=clock)
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]
    clock.now += 0.125  # half a token: the other half is an eighth of a second away
    assert bucket.take() == pytest.approx(0.125)
    clock.now += 0.125
    assert [bucket.take(), bucket.take()] == [0.0, 0.25]
    clock.now += 3600  # never more than the burst
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=1.0, burst=1, clock=clock)
    assert bucket.take() == 0.0
    clock.now -= 50
    assert bucket.take() == 1.0
    clock.now += 1
    assert bucket.take() == 0.0


@pytest.mark.parametrize(("rate", "at_once"), [(0.5, 1), (1.0, 1), (8.0, 8), (2.5, 2)])
def test_without_a_burst_a_second_comes_at_once(rate: float, at_once: int) -> None:
    bucket = TokenBucket(rate=rate, burst=0, clock=Clock())
    assert [bucket.take() == 0 for _ in range(at_once + 1)] == [True] * at_once + [False]


def test_requests_in_flight_are_bounded_and_given_back() -> None:
    client = Client("address 192.0.2.7", ServerLimits(client_in_flight=2))
    with client.request():
        with client.request(), pytest.raises(OverloadedError, match="2 requests in flight"):
            client.request().__enter__()
        with client.request():
            assert client.in_flight == 2
    assert client.in_flight == 0


def test_a_request_above_the_rate_leaves_nothing_in_flight() -> None:
    clock = Clock()
    client = Client("token edge-1", ServerLimits(rate=1.0, client_in_flight=5), clock)
    with client.request(), pytest.raises(OverloadedError) as refused:
        client.request().__enter__()
    assert refused.value.retry_after_s == pytest.approx(1.0)
    assert client.in_flight == 0


def test_greedy_clients_leave_places_for_others() -> None:
    places = Places(64, "end some")
    held = []

    def grab(name: str) -> int:
        """How many places one client gets that takes all it can."""
        count = 0
        while True:
            place = places.taken(name)
            try:
                place.__enter__()
            except OverloadedError:
                return count
            held.append(place)
            count += 1

    assert [grab(name) for name in "abcde"] == [32, 16, 8, 4, 2]
    for place in held:
        place.__exit__(None, None, None)
    assert grab("f") == 32


def test_the_table_of_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "MAX_CLIENTS", 8)
    clients = Clients(ServerLimits(rate=1.0))
    busy = clients.get("busy")
    with busy.call():
        for number in range(100):
            clients.get(f"address 192.0.2.{number}")
        assert len(clients) == 8
        assert clients.get("busy") is busy  # with what it has used up
        assert clients.get("address 192.0.2.99") is clients.get("address 192.0.2.99")


async def failed_infer(port: int) -> grpc.aio.AioRpcError:
    async with asking(port) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Infer(InferRequest(), timeout=10)
    return refused.value


async def test_above_the_rate_a_call_says_when_to_try_again() -> None:
    async with echo_server(limits=ServerLimits(rate=0.001, burst=2)) as serving:
        assert [await ask(serving.port) for _ in range(3)] == [OK, OK, RESOURCE_EXHAUSTED]
        error = await failed_infer(serving.port)
    assert error.code() == RESOURCE_EXHAUSTED
    status = rpc_status.from_call(error)  # the library that other languages have as well
    assert status is not None
    assert (status.code, status.message) == (RESOURCE_EXHAUSTED.value[0], error.details())
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    trailers = dict(error.trailing_metadata())
    pushback_ms = int(trailers["grpc-retry-pushback-ms"])
    assert retry.retry_delay.ToMilliseconds() == pushback_ms
    assert 900_000 < pushback_ms <= 1_000_000  # a token comes every 1,000 s
    ours = error_from_call(error)
    assert isinstance(ours, OverloadedError)
    assert ours.retry_after_s == pushback_ms / 1e3


async def test_requests_of_a_stream_are_charged_one_by_one() -> None:
    async with (
        echo_server(limits=ServerLimits(rate=0.001, burst=3)) as serving,
        asking(serving.port) as stub,
    ):
        requests = [StreamRequest(sequence=number) for number in range(5)]
        call = stub.Stream(iter(requests), timeout=10)
        answers = [answer async for answer in call]
    assert [answer.WhichOneof("response") for answer in answers] == 3 * ["prediction"] + 2 * [
        "failure"
    ]
    assert {answer.failure.code for answer in answers[3:]} == {RESOURCE_EXHAUSTED.value[0]}
    assert all(answer.failure.retry_after_ms > 900_000 for answer in answers[3:])


class Slow(Echo):
    """Answers when told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.waiting = 0
        self.arrived = asyncio.Event()

    async def Infer(self, request, context):  # noqa: N802
        self.waiting += 1
        self.arrived.set()
        await self.go_on.wait()
        return await super().Infer(request, context)


async def test_calls_in_flight_of_one_client_are_bounded() -> None:
    slow = Slow()
    limits = ServerLimits(client_in_flight=1)
    async with echo_server(limits=limits, service=slow) as serving, asking(serving.port) as stub:
        first = stub.Infer(InferRequest(), timeout=30)
        await slow.arrived.wait()
        assert await ask(serving.port) == RESOURCE_EXHAUSTED
        slow.go_on.set()
        await first
        assert await ask(serving.port) == OK


async def test_a_call_that_is_given_up_gives_its_place_back() -> None:
    slow = Slow()
    limits = ServerLimits(client_in_flight=1, max_unary=2)
    async with echo_server(limits=limits, service=slow) as serving:
        for _ in range(5):
            slow.arrived.clear()
            async with asking(serving.port) as stub:
                call = stub.Infer(InferRequest(), timeout=30)
                await slow.arrived.wait()
                call.cancel()
            slow.go_on.clear()
            async with asyncio.timeout(10):  # the cancel is on its way to the server
                slow.go_on.set()
                while await ask(serving.port) != OK:
                    await asyncio.sleep(0.01)
            slow.go_on.clear()


async def test_silent_streams_are_reaped_and_do_not_lock_others_out() -> None:
    limits = ServerLimits(client_calls=8, silent_s=0.3)
    async with echo_server(limits=limits) as serving, asking(serving.port) as stub:
        silent = [stub.Stream(timeout=30) for _ in range(20)]
        codes = [await call.code() for call in silent]
        assert codes.count(grpc.StatusCode.DEADLINE_EXCEEDED) == 8
        assert codes.count(RESOURCE_EXHAUSTED) == 12
        assert await ask(serving.port) == OK


async def test_a_stream_that_has_spoken_may_be_quiet() -> None:
    limits = ServerLimits(silent_s=0.2)
    async with echo_server(limits=limits) as serving, asking(serving.port) as stub:
        call = stub.Stream(timeout=30)
        await call.write(StreamRequest(sequence=1))
        await call.read()
        quiet = stub.Stream(timeout=30)
        assert await quiet.code() == grpc.StatusCode.DEADLINE_EXCEEDED  # so the time has passed
        await call.write(StreamRequest(sequence=2))
        assert (await call.read()).prediction.sequence == 2
        await call.done_writing()
        assert await call.code() == OK


async def test_headers_beyond_the_limit_are_refused() -> None:
    async with echo_server(limits=ServerLimits(max_metadata_bytes=4096)) as serving:
        assert await ask(serving.port, metadata=(("x-fill", "x" * 2000),)) == OK
        assert await ask(serving.port, metadata=(("x-fill", "x" * 6000),)) == RESOURCE_EXHAUSTED


async def test_a_message_beyond_the_limit_is_refused() -> None:
    async with echo_server() as serving, asking(serving.port) as stub:
        assert len((await stub.Infer(InferRequest(frames=[b"x" * 500_000]))).classes) == 0
    async with echo_server() as serving:
        line = grpc.aio.insecure_channel(f"127.0.0.1:{serving.port}")
        async with line:
            infer = line.unary_unary("/spikebottlenet.rpc.v1.CoInference/Infer")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await infer(b"x" * 2_000_000, timeout=10)
    assert refused.value.code() == RESOURCE_EXHAUSTED


async def test_what_a_storm_took_is_given_back() -> None:
    def resident_mib() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    blocks = [ctypes.create_string_buffer(4096) for _ in range(30_000)]
    keep = blocks[-1]  # at the heap's end: without a trim nothing before it is given back
    full = resident_mib()
    blocks.clear()
    async with trimmed_heap(every_s=0.05), asyncio.timeout(10):
        while resident_mib() > full - 80:
            await asyncio.sleep(0.05)
    assert len(keep) == 4096
