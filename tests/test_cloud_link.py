"""What an edge's link to its cloud counts."""

import asyncio
import time
from typing import Any

from edge_node.cloud_link import CloudLink, _Pending
from spikebottlenet.accounting.wire import KernelCounters, Side, WireLedger
from spikebottlenet.rpc.v1.coinference_pb2 import Prediction, StreamRequest


async def test_bytes_up_are_counted_before_an_answer_can_be_there() -> None:
    connect: Any = None
    link = CloudLink(
        connect,
        WireLedger(KernelCounters(port=1, side=Side.REMOTE)),
        fingerprint="ab" * 32,
        deadline_ms=1000,
        max_in_flight=4,
        reconnected=lambda: None,
    )
    exchange = link.new_exchange(b"frame", deadline=time.monotonic() + 10)
    answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
    link._pending[exchange.sequence] = _Pending(exchange, answer)
    found: list[tuple[int, int]] = []

    class Stream:
        def together(self, requests: list[StreamRequest]) -> tuple[StreamRequest, list[int]]:
            return requests[0], [77]

        async def send(self, _: StreamRequest) -> None:
            found.append((exchange.wire_bytes_up, exchange.sends))

    stream: Any = Stream()
    await link._write_together(stream, [exchange.sequence])
    assert found == [(77, 1)]
