"""``spikebottlenet energy``: a head's estimated energy by every profile, beside its rivals."""

import json
import os
from contextlib import ExitStack
from typing import Annotated, Any

import typer
from rich.table import Table

from spikebottlenet.accounting.energy import RADIO_PROFILES, Radio
from spikebottlenet.accounting.energy_activity import SeenActivity, assumed, from_manifest
from spikebottlenet.accounting.energy_head import HeadEnergy, head_energy
from spikebottlenet.accounting.energy_profile import ENERGY_PROFILES, find_profile
from spikebottlenet.accounting.rapl import Joules, metering
from spikebottlenet.bundle import Bundle, Half, bundle_folder, open_bundle
from spikebottlenet.cli.extras import needing_extra
from spikebottlenet.cli.table import print_table
from spikebottlenet.errors import ConfigError
from spikebottlenet.plan.messages import request_bytes

_UJ_PER_J = 1e6


def energy(
    bundle: Annotated[
        str, typer.Option(help="a bundle's folder, or 'default' for the shipped one")
    ] = "default",
    profile: Annotated[
        list[str] | None, typer.Option(help="energy profile; may be repeated; default: all")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="run the head on this data set (name or folder)")
    ] = None,
    split: Annotated[str, typer.Option(help="split of the data set")] = "test",
    limit: Annotated[
        int, typer.Option(min=0, help="so many images, always the same; 0: all")
    ] = 1000,
    rate: Annotated[
        float | None, typer.Option(min=0, max=1, help="instead: one firing rate in every layer")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="with --data: the processor's own joules beside")
    ] = False,
    threads: Annotated[int, typer.Option(min=0, help="threads; 0: one a core")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Estimated energy of the spiking head, of its rivals and of the radio, an image.

    Firing rates are the manifest's, unless --data or --rate gives others. Every figure is an
    estimate of hardware that skips silent neurons, but for what --measure reads.
    """
    profiles = [find_profile(name) for name in profile or ENERGY_PROFILES]
    opened = open_bundle(bundle_folder(bundle), Half.EDGE)
    if measure and data is None:
        raise ConfigError("--measure found nothing to run: give --data as well")
    if data is not None and rate is not None:
        raise ConfigError("found both --data and --rate, wanted one source of firing rates")
    joules: Joules | None = None
    architecture = opened.manifest.architecture
    if data is not None:
        seen, joules = _run(opened, data, split, limit, threads or os.cpu_count() or 1, measure)
    elif rate is not None:
        seen = assumed(architecture, rate)
    else:
        seen = from_manifest(opened.manifest)
    rows = [head_energy(architecture, seen.activity, each) for each in profiles]
    measured = opened.manifest.measured
    frame = None if measured is None else round(measured.payload_bytes_mean)
    record = _record(opened, seen, rows, frame, joules)
    if as_json:
        print(json.dumps(record))
    else:
        _print(record, rows, frame)


def _run(
    bundle: Bundle, data: str, split: str, limit: int, threads: int, measure: bool
) -> tuple[SeenActivity, Joules | None]:
    with needing_extra("lab"):
        from spikebottlenet.lab.config_files import bundle_data_settings
        from spikebottlenet.lab.data import load_split
        from spikebottlenet.lab.head_activity import head_activity
    manifest = bundle.manifest
    whole = load_split(data, split, manifest.preprocess, bundle_data_settings(bundle.folder))
    images = (whole.sample(limit) if limit else whole).images
    with ExitStack() as stack:
        meter = stack.enter_context(metering()) if measure else None
        activity = head_activity(bundle, images, threads=threads)
        joules = meter.read() if meter else None
    source = f"{len(images)} images of {data}, split {split}"
    return SeenActivity(activity, source, len(images)), joules


def _record(
    bundle: Bundle,
    seen: SeenActivity,
    rows: list[HeadEnergy],
    frame: int | None,
    joules: Joules | None,
) -> dict[str, Any]:
    radios: dict[str, Any] = {}
    if frame is not None:
        wire = request_bytes(frame)
        for radio, uplink in RADIO_PROFILES.items():
            if radio is not Radio.NONE:
                sending = uplink.send_uj(wire)
                radios[radio.value] = {
                    "wire_bytes": wire,
                    "send_uj": sending,
                    "send_and_tail_uj": sending + uplink.tail_j * _UJ_PER_J,
                }
    record: dict[str, Any] = {
        "model": bundle.model,
        "rates_from": seen.source,
        "firing_rates": seen.rates(bundle.manifest.architecture),
        "profiles": {row.profile: _profile_record(row) for row in rows},
        "radio": radios,
    }
    if joules is not None:
        record["measured"] = joules.as_json() | {"images": seen.images}
    return record


def _profile_record(row: HeadEnergy) -> dict[str, Any]:
    heads = {
        "spiking": row.spiking,
        "ordinary_float32": row.ordinary_float32,
        "ordinary_int8": row.ordinary_int8,
    }
    return {name: {**each._asdict(), "total_uj": each.total_uj} for name, each in heads.items()} | {
        "ratio_float32": row.ratio_float32,
        "ratio_int8": row.ratio_int8,
    }


def _print(record: dict[str, Any], rows: list[HeadEnergy], frame: int | None) -> None:
    print(f"{record['model']}; firing rates: {record['rates_from']}")
    table = Table(box=None, pad_edge=False)
    table.add_column("profile")
    for title in ("spiking uJ", "ordinary fp32 uJ", "ratio", "ordinary int8 uJ", "ratio"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row.profile,
            f"{row.spiking.total_uj:.1f}",
            f"{row.ordinary_float32.total_uj:.1f}",
            f"{row.ratio_float32:.1f}x",
            f"{row.ordinary_int8.total_uj:.1f}",
            f"{row.ratio_int8:.1f}x",
        )
    print_table(table)
    if len(rows) == 1:
        print_table(_parts_table(rows[0]))
    for name, radio in record["radio"].items():
        print(
            f"radio {name}: {frame} B frame, {radio['wire_bytes']} B on the wire: "
            f"{radio['send_uj']:.0f} uJ, {radio['send_and_tail_uj']:,.0f} uJ with its tail"
        )
    if "measured" in record:
        print(Joules.from_json(record["measured"]).sentence(record["measured"]["images"]))
    print("estimates, microjoules an image; docs/energy.md says what each leaves out")


def _parts_table(row: HeadEnergy) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("part")
    for title in ("spiking uJ", "ordinary fp32 uJ", "ordinary int8 uJ"):
        table.add_column(title, justify="right")
    heads = (row.spiking, row.ordinary_float32, row.ordinary_int8)
    for name in row.spiking._fields:
        table.add_row(name, *(f"{getattr(each, name):.1f}" for each in heads))
    return table
