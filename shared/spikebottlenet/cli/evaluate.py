"""``spikebottlenet evaluate``: a bundle on a data set, through the real codec."""

import json
import os
from typing import Annotated

import typer

from spikebottlenet.accounting.energy_profile import DEFAULT_PROFILE
from spikebottlenet.bundle import Half, bundle_folder, open_bundle
from spikebottlenet.cli.extras import needing_extra


def evaluate(
    data: Annotated[str, typer.Option(help="public data set name or local folder, for `datasets`")],
    bundle: Annotated[
        str, typer.Argument(help="a bundle's folder, or 'default' for the shipped one")
    ] = "default",
    split: Annotated[str, typer.Option(help="split of the data set")] = "test",
    limit: Annotated[int, typer.Option(min=0, help="first N images only; 0: all")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="threads; 0: one a core")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Accuracy, bytes and estimated energy of a bundle: exact head, real frames, tail."""
    with needing_extra("lab"):
        import torch

        from spikebottlenet.lab.data import load_split
        from spikebottlenet.lab.evaluate import evaluate_bundle
    opened = open_bundle(bundle_folder(bundle), Half.LAB)
    architecture = opened.manifest.architecture
    used = threads or os.cpu_count() or 1
    torch.set_num_threads(used)
    whole = load_split(data, split, opened.manifest.preprocess)
    chosen = whole.first(limit) if limit else whole
    found = evaluate_bundle(opened, chosen, threads=used).rounded()
    measured = opened.manifest.measured
    record = {
        "images": found["images"],
        "top1": found["top1"],
        "top5": found["top5"],
        "uncut_top1": measured.uncut_top1 if measured else None,
        "spike_bits": architecture.spike_shape.bits,
        "bit_compression": architecture.bit_compression,
        "payload_bytes_mean": found["payload_bytes_mean"],
        "payload_bytes_p99": found["payload_bytes_p99"],
        "firing_rate": found["firing_rate"],
        "edge_compute_uj": found["edge_compute_uj"],
        "ann_head_uj": found["ann_head_uj"],
        "energy_profile": DEFAULT_PROFILE.name,
        "model": opened.model,
    }
    if as_json:
        print(json.dumps(record))
        return
    for name, value in (record | {"edge_exit_top1": found["edge_exit_top1"]}).items():
        print(f"{name:>20}  {value}")
    print("uncut_top1 is the manifest's; energies are estimates, microjoules an image")
