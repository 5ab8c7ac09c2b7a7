"""Many connections or streams at once wait outside, and hold up nobody who is in."""

import asyncio
import contextlib
import select
import signal
import socket
import time
from pathlib import Path

from spikebottlenet.errors import OverloadedError
from spikebottlenet.rpc.backlog import limit_backlog
from spikebottlenet.rpc.limits import Clients, ServerLimits, TokenBucket
from spikebottlenet.rpc.v1.coinference_pb2 import StreamRequest
from tests.conftest import Start
from tests.door import asking, echo_server

CONNECTED_WITHIN_S = 20  # the system tries again after 1, 3, 7 and 15 seconds


class Stopped:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_those_above_the_rate_queue_one_behind_the_other() -> None:
    clock = Stopped()
    bucket = TokenBucket(rate=4.0, burst=2, clock=clock)
    assert [bucket.take_later(1.0) for _ in range(5)] == [0.0, 0.0, 0.25, 0.5, 0.75]
    clock.now = 1.0  # all three are in, and a quarter of a second has gone by since
    assert [bucket.take_later(1.0) for _ in range(2)] == [0.0, 0.25]
    bucket.give_back()
    assert bucket.take_later(1.0) == 0.25


def test_nobody_queues_for_longer_than_the_bound() -> None:
    bucket = TokenBucket(rate=4.0, burst=1, clock=Stopped())
    assert [bucket.take_later(0.5) for _ in range(3)] == [0.0, 0.25, 0.5]
    assert [bucket.take_later(0.5) for _ in range(3)] == [0.75, 0.75, 0.75]  # none was taken


async def test_the_streams_of_one_client_hold_up_no_other() -> None:
    clients = Clients(ServerLimits(stream_rate=10.0, stream_burst=1))
    greedy = clients.get("greedy")
    await greedy.stream_turn()
    waiting = [asyncio.create_task(greedy.stream_turn()) for _ in range(100)]
    await asyncio.wait_for(clients.get("other").stream_turn(), 0.05)
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
    refused = [task.exception() for task in done if task.exception()]
    assert isinstance(refused[0], OverloadedError)
    assert refused[0].retry_after_s > 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.wait_for(greedy.stream_turn(), 0.5)  # those that gave up stand before nobody


async def test_streams_above_the_rate_begin_later_and_all_begin() -> None:
    limits = ServerLimits(stream_rate=20.0, stream_burst=3)
    async with echo_server(limits=limits) as serving, asking(serving.port) as stub:

        async def first_answer_s(number: int) -> float:
            started = time.monotonic()
            call = stub.Stream(timeout=30)
            await call.write(StreamRequest(sequence=number))
            assert (await call.read()).prediction.sequence == number
            call.cancel()
            return time.monotonic() - started

        waited = sorted(await asyncio.gather(*(first_answer_s(n) for n in range(1, 14))))
    assert waited[-1] >= 10 / 20.0
    assert waited[6] >= 4 / 20.0


def connected(lines: list[socket.socket], *, within_s: float) -> set[socket.socket]:
    """Those whose connection stands, waiting for all of them as long as that."""
    deadline, standing = time.monotonic() + within_s, set()
    while len(standing) < len(lines) and time.monotonic() < deadline:
        rest = [line for line in lines if line not in standing]
        _, ready, _ = select.select([], rest, [], max(0.0, deadline - time.monotonic()))
        standing |= set(ready)
    assert all(not line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for line in standing)
    return standing


def await_stopped(process: int) -> None:
    """Until the system says that a process stands still."""
    deadline = time.monotonic() + CONNECTED_WITHIN_S
    while Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_connections_beyond_the_backlog_wait_outside_and_come_in_later(start: Start) -> None:
    cloud = start("cloud_node", "--backlog", "3")
    host, _, port = cloud.address.rpartition(":")
    with contextlib.ExitStack() as lines_end:
        lines = [lines_end.enter_context(contextlib.closing(socket.socket())) for _ in range(12)]
        cloud.process.send_signal(signal.SIGSTOP)
        await_stopped(cloud.process.pid)
        try:
            for line in lines:
                line.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    line.connect((host, int(port)))
            inside = connected(lines, within_s=0.5)
            assert 3 <= len(inside) <= 4  # Linux lets one more in than it was told
        finally:
            cloud.process.send_signal(signal.SIGCONT)
        assert len(connected(lines, within_s=CONNECTED_WITHIN_S)) == 12


def test_only_sockets_that_listen_at_the_port_are_touched() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        assert limit_backlog(other.getsockname()[1], 5) == 1
        assert limit_backlog(six.getsockname()[1], 5) == 1
        with socket.create_connection(other.getsockname()) as line:
            assert limit_backlog(line.getsockname()[1], 5) == 0
