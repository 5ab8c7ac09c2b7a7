"""``spikebottlenet model``: what a bundle is, and a bundle refitted to its head."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
import yaml

from spikebottlenet.bundle import Half, bundle_folder, open_bundle
from spikebottlenet.cli.extras import needing_extra
from spikebottlenet.cli.measured import print_measured
from spikebottlenet.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Look at model bundles, and refit them.")


@app.command()
def show(
    bundle: Annotated[
        str, typer.Argument(help="a bundle's folder, or 'default' for the shipped one")
    ] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="the manifest as JSON")] = False,
) -> None:
    """Show a bundle's manifest, what was measured and its fingerprint; checks every file."""
    opened = open_bundle(bundle_folder(bundle), Half.LAB)
    manifest = opened.manifest
    plain = manifest.plain() | {"fingerprint": opened.fingerprint}
    if as_json:
        print(json.dumps(plain, ensure_ascii=False))
        return
    shape = manifest.architecture.spike_shape
    print(f"{manifest.name}  ({opened.folder})")
    print(f"fingerprint  {opened.fingerprint}")
    print(
        f"spikes  [T, C, H, W] = {list(shape)}, {shape.bits} bits an image, "
        f"{manifest.architecture.bit_compression:.0f}x bit compression"
    )
    names = plain.pop("class_names")
    plain.pop("fingerprint")
    plain.pop("name")
    print(yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=100), end="")
    print(f"classes  {', '.join(names)}")


@app.command()
def refit(
    bundle: Annotated[
        str, typer.Argument(help="a bundle's folder with its training.yaml, or 'default'")
    ],
    out: Annotated[Path, typer.Option(help="folder to make, with the new bundle")],
    data: Annotated[
        str | None, typer.Option(help="local copy or other name of the config's data set")
    ] = None,
    images: Annotated[int, typer.Option(min=0, help="fit to N images only; 0: all")] = 0,
    head_bits: Annotated[
        int | None, typer.Option(min=4, max=8, help="put the head on weights of N bits first")
    ] = None,
    only_tail: Annotated[
        bool, typer.Option("--only-tail", help="make tail.onnx alone: the tail on 8-bit integers")
    ] = False,
    threads: Annotated[int, typer.Option(min=0, help="threads; 0: one a core")] = 0,
) -> None:
    """Fit all that comes of the head's spikes again, and measure the result.

    That is prior, context model, edge exit and the 8-bit tail: what to run after a head changed.
    """
    if only_tail and head_bits:
        raise ConfigError("--only-tail keeps the head: leave --head-bits out")
    with needing_extra("lab"):
        import torch

        from spikebottlenet.lab.refit import refit_bundle
    used = threads or os.cpu_count() or 1
    torch.set_num_threads(used)
    opened = open_bundle(bundle_folder(bundle), Half.LAB)
    made = refit_bundle(
        opened,
        out,
        data=data,
        images=images,
        head_bits=head_bits or 0,
        only_tail=only_tail,
        threads=used,
    )
    print_measured(made)
