"""Bytes on the wire: what the kernel counted, in memory bounded by the live connections."""

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from spikebottlenet.accounting.wire import (
    KernelCounters,
    Side,
    Tally,
    WireBytes,
    WireLedger,
    framed_bytes,
    observe,
)

Pair = tuple[socket.socket, socket.socket]


@contextmanager
def connected(server: socket.socket) -> Iterator[Pair]:
    with socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            yield client, accepted


def carry(pair: Pair, *, up: int, down: int) -> None:
    for source, sink, count in ((pair[0], pair[1], up), (pair[1], pair[0], down)):
        reading = threading.Thread(target=read_all, args=(sink, count))
        reading.start()
        source.sendall(bytes(count))
        reading.join()


def read_all(connection: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(connection.recv(65536))


def test_kernel_counters_see_what_sockets_carried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        near, far = KernelCounters(port, Side.REMOTE), KernelCounters(port, Side.LOCAL)
        with connected(server) as pair:
            carry(pair, up=100_000, down=77)
            assert near.sample(force=True) == (100_000, 77)
            assert far.sample(force=True) == (77, 100_000)
        assert near.sample(force=True) == (100_000, 77)  # closed now: as last seen


def test_closed_connections_are_one_sum() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        counters = KernelCounters(server.getsockname()[1], Side.REMOTE)
        for count in range(1, 21):
            with connected(server) as pair:
                carry(pair, up=count, down=1)
                assert counters.sample(force=True) == (count * (count + 1) // 2, count)
                assert len(counters._tally.live) == 1
        assert counters.sample(force=True) == (210, 20)
        assert len(counters._tally.live) == 0


def test_a_port_used_again_by_another_connection_adds_to_the_count() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        counters = KernelCounters(server.getsockname()[1], Side.REMOTE)
        source = ("127.0.0.1", 0)
        for total in (10, 110, 111):  # more and less than the one before
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # Reset instead of TIME_WAIT, so that the same port is free at once.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, *bytes(7)]))
                client.bind(source)
                client.connect(server.getsockname())
                source = client.getsockname()
                accepted, address = server.accept()
                with accepted:
                    assert address == source
                    carry((client, accepted), up={10: 10, 110: 100, 111: 1}[total], down=0)
                    assert counters.sample(force=True).sent == total


def test_a_connection_that_was_reset_keeps_its_count() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        counters = KernelCounters(server.getsockname()[1], Side.REMOTE)
        with connected(server) as (client, accepted):
            carry((client, accepted), up=10, down=5)
            assert counters.sample(force=True) == (10, 5)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, *bytes(7)]))
            accepted.close()
            assert counters.sample(force=True) == (10, 5)
        assert counters.sample(force=True) == (10, 5)


def test_without_a_free_descriptor_nothing_is_taken_for_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        counters = KernelCounters(server.getsockname()[1], Side.REMOTE)
        with connected(server) as pair:
            carry(pair, up=10, down=5)
            assert counters.sample(force=True) == (10, 5)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
            for room in range(highest + 2):  # of the walk's own two descriptors, none, one or both
                resource.setrlimit(resource.RLIMIT_NOFILE, (room, hard))
                try:
                    assert counters.sample(force=True) == (10, 5)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert counters.sample(force=True) == (10, 5)


class Clock:
    """A clock that goes on by a millisecond each time it is read, and by what a test adds."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.001
        return self.now_s


def test_samples_rest_in_proportion_to_what_they_cost() -> None:
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as server:
        counters = KernelCounters(server.getsockname()[1], Side.REMOTE, clock=clock)
        with connected(server) as pair:
            assert counters.sample(force=True) == (0, 0)
            carry(pair, up=3, down=0)
            assert counters.sample() == (0, 0)  # just read
            assert counters.sample(force=True) == (3, 0)
            cost_s = counters._next_slice_s - clock.now_s
            assert cost_s >= 100 * 0.001


def test_a_walk_of_many_samples_counts_everything_once() -> None:
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        counters = KernelCounters(server.getsockname()[1], Side.REMOTE, clock=clock)
        pairs = [stack.enter_context(connected(server)) for _ in range(200)]
        for client, _ in pairs:
            client.sendall(b"x")
        clock.now_s += 1000  # rested
        assert counters.sample() == (0, 0)  # a walk counts once it has met them all
        clock.now_s += 1000
        assert counters.sample() == (200, 0)
        clock.now_s += 1000
        assert counters.sample() == (200, 0)  # half a walk
        for client, _ in pairs[:100]:
            client.sendall(b"x")
        assert counters.sample(force=True) == (300, 0)
        for client, _ in pairs[:100]:
            client.close()
        for _ in range(4):
            clock.now_s += 1000
            assert counters.sample() == (300, 0)
        assert len(counters._tally.live) == 100


@given(
    st.lists(
        st.dictionaries(
            st.integers(0, 3),
            st.builds(WireBytes, sent=st.integers(0, 50), received=st.integers(0, 50)),
        ),
        max_size=30,
    )
)
def test_totals_never_go_down_and_memory_is_the_live_connections(
    walks: list[dict[int, WireBytes]],
) -> None:
    tally = Tally()
    for live in walks:
        after = observe(tally, live)
        assert after.total.sent >= tally.total.sent
        assert after.total.received >= tally.total.received
        assert after.live == live
        tally = after


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["carry", "close", "open"]), st.integers(0, 3), st.integers(0, 99)
        ),
        max_size=60,
    )
)
def test_the_tally_is_the_sum_of_every_connection(steps: list[tuple[str, int, int]]) -> None:
    tally, live, carried, inode = Tally(), {}, 0, 0
    for step, which, count in steps:
        if step == "open":
            inode += 1
            live[inode] = WireBytes(0, 0)
        elif live:
            chosen = sorted(live)[which % len(live)]
            if step == "close":
                del live[chosen]
            else:
                live[chosen] = live[chosen].plus(WireBytes(count, 2 * count))
                carried += count
        tally = observe(tally, live)
        assert tally.total == (carried, 2 * carried)


def test_ledger_keeps_messages_and_connection_apart() -> None:
    ledger = WireLedger(KernelCounters(port=1, side=Side.REMOTE))
    assert ledger.count_up(100) == framed_bytes(100) == 114
    ledger.count_down(10)
    totals = ledger.reconcile()
    assert (totals["framed_bytes_up"], totals["framed_bytes_down"]) == (114, 24)
    assert totals["connection_bytes_up"] == 0
