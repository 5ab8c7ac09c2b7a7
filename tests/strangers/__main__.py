"""Run every storm against real cloud-nodes and write ``build/strangers.json``; about five minutes.

Latency is measured in turns, without and with the strangers, so that a noisy machine hits both
alike. Memory is the kernel's VmRSS, and VmHWM for the peak; daemons give memory back every 30 s,
so the last figure is taken once all storms are over.
"""

import asyncio
import datetime
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from spikebottlenet.rpc.security import ChannelSecurity
from tests.door import DAY, Certificates, ask
from tests.strangers.client import GoodClient, good_client, image_request
from tests.strangers.daemon import Guarded, guarded_cloud
from tests.strangers.storms import (
    AbandonedStreams,
    HugeMessages,
    IdleConnections,
    Knocking,
    Storm,
)

REPORT = Path("build/strangers.json")
ROUNDS = 2
BLOCK_S = 2.0  # without strangers, while they come (again until all are there), while they stay
SETTLE_WITHIN_S = 15.0
GIVEN_BACK_WITHIN_S = 35.0  # daemons do it every 30 s
WRONG = (("authorization", "Bearer nobody-knows-this-one"),)


class Percentiles(NamedTuple):
    """Of latencies, milliseconds."""

    p50: float
    p99: float
    samples: int


@dataclass(frozen=True)
class Outcome:
    """One storm: what strangers saw, what it cost the daemon, what good clients noticed."""

    storm: str
    daemon: str
    seen: dict[str, int]
    rss_mib: dict[str, float]  # before, peak, after
    descriptors: dict[str, int]  # before, peak, after
    quiet_ms: dict[str, Percentiles]  # by way
    arriving_ms: dict[str, Percentiles]  # while the strangers come
    stormed_ms: dict[str, Percentiles]  # while they stay
    good_requests: int
    good_failed: int


class Latencies:
    """Milliseconds by way."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = defaultdict(list)

    async def add(self, client: GoodClient) -> None:
        """One more block."""
        for way, times in (await client.latencies_ms(seconds=BLOCK_S)).items():
            self._times[way] += times

    def percentiles(self) -> dict[str, Percentiles]:
        found = {}
        for way, times in self._times.items():
            cuts = statistics.quantiles(times, n=100, method="inclusive")
            found[way] = Percentiles(round(cuts[49], 2), round(cuts[98], 2), len(times))
        return found


def descriptors(cloud: Guarded) -> int:
    return len(os.listdir(f"/proc/{cloud.daemon.process.pid}/fd"))  # noqa: PTH208, a count


async def settled(cloud: Guarded, wanted: int) -> int:
    """Descriptors once they are back at ``wanted``, or after a while."""
    deadline = time.monotonic() + SETTLE_WITHIN_S
    while (now := descriptors(cloud)) > wanted and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return now


async def given_back(cloud: Guarded, wanted_mib: float) -> float:
    """Resident memory once the daemon has given back most of what storms took, or has not."""
    deadline = time.monotonic() + GIVEN_BACK_WITHIN_S
    while cloud.memory_mib("VmRSS") > 1.2 * wanted_mib and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    return cloud.memory_mib("VmRSS")


async def measure(storm: Storm, client: GoodClient, kind: str) -> Outcome:
    cloud = storm.cloud
    quiet, arriving, stormed = Latencies(), Latencies(), Latencies()
    before, open_before = cloud.memory_mib("VmRSS"), descriptors(cloud)
    open_peak, asked, failed = open_before, client.asked, len(client.failed)
    cloud.forget_peak()
    for number in range(ROUNDS):
        storm.stays = number == ROUNDS - 1
        await quiet.add(client)
        coming = asyncio.create_task(storm.begin())
        try:
            await arriving.add(client)
            while not coming.done():
                await arriving.add(client)
            await coming
            await stormed.add(client)
            open_peak = max(open_peak, descriptors(cloud))
        finally:
            await storm.end()
        open_after = await settled(cloud, open_before)
    return Outcome(
        storm=storm.name,
        daemon=kind,
        seen=dict(storm.seen),
        rss_mib={
            "before": before,
            "peak": cloud.memory_mib("VmHWM"),
            "after": cloud.memory_mib("VmRSS"),
        },
        descriptors={"before": open_before, "peak": open_peak, "after": open_after},
        quiet_ms=quiet.percentiles(),
        arriving_ms=arriving.percentiles(),
        stormed_ms=stormed.percentiles(),
        good_requests=client.asked - asked,
        good_failed=len(client.failed) - failed,
    )


async def statuses(plain: Guarded, tls: Guarded, other: Certificates) -> dict[str, str]:
    """How each kind of stranger is refused."""
    files = tls.files
    assert files is not None
    image, token = image_request(), tls.good.token_file
    no_certificate = ChannelSecurity(ca=files.ca, token_file=token)
    foreign = ChannelSecurity(
        ca=files.ca, cert=other.client_cert, key=other.client_key, token_file=token
    )
    cases = {
        "good client, token": ask(plain.port, plain.good, image),
        "good client, TLS, certificate and token": ask(tls.port, tls.good, image),
        "no token": ask(plain.port),
        "wrong token": ask(plain.port, metadata=WRONG),
        "certificate, no token": ask(tls.port, tls.good, metadata=()),
        "certificate, wrong token": ask(tls.port, tls.good, metadata=WRONG),
        "token, no certificate": ask(tls.port, no_certificate),
        "token, certificate of another CA": ask(tls.port, foreign),
        "server of another CA": ask(tls.port, replace(tls.good, ca=other.ca)),
        "plain text to a TLS port": ask(tls.port, plain.good),
        "TLS to a plain port": ask(plain.port, tls.good),
    }
    found = {name: (await case).name for name, case in cases.items()}
    files.client("camera-7", since=datetime.datetime.now(datetime.UTC) - 3 * DAY)
    found["token, expired certificate"] = (await ask(tls.port, tls.good)).name
    files.client("camera-7")
    return found


def _plain(outcome: Outcome) -> dict[str, Any]:
    """For JSON, percentiles by name."""
    plain = asdict(outcome)
    for block in ("quiet_ms", "arriving_ms", "stormed_ms"):
        plain[block] = {way: found._asdict() for way, found in getattr(outcome, block).items()}
    return plain


async def main() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.setswitchinterval(1e-4)  # the strangers' threads do not hold the good client up
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "other").mkdir()
        other = Certificates(folder / "other")
        with (
            guarded_cloud(folder / "plain", tls=False) as plain,
            guarded_cloud(folder / "tls", tls=True) as tls,
        ):
            refused = await statuses(plain, tls, other)
            outcomes = []
            first = {"tokens": plain.memory_mib("VmRSS"), "TLS": tls.memory_mib("VmRSS")}
            async with good_client(tls) as client:
                for storm in (
                    IdleConnections(tls, greet=False),
                    Knocking(tls, "plain text to TLS", ChannelSecurity()),
                ):
                    outcomes.append(await measure(storm, client, "TLS, certificates, tokens"))
                    print(outcomes[-1], flush=True)
            async with good_client(plain) as client:
                for storm in (
                    IdleConnections(plain, greet=False),
                    IdleConnections(plain, greet=True),
                    AbandonedStreams(plain, spoken=False),
                    AbandonedStreams(plain, spoken=True),
                    HugeMessages(plain, known=False),
                    HugeMessages(plain, known=True),
                    Knocking(plain, "wrong token", ChannelSecurity(), metadata=WRONG),
                ):
                    outcomes.append(await measure(storm, client, "tokens"))
                    print(outcomes[-1], flush=True)
            last = {
                "tokens": await given_back(plain, first["tokens"]),
                "TLS": await given_back(tls, first["TLS"]),
            }
    report = {
        "descriptors_limit": {"soft": soft, "hard": hard},
        "seconds": round(time.monotonic() - started, 1),
        "refused": refused,
        "rss_mib_of_daemons": {"at the start": first, "once all is over": last},
        "storms": [_plain(outcome) for outcome in outcomes],
    }
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(refused, indent=1), f"written to {REPORT}", sep="\n")
    return sum(outcome.good_failed for outcome in outcomes) > 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
