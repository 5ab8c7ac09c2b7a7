"""Stored requests through a link full of faults and daemons that are killed; then live ones.

Stored: every request is sent with a key of its own by the product's client until the edge-node says
that it is stored. Both hops go through fault proxies, seeded; images reach the edge uncorrupted,
since nothing but TLS guards that hop. Meanwhile either daemon is killed without warning again and
again. In the end each accepted request must have exactly one answer, with the label of a run
without faults, and answers must have come in the order in which the requests were stored.

Live: requests with a deadline, daemons left alive, the link to the cloud as bad as before. Each
must be answered in time by somebody.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc.aio

from spikebottlenet.cli.client import Wishes, classify_images, edge_client
from spikebottlenet.cli.demo import shipped_photos
from spikebottlenet.cli.sources import ImageSource
from spikebottlenet.rpc.v1.edge_pb2 import (
    SOURCE_CLOUD,
    ClassifyRequest,
    ResultsRequest,
    StoredResult,
)
from tests.crops import crop_photos, write_crops
from tests.fault_proxy import FaultProxy, running_proxy
from tests.fault_schedule import KINDS, FaultEvent, random_faults
from tests.trials.killable import Killable

DISTINCT = 500  # images
TO_THE_EDGE = ("cut", "reset", "refuse", "slow", "slice", "rate", "slow_close")
SETTLE_S = 180.0  # for what waits once the faults have ended
LIVE_GRACE_S = 0.05
LIVE_AT_A_TIME = 4


class Follower:
    """Looks at the results again and again; counts answers that came before an earlier one."""

    def __init__(self, edge: str) -> None:
        self.out_of_order = 0
        self.looks = 0
        self._edge = edge
        self._after = 0

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                async with edge_client(self._edge) as client:
                    while True:
                        await self._look(client.stub)
                        await asyncio.sleep(0.2)
            await asyncio.sleep(0.2)

    async def _look(self, stub: Any) -> None:
        # As many as the edge-node reads at once, so that they are of one moment.
        request = ResultsRequest(after=self._after, limit=500)
        found = [one async for one in stub.Results(request, timeout=10)]
        self.looks += 1
        waits = False
        for one in found:
            if one.state == StoredResult.STATE_WAITING:
                waits = True
            elif waits:
                self.out_of_order += 1
            else:
                self._after = one.position


def answer_order(logs: Sequence[Path]) -> tuple[int, int]:
    """From the cloud's logs: first answers behind a later request's, and answers given again."""
    seen: set[int] = set()
    highest = behind = again = 0
    for line in "\n".join(log.read_text(errors="replace") for log in logs).splitlines():
        with contextlib.suppress(ValueError):  # a line cut by a kill
            event = json.loads(line)
            if event.get("event") != "answered":
                continue
            sequence = int(event["request_id"].partition("/")[2])
            again += sequence in seen
            behind += sequence not in seen and sequence < highest
            seen.add(sequence)
            highest = max(highest, sequence)
    return behind, again


async def labels_without_faults(images: Sequence[Path], folder: Path) -> dict[str, str]:
    """What every image is when nothing goes wrong, by its name."""
    cloud = Killable("cloud_node", ["--threads", "1"], folder)
    edge = Killable("edge_node", ["--cloud", cloud.address], folder)
    sources = [ImageSource(str(path)) for path in images]
    labels = {}
    try:
        await cloud.start()
        await edge.start()
        async with edge_client(edge.address) as client:
            async for outcome in classify_images(client, sources, Wishes(deadline_ms=60_000)):
                assert outcome.record is not None, outcome.error
                assert outcome.record.source.value == "cloud"
                labels[sources[outcome.image].name] = outcome.record.label
    finally:
        edge.end()
        cloud.end()
    return labels


async def stored_trial(
    images: Sequence[Path],
    labels: dict[str, str],
    folder: Path,
    *,
    count: int,
    kills: int,
    seed: int,
) -> dict[str, Any]:
    """Requests to be stored, under everything."""
    began = time.monotonic()
    cloud = Killable("cloud_node", ["--threads", "1"], folder)
    await cloud.start()
    async with running_proxy(cloud.address, seed=seed) as to_cloud:
        store = ["--store-path", str(folder / "queue.sqlite"), "--stall-s", "2"]
        edge = Killable("edge_node", ["--cloud", to_cloud.address, *store], folder)
        await edge.start()
        async with running_proxy(edge.address, seed=seed + 1) as to_edge:
            follower = Follower(edge.address)
            try:
                run = _Stored(images, cloud, edge, count=count, kills=kills)
                following = asyncio.create_task(follower.follow())
                async with (
                    random_faults(to_cloud, seed, kinds=KINDS) as faults,
                    random_faults(to_edge, seed + 1, kinds=TO_THE_EDGE) as edge_faults,
                ):
                    await run.send(to_edge.address)
                sent_s = time.monotonic() - began
                found = await settled(edge.address, count)
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            finally:
                exits = [edge.end(), cloud.end()]
    behind, again = answer_order(cloud.logs)
    return {
        "requests": count,
        "accepted": len(run.accepted),
        "not_accepted": run.refused,
        **verdict(run.accepted, found, labels),
        "out_of_order": behind + follower.out_of_order,
        "looks_at_the_order": follower.looks,
        "computed_again_by_the_cloud": again,
        "cloud_kills": cloud.kills,
        "edge_kills": edge.kills,
        "exit_status": exits,
        "faults": {"to_cloud": summary(to_cloud, faults), "to_edge": summary(to_edge, edge_faults)},
        "sent_s": round(sent_s, 1),
        "seconds": round(time.monotonic() - began, 1),
    }


class _Stored:
    """The sending of requests, and the kills that go with it."""

    def __init__(
        self, images: Sequence[Path], cloud: Killable, edge: Killable, *, count: int, kills: int
    ) -> None:
        self.accepted: dict[str, list[str]] = {}  # image names by request id
        self.refused: list[str] = []
        self._sources = [ImageSource(str(images[i % len(images)])) for i in range(count)]
        self._cloud = cloud
        self._edge = edge
        self._kills = kills

    async def send(self, edge_address: str) -> None:
        """Until every request is stored and every kill is done."""
        killing: asyncio.Task[None] | None = None
        step = len(self._sources) / (2 * self._kills + 1)
        wishes = Wishes(store=True, retry_s=300.0)
        done = 0
        async with edge_client(edge_address) as client:
            async for image, record, error in classify_images(client, self._sources, wishes):
                if record is None:
                    self.refused.append(str(error))
                else:
                    assert record.stored
                    name = self._sources[image].name
                    self.accepted.setdefault(record.request_id, []).append(name)
                done += 1
                due = min(2 * self._kills, int(done / step))
                if due > self._cloud.kills + self._edge.kills and (
                    killing is None or killing.done()
                ):
                    turn = self._edge if self._edge.kills <= self._cloud.kills else self._cloud
                    killing = asyncio.create_task(turn.kill())
        if killing is not None:
            await killing
        while self._cloud.kills + self._edge.kills < 2 * self._kills:
            await (self._edge if self._edge.kills <= self._cloud.kills else self._cloud).kill()


async def settled(edge: str, count: int) -> list[StoredResult]:
    """Every result, once none waits any more."""
    give_up = time.monotonic() + SETTLE_S
    while True:
        async with edge_client(edge) as client:
            found = [one async for one in client.stub.Results(ResultsRequest())]
        waiting = sum(one.state == StoredResult.STATE_WAITING for one in found)
        if not waiting or time.monotonic() > give_up:
            return found
        await asyncio.sleep(1.0)


def verdict(
    accepted: dict[str, list[str]], found: Sequence[StoredResult], labels: dict[str, str]
) -> dict[str, Any]:
    """What was promised, counted."""
    by_id: dict[str, list[StoredResult]] = {}
    for one in found:
        by_id.setdefault(one.request_id, []).append(one)
    keys = Counter(bytes(one.request_key) for one in found)
    lost = twice = wrong = 0
    for request_id, names in accepted.items():
        answers = [
            one for one in by_id.get(request_id, []) if one.state == StoredResult.STATE_ANSWERED
        ]
        lost += not answers
        twice += max(0, len(answers) - 1) + len(names) - 1
        wrong += sum(one.top5[0].label != labels[names[0]] for one in answers)
    states = Counter(StoredResult.State.Name(one.state) for one in found)
    return {
        "lost": lost,
        "answered_twice": twice + sum(times - 1 for times in keys.values()),
        "wrong_label": wrong,
        "stored_but_never_acknowledged": len(set(by_id) - set(accepted)),
        "states": dict(states),
    }


def summary(proxy: FaultProxy, events: Sequence[FaultEvent]) -> dict[str, Any]:
    """What a proxy did."""
    return {
        "kinds": dict(Counter(event.kind for event in events)),
        "bytes_up": proxy.up,
        "bytes_down": proxy.down,
        "bytes_swallowed": proxy.swallowed,
        "bits_flipped": proxy.flipped,
        "connections": proxy.connections,
    }


async def live_trial(
    images: Sequence[Path], folder: Path, *, count: int, deadline_ms: int, seed: int
) -> dict[str, Any]:
    """Requests with a deadline, daemons left alive."""
    began = time.monotonic()
    cloud = Killable("cloud_node", ["--threads", "1"], folder)
    await cloud.start()
    async with running_proxy(cloud.address, seed=seed) as to_cloud:
        edge = Killable("edge_node", ["--cloud", to_cloud.address], folder)
        await edge.start()
        sources: Counter[str] = Counter()
        took: list[float] = []
        files = [path.read_bytes() for path in images]
        numbers = iter(range(count))

        async def ask() -> None:
            async with edge_client(edge.address) as client:
                for number in numbers:
                    image = files[number % len(files)]
                    request = ClassifyRequest(image=image, deadline_ms=deadline_ms)
                    asked = time.monotonic()
                    try:
                        record = await client.stub.Classify(request)
                        name = "cloud" if record.source == SOURCE_CLOUD else "edge_exit"
                        sources[name] += 1
                    except grpc.aio.AioRpcError as error:
                        sources[f"failed: {error.code().name}"] += 1
                    took.append(time.monotonic() - asked)

        try:
            async with random_faults(to_cloud, seed, kinds=KINDS) as faults:
                await asyncio.gather(*(ask() for _ in range(LIVE_AT_A_TIME)))
        finally:
            exits = [edge.end(), cloud.end()]
    took.sort()
    limit_s = deadline_ms / 1e3 + LIVE_GRACE_S
    return {
        "requests": count,
        "deadline_ms": deadline_ms,
        "answered": dict(sources),
        "late": sum(seconds > limit_s for seconds in took),
        "ms": {
            "p50": round(1e3 * took[len(took) // 2], 1),
            "p99": round(1e3 * took[len(took) * 99 // 100], 1),
            "largest": round(1e3 * took[-1], 1),
        },
        "exit_status": exits,
        "faults": summary(to_cloud, faults),
        "seconds": round(time.monotonic() - began, 1),
    }


async def chaos(wanted: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both trials."""
    photos = Path(shipped_photos()[0]).parent
    images = write_crops(crop_photos(photos, DISTINCT), folder)
    report: dict[str, Any] = {"seed": wanted.seed}
    for name in ("reference", "stored", "live"):
        (folder / name).mkdir()
    if wanted.requests:
        labels = await labels_without_faults(images, folder / "reference")
        report["stored"] = await stored_trial(
            images,
            labels,
            folder / "stored",
            count=wanted.requests,
            kills=wanted.kills,
            seed=wanted.seed,
        )
    if wanted.live:
        report["live"] = await live_trial(
            images,
            folder / "live",
            count=wanted.live,
            deadline_ms=wanted.deadline_ms,
            seed=wanted.seed + 2,
        )
    return report


def broken(report: dict[str, Any]) -> list[str]:
    """Promises that did not hold."""
    stored, live = report.get("stored", {}), report.get("live", {})
    found = [
        f"stored: {name} {stored[name]}"
        for name in ("lost", "answered_twice", "out_of_order", "wrong_label")
        if stored.get(name)
    ]
    if stored.get("not_accepted"):
        found.append(f"stored: not accepted {len(stored['not_accepted'])}")
    found += [f"live: {name} {n}" for name, n in live.get("answered", {}).items() if ":" in name]
    if live.get("late"):
        found.append(f"live: late {live['late']}")
    return found


def main() -> int:
    """Entry point; 1 if a promise did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="to be stored; 0: none")
    parser.add_argument("--kills", type=int, default=10, help="of each daemon")
    parser.add_argument("--live", type=int, default=2_000, help="with a deadline; 0: none")
    parser.add_argument("--deadline-ms", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, default=Path("build/chaos.json"))
    parser.add_argument("--keep", type=Path, help="folder for the daemons' logs; default: none")
    wanted = parser.parse_args()
    wanted.report.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = wanted.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(chaos(wanted, folder))
    report["broken"] = broken(report)
    wanted.report.write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))
    return 1 if report["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
