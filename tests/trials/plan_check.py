"""Predictions of ``spikebottlenet plan`` beside what daemons then measure through a slow link.

    python -m tests.trials.plan_check                      # profiles this machine, then checks
    python -m tests.trials.plan_check --profile FILE       # checks an existing profile

The daemons' link goes through the fault proxy, which delays each way by half the round trip and
lets so many bits through. cloud-only is the plain gRPC server of the bench behind the same proxy,
with the profile's time to decode an image and encode it. Medians of many requests, one at a time;
the proxy and the client share the machine with what they measure. Writes ``build/plan.json``;
exits 1 if a prediction is off by more than a quarter or one cut is best at both bandwidths.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from spikebottlenet.bench.images import ENCODINGS, image_file, load_images
from spikebottlenet.bench.peers.servers import running_cloud, running_edge, running_plain_grpc
from spikebottlenet.bundle import Half, bundle_folder, open_bundle
from spikebottlenet.plan.decision import Objective, Plan, Sender, make_plan
from spikebottlenet.plan.link import Link
from spikebottlenet.plan.loopback import (
    NOWHERE,
    UNCUT_ENCODING,
    call_times_ms,
    record_totals_ms,
)
from spikebottlenet.plan.machines import Profiles
from spikebottlenet.plan.measure import Wanted, measure_profile
from spikebottlenet.plan.placements import placements
from spikebottlenet.plan.profile import Profile, read_profile, write_profile
from spikebottlenet.plan.sources import find_source
from spikebottlenet.rpc.v1.edge_pb2 import SOURCE_CLOUD, SOURCE_EDGE_EXIT
from tests.fault_proxy import proxy_thread
from tests.link_faults import Faults, Way

BANDWIDTHS = (1e5, 1e8)  # bit/s
OFF_BY = 0.25
_IMAGES = 100  # those that a profile takes


def slow(link: Link) -> Faults:
    """The proxy's ways of a link."""
    half_ms = link.rtt_ms / 2
    return Faults(
        up=Way(latency_ms=half_ms, bytes_per_s=link.up_bit_s / 8),
        down=Way(latency_ms=half_ms, bytes_per_s=link.down_bit_s / 8),
    )


def measured_ms(profile: Profile, bundle: str, link: Link, count: int) -> dict[str, float]:
    """Medians over the link of what can be run: the bundle's cut and cloud-only."""
    opened = open_bundle(bundle_folder(bundle), Half.EDGE)
    pixels = load_images(None, opened.manifest.preprocess, _IMAGES).pixels
    edge, cloud = Profiles(profile, profile).sides()
    head, tail = ("--threads", str(edge.threads)), ("--threads", str(cloud.threads))
    sent = [image_file(each, ENCODINGS[0]) for each in pixels]
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            running_cloud(bundle, folder, *tail) as server,
            proxy_thread(server.address, faults=slow(link)) as proxy,
            running_edge(bundle, folder, proxy.address, *head) as near,
        ):
            totals = asyncio.run(record_totals_ms(near.address, sent, count, SOURCE_CLOUD))
            found[f"cut-{profile.architecture.after_stage}"] = statistics.median(totals)
        files = [image_file(each, UNCUT_ENCODING) for each in pixels]
        before = edge.preprocess.median
        before += next(each.time.median for each in edge.files if each.name == UNCUT_ENCODING.name)
        with (
            running_plain_grpc(bundle, folder, batch=1, threads=cloud.threads) as plain,
            proxy_thread(plain.address, faults=slow(link)) as proxy,
        ):
            calls, _ = asyncio.run(call_times_ms(proxy.address, files, count))
            found["cloud-only"] = before + statistics.median(calls)
    return found


def edge_exit_ms(profile: Profile, bundle: str, count: int) -> float:
    """Median of an edge-node without a cloud."""
    opened = open_bundle(bundle_folder(bundle), Half.EDGE)
    pixels = load_images(None, opened.manifest.preprocess, _IMAGES).pixels
    sent = [image_file(each, ENCODINGS[0]) for each in pixels]
    edge, _ = Profiles(profile, profile).sides()
    with (
        tempfile.TemporaryDirectory() as name,
        running_edge(bundle, Path(name), NOWHERE, "--threads", str(edge.threads)) as near,
    ):
        totals = asyncio.run(record_totals_ms(near.address, sent, count, SOURCE_EDGE_EXIT))
    return statistics.median(totals)


def predicted(profile: Profile, bundle: str, link: Link) -> Plan:
    """The plan as the command makes it."""
    profiles = Profiles(profile, profile)
    opened = open_bundle(bundle_folder(bundle), Half.EDGE)
    ways = placements(profiles, [opened], find_source("jpeg", profiles))
    return make_plan(ways, link, Sender(), Objective.LATENCY)


def check(profile: Profile, bundle: str, rtt_ms: float, count: int) -> dict[str, Any]:
    """Every bandwidth: the best cut, and predictions beside measurements."""
    rows, cuts = [], []
    for bit_s in BANDWIDTHS:
        link = Link(bit_s, bit_s, rtt_ms)
        plan = predicted(profile, bundle, link)
        said = {each.placement.key: each.latency_ms for each in plan.forecasts}
        cuts.append(plan.best[Objective.LATENCY].cut.placement.key)
        found = measured_ms(profile, bundle, link, count)
        exit_key = f"edge-exit-{profile.architecture.after_stage}"
        found[exit_key] = edge_exit_ms(profile, bundle, count)
        for key, value in found.items():
            ratio = said[key] / value
            rows.append(
                {
                    "bit_s": bit_s,
                    "placement": key,
                    "predicted_ms": round(said[key], 2),
                    "measured_p50_ms": round(value, 2),
                    "ratio": round(ratio, 3),
                    "holds": abs(ratio - 1) <= OFF_BY,
                }
            )
    return {
        "rtt_ms": rtt_ms,
        "requests": count,
        "best_cut": dict(zip(map(str, BANDWIDTHS), cuts, strict=True)),
        "differ": len(set(cuts)) > 1,
        "predictions": rows,
        "machine": profile.edge.machine if profile.edge else {},
        "holds": len(set(cuts)) > 1 and all(row["holds"] for row in rows),
    }


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="plan_check")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--profile", type=Path, help="an existing one; default: measured first")
    parser.add_argument("--rtt-ms", type=float, default=20.0)
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("build/plan.json"))
    given = parser.parse_args()
    if given.profile is None:
        profile = measure_profile(Wanted(given.bundle))
        write_profile(profile, given.out.with_name("profile.json"))
    else:
        profile = read_profile(given.profile)
    report = check(profile, given.bundle, given.rtt_ms, given.requests)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for row in report["predictions"]:
        print(*row.values())
    print(f"best cut: {report['best_cut']}; written: {given.out}")
    return 0 if report["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
