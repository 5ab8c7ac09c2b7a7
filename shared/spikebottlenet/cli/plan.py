"""``spikebottlenet plan``: where to cut, for a link and two machines."""

import json
from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.accounting.energy import Radio
from spikebottlenet.bundle import Half, bundle_folder, open_bundle
from spikebottlenet.cli.extras import needing_extra
from spikebottlenet.cli.table import print_table
from spikebottlenet.plan.decision import Objective, Sender, make_plan
from spikebottlenet.plan.link import Link, parse_bit_rate, parse_duration_ms, parse_loss
from spikebottlenet.plan.machines import Profiles
from spikebottlenet.plan.notes import plan_notes
from spikebottlenet.plan.placements import placements
from spikebottlenet.plan.profile import read_profile
from spikebottlenet.plan.sources import find_source
from spikebottlenet.plan.table import plan_table, verdict


def plan(
    edge_profile: Annotated[Path, typer.Option(help="of the edge, by `spikebottlenet profile`")],
    bandwidth: Annotated[str, typer.Option(help="what TCP gets through: 100kbit/s, 20Mbit/s")],
    bundle: Annotated[
        list[str] | None, typer.Option(help="a bundle's folder, or 'default'; may be repeated")
    ] = None,
    cloud_profile: Annotated[
        Path | None, typer.Option(help="of the cloud; default: the edge's profile has both")
    ] = None,
    rtt: Annotated[str, typer.Option(help="round trip of an empty packet: 20ms")] = "0",
    bandwidth_down: Annotated[str, typer.Option(help="default: as up")] = "",
    loss: Annotated[str, typer.Option(help="packets lost, each way: 1%")] = "0",
    objective: Annotated[
        Objective, typer.Option(help="what the table is sorted by, and the plot shows")
    ] = Objective.LATENCY,
    source_bytes: Annotated[
        str, typer.Option(help="what cloud-only sends: jpeg, png, webp, or a size in bytes")
    ] = "jpeg",
    radio: Annotated[Radio, typer.Option(help="the edge's radio, for energy")] = Radio.WIFI,
    burst: Annotated[
        int, typer.Option(min=0, help="images that share one stay of the radio; 0: steady stream")
    ] = 0,
    edge_factor: Annotated[
        float, typer.Option(min=0.01, help="edge slower than the profiled machine by this")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="draw it over bandwidth: out.png, out.svg")
    ] = None,
) -> None:
    """Say which cut is best for latency, energy and bytes over a link, and where that changes.

    Edge-only and cloud-only stand beside the cuts. Energies are estimates.
    """
    up = parse_bit_rate(bandwidth)
    down = parse_bit_rate(bandwidth_down) if bandwidth_down else up
    link = Link(up, down, parse_duration_ms(rtt), parse_loss(loss))
    edge = read_profile(edge_profile)
    profiles = Profiles(edge, edge if cloud_profile is None else read_profile(cloud_profile))
    bundles = [open_bundle(bundle_folder(name), Half.EDGE) for name in bundle or ["default"]]
    source = find_source(source_bytes, profiles)
    ways = placements(profiles, bundles, source, edge_factor=edge_factor)
    notes = plan_notes(profiles, ways, edge_factor=edge_factor, sender=Sender(radio, burst))
    found = make_plan(ways, link, Sender(radio, burst), objective, notes)
    if plot is not None:
        with needing_extra("bench"):
            from spikebottlenet.plan.plot import draw_plan
        draw_plan(found, ways, plot)
    if as_json:
        print(json.dumps(found.as_json()))
        return
    print_table(plan_table(found))
    for line in (*verdict(found), *notes):
        print(line)
    if plot is not None:
        print(f"written: {plot}")
