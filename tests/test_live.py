"""What feeds the live pages: snapshots while someone watches, limited uploads, shipped files."""

import asyncio
import base64
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import cast

import grpc
import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

from cloud_node.tally import Answered, Tally
from edge_node.queue_values import QueueCounts, StoredRequest
from edge_node.standing import QueueStanding
from edge_node.store import Store
from spikebottlenet.errors import StoreError
from spikebottlenet.metrics.families import Gauge
from spikebottlenet.rpc.v1.edge_pb2 import ClassifyRequest
from spikebottlenet.rpc.v1.edge_pb2_grpc import EdgeInferenceStub
from spikebottlenet.web.pages.assets import shipped_assets
from spikebottlenet.web.pages.feed import Feed
from tests.conftest import Start, log_lines

ROOT = Path(__file__).parent.parent


class Snapshots:
    """Counts how often it is asked; says something new each time."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> dict[str, object]:
        self.asked += 1
        return {"n": self.asked}


def post(url: str, body: bytes, **headers: str) -> tuple[int, dict]:
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


async def test_nothing_is_computed_when_nobody_watches() -> None:
    snapshots = Snapshots()
    feed = Feed(snapshots, every_s=0.001)
    assert snapshots.asked == 0
    events = feed.events()
    told = [await anext(events) for _ in range(3)]
    assert told == [b'data: {"n":%d}\n\n' % n for n in (1, 2, 3)]
    await events.aclose()
    assert feed.viewers == 0
    await asyncio.gather(
        *(task for task in asyncio.all_tasks() if task is not asyncio.current_task())
    )
    asked = snapshots.asked
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert snapshots.asked == asked


async def test_all_viewers_share_one_snapshot_and_a_slow_one_loses_its_place() -> None:
    snapshots = Snapshots()
    feed = Feed(snapshots, every_s=0.001)
    slow, quick = feed.events(), feed.events()
    await anext(slow)
    await anext(quick)
    while feed.viewers == 2:  # the slow one never reads again
        await anext(quick)
    assert feed.viewers == 1
    assert [event async for event in slow] == []
    before = snapshots.asked
    await anext(quick)
    assert snapshots.asked - before <= 6  # four may wait unread, for all viewers together
    await quick.aclose()


async def test_a_snapshot_that_says_the_same_is_not_repeated() -> None:
    asked = 0

    def snapshot() -> dict[str, object]:
        nonlocal asked
        asked += 1
        return {"n": asked // 50}

    events = Feed(snapshot, every_s=0.0001).events()
    told = [json.loads((await anext(events)).removeprefix(b"data: ")) for _ in range(4)]
    await events.aclose()
    assert [event["n"] for event in told][2:] == [1, 2]


def test_a_pages_image_goes_the_way_of_a_clients(start: Start, photo: Path) -> None:
    edge = start("edge_node", "--cloud", "127.0.0.1:9", "--max-image-bytes", "1000000")
    url = f"{edge.web}/api/classify"
    status, answer = post(url, photo.read_bytes())
    assert status == 200
    line = next(line for line in log_lines(edge) if line["event"] == "answered")
    assert answer["record"] == {name: line[name] for name in answer["record"]}
    assert answer["cloud_missing"] == line["cloud_missing"]
    shape = answer["spikes"]["shape"]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(answer["spikes"]["bits"]), dtype=np.uint8))
    assert bits.size == np.prod(shape)
    assert bits.sum() == answer["record"]["spikes"]
    forming = answer["forming"]
    assert [one["timesteps"] for one in forming] == list(range(1, shape[0] + 1))
    assert forming[-1]["top5"] == answer["record"]["top5"]  # the edge exit's, of all timesteps

    status, refused = post(url, b"no image")
    assert (status, refused["code"]) == (400, "INVALID_ARGUMENT")
    assert "not an image of a known format" in refused["error"]
    status, refused = post(url, bytes(1_000_001))
    assert (status, refused["code"]) == (413, "RESOURCE_EXHAUSTED")
    status, _ = post(url, b"refused unread", Origin="http://other.example")
    assert status == 403
    status, refused = post(f"{url}?model=none", photo.read_bytes())
    assert (status, refused["code"]) == (404, "NOT_FOUND")
    assert edge.stop() == 0
    totals = log_lines(edge)[-1]
    assert (totals["images"], totals["edge_exit_answers"]) == (1, 1)


def test_a_client_has_one_rate_both_ways(start: Start) -> None:
    edge = start("edge_node", "--cloud", "127.0.0.1:9", "--rate", "0.001", "--burst", "1")
    assert post(f"{edge.web}/api/classify", b"no image")[0] == 400
    with grpc.insecure_channel(edge.address) as channel:
        call = EdgeInferenceStub(channel).Classify
        with pytest.raises(grpc.RpcError) as refused:
            call(ClassifyRequest(image=b"no image"), timeout=60)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert post(f"{edge.web}/api/classify", b"no image")[0] == 429
    with urllib.request.urlopen(f"{edge.web}/metrics", timeout=60) as reply:
        counted = reply.read().decode()
    assert 'spikebottlenet_edge_refused_web_requests_total{status="429"} 1.0' in counted
    assert 'spikebottlenet_edge_refused_web_requests_total{status="400"} 1.0' in counted


async def test_counts_of_a_queue_are_left_out_until_they_are_read() -> None:
    class SlowDisk:
        slow = True

        async def counts(self) -> QueueCounts:
            if self.slow:
                raise StoreError("the disk is slow")
            return QueueCounts(1, 2, 0, 190, {"full": 7, "age": 0}, mirrored=True)

        async def waiting(self, after: int, limit: int) -> list[StoredRequest]:
            return []

    class Opened:
        opened = SlowDisk()

    standing = QueueStanding(cast("Store", Opened()))
    gauges = [family for family in standing.families if isinstance(family, Gauge)]
    await standing.refresh()
    assert list(standing.dropped()) == []
    assert [list(gauge.read()) for gauge in gauges] == [[], [], []]
    Opened.opened.slow = False
    await standing.refresh()
    assert [reading.value for reading in standing.dropped()] == [7, 0]
    assert [len(list(gauge.read())) for gauge in gauges] == [3, 1, 1]


def test_the_tally_counts_by_second_client_and_batch() -> None:
    now = 1000.5
    tally = Tally(lambda: now)
    one = Answered("a", "cup", 0.5, payload_bytes=190, wire_bytes_up=210, queue_us=1, tail_us=2)
    for client in ("a", "a", "b"):
        tally.answered(one._replace(client=client))
    now = 1001.5
    tally.answered(one)
    now = 1003.0
    assert tally.per_second()[-3:] == [3, 1, 0]
    assert sum(tally.per_second()) == 4
    assert {name: sums.images for name, sums in tally.clients.items()} == {"b": 1, "a": 3}
    assert tally.clients["a"].wire_bytes_up == 630
    for number in range(1000):  # strangers come and go
        tally.answered(one._replace(client=str(number)))
    assert len(tally.clients) == 256
    assert len(tally.recent) == 12


def test_pages_are_shipped_whole_and_load_nothing_from_elsewhere() -> None:
    assets = shipped_assets()
    for name, asset in assets.items():
        text = asset.content.decode()
        named = re.findall(r"(?:href|src)=\"([^\"#]+)\"|from '([^']+)'", text)
        for where in filter(None, (found for pair in named for found in pair)):
            assert where.removeprefix("assets/").removeprefix("./") in assets, f"{name}: {where}"
        addresses = set(re.findall(r"https?://[^\s\"')]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name  # a namespace, never fetched
        assert "innerHTML" not in text
        assert not re.search(r"\s(style|on[a-z]+)=\"", text), name  # the policy would forbid it
    in_wheel = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"spikebottlenet/web/assets/{name}" for name in assets} <= in_wheel
