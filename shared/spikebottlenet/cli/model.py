"""``spikebottlenet model``: what a bundle is."""

import json
from typing import Annotated

import typer
import yaml

from spikebottlenet.bundle import Half, bundle_folder, open_bundle

app = typer.Typer(no_args_is_help=True, help="Look at model bundles.")


@app.callback()
def _group() -> None:
    """Keeps ``show`` a subcommand while it is the only one."""


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
    plain = manifest.model_dump(mode="json") | {"fingerprint": opened.fingerprint}
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
