"""A steady load for an hour over a link that breaks every ten seconds: does anything grow?

Clients ask for images at a steady rate, some of them to be stored, each client over a connection
that is made afresh as often as the link breaks. Resident memory and open descriptors of both
daemons are sampled every few seconds. After the warm-up (a quarter of the time: at 10 images a
second the cloud's kept answers are full after seven minutes, and heaps settle some minutes later),
memory must have a slope whose 95 % interval holds zero (see ``slope``), and descriptors must be the
same number at every quiet moment (the median of each block).
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc.aio

from spikebottlenet.cli.client import edge_client
from spikebottlenet.cli.daemons import Daemon, running_daemon
from spikebottlenet.cli.demo import shipped_photos
from spikebottlenet.rpc.v1.edge_pb2 import SOURCE_CLOUD, ClassifyRequest
from tests.fault_proxy import FaultProxy, running_proxy
from tests.trials.slope import slope

SAMPLES = 720  # of the whole time: one every 5 s in an hour
WARM_UP = 1 / 4  # of the time
STORED_EVERY = 5  # images
CLIENTS = 4
BLOCKS = 20


class Sample(NamedTuple):
    """What a daemon held at a moment."""

    at_s: float
    resident_kib: int
    descriptors: int


class Load:
    """Clients at a steady rate."""

    def __init__(self, edge: str, images: Sequence[bytes], *, rate: float, fresh_s: float) -> None:
        self.counts: Counter[str] = Counter()
        self._edge = edge
        self._images = itertools.cycle(images)
        self._number = itertools.count()
        self._every_s = CLIENTS / rate
        self._fresh_s = fresh_s

    async def client(self, until: float) -> None:
        """One client, on a new connection every ``fresh_s``."""
        while time.monotonic() < until:
            async with edge_client(self._edge) as client:
                fresh = min(until, time.monotonic() + self._fresh_s)
                following = time.monotonic()
                while time.monotonic() < fresh:
                    request = ClassifyRequest(
                        image=next(self._images),
                        store=next(self._number) % STORED_EVERY == 0,
                        deadline_ms=2000,
                    )
                    try:
                        record = await client.stub.Classify(request, timeout=10)
                        source = "cloud" if record.source == SOURCE_CLOUD else "edge_exit"
                        self.counts["stored" if record.stored else source] += 1
                    except grpc.aio.AioRpcError as error:
                        self.counts[f"failed: {error.code().name}"] += 1
                    following += self._every_s
                    await asyncio.sleep(max(0.0, following - time.monotonic()))


def sample(daemon: Daemon, began: float) -> Sample:
    """Read /proc."""
    folder = Path(f"/proc/{daemon.process.pid}")
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    descriptors = sum(1 for _ in (folder / "fd").iterdir())
    return Sample(time.monotonic() - began, int(status["VmRSS"].split()[0]), descriptors)


def judge(samples: Sequence[Sample], *, warm_up_s: float) -> dict[str, Any]:
    """Slopes of one daemon after its warm-up."""
    warm = [one for one in samples if one.at_s >= warm_up_s]
    hours = [one.at_s / 3600 for one in warm]
    memory = slope(hours, [one.resident_kib for one in warm], blocks=BLOCKS)
    size = max(1, len(warm) // BLOCKS)
    quiet = [
        statistics.median(one.descriptors for one in warm[start : start + size])
        for start in range(0, size * BLOCKS, size)
    ]
    return {
        "resident_kib": {
            "start": samples[0].resident_kib,
            "after_warm_up": warm[0].resident_kib,
            "end": warm[-1].resident_kib,
            "peak": max(one.resident_kib for one in samples),
            "slope_kib_per_hour": round(memory.slope, 1),
            "slope_95_percent": [round(memory.low, 1), round(memory.high, 1)],
            "slope_is_zero": memory.is_zero,
            "blocks": memory.blocks,
            "effective_blocks": round(memory.effective_blocks, 1),
        },
        "descriptors": {
            "block_medians": sorted(set(quiet)),
            "range": [min(o.descriptors for o in warm), max(o.descriptors for o in warm)],
            "slope_per_hour": round(
                slope(hours, [one.descriptors for one in warm], blocks=BLOCKS).slope, 2
            ),
            "constant": max(quiet) - min(quiet) <= 1,
        },
    }


async def break_the_link(proxy: FaultProxy, every_s: float) -> None:
    """Cut every connection through the proxy, again and again."""
    while True:
        await asyncio.sleep(every_s)
        proxy.cut()


async def soak(seconds: float, *, rate: float, reconnect_s: float, folder: Path) -> dict[str, Any]:
    """Run, and report."""
    images = [Path(photo).read_bytes() for photo in shipped_photos()]
    local = ["--listen", "127.0.0.1:0"]
    with running_daemon("cloud_node", [*local, "--threads", "1"], folder / "cloud.log") as cloud:
        async with running_proxy(cloud.address) as proxy:
            store = ["--store-path", str(folder / "queue.sqlite"), "--store-results", "500"]
            options = [*local, "--cloud", proxy.address, *store]
            with running_daemon("edge_node", options, folder / "edge.log") as edge:
                began = time.monotonic()
                load = Load(edge.address, images, rate=rate, fresh_s=reconnect_s)
                samples: dict[str, list[Sample]] = {"edge": [], "cloud": []}
                breaking = asyncio.create_task(break_the_link(proxy, reconnect_s))
                clients = [
                    asyncio.create_task(load.client(began + seconds)) for _ in range(CLIENTS)
                ]
                while not all(client.done() for client in clients):
                    for name, daemon in (("edge", edge), ("cloud", cloud)):
                        samples[name].append(sample(daemon, began))
                    await asyncio.sleep(seconds / SAMPLES)
                breaking.cancel()
                await asyncio.gather(*clients)
                exits = {"edge": edge.stop(), "cloud": cloud.stop()}
    return {
        "seconds": seconds,
        "rate_per_s": rate,
        "reconnect_s": reconnect_s,
        "warm_up_s": seconds * WARM_UP,
        "answers": dict(load.counts),
        "exit_status": exits,
        **{name: judge(found, warm_up_s=seconds * WARM_UP) for name, found in samples.items()},
        "samples": {name: [list(one) for one in found] for name, found in samples.items()},
    }


def main() -> int:
    """Entry point; 1 if something grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=float, default=10, help="images a second")
    parser.add_argument("--reconnect-s", type=float, default=10)
    parser.add_argument("--report", type=Path, default=Path("build/soak.json"))
    wanted = parser.parse_args()
    wanted.report.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(
            soak(
                wanted.seconds,
                rate=wanted.rate,
                reconnect_s=wanted.reconnect_s,
                folder=Path(folder),
            )
        )
    wanted.report.write_text(json.dumps(report, indent=1))
    print(json.dumps({key: value for key, value in report.items() if key != "samples"}, indent=1))
    sound = all(
        report[name]["resident_kib"]["slope_is_zero"] and report[name]["descriptors"]["constant"]
        for name in ("edge", "cloud")
    )
    return 0 if sound and not any(report["exit_status"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
