"""``spikebottlenet export``: a bundle's head for other runtimes and simulators."""

from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.bundle import Half, bundle_folder, open_bundle
from spikebottlenet.cli.extras import needing_extra


def export(
    out: Annotated[Path, typer.Argument(help="file to write; must not be there yet")],
    to: Annotated[str, typer.Option(help="onnx, onnx-step or nir")],
    bundle: Annotated[
        str, typer.Option(help="a bundle's folder, or 'default' for the shipped one")
    ] = "default",
) -> None:
    """Write a bundle's head as ONNX (whole or one timestep) or as NIR.

    The head's own weights, folded and exact; says what the format does not keep.
    """
    with needing_extra("lab"):
        from spikebottlenet.lab.export_head import export_head, find_format

        wanted = find_format(to)
        opened = open_bundle(bundle_folder(bundle), Half.LAB)
        done = export_head(opened, wanted, out)
    print(f"written: {done.path}, {done.path.stat().st_size:,} bytes, of {opened.model}")
    if done.caveat:
        print(f"note: {done.caveat}")
