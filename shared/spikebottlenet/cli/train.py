"""``spikebottlenet train``: a config file to a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.cli.extras import needing_extra
from spikebottlenet.cli.measured import print_measured


def train(
    config: Annotated[Path, typer.Argument(help="training settings, YAML")],
    out: Annotated[
        Path, typer.Option(help="folder of checkpoints, logs and, at the end, bundle/")
    ] = Path("runs/latest"),
    data: Annotated[
        str | None, typer.Option(help="local copy or other name of the config's data set")
    ] = None,
    name: Annotated[str | None, typer.Option(help="of the bundle; default: the config's")] = None,
) -> None:
    """Train the un-cut network, then the cut one from it, and make the bundle.

    Stopped or killed, the same command goes on from the last whole epoch.
    """
    with needing_extra("lab"):
        from spikebottlenet.lab.train import train_bundle
    bundle = train_bundle(config, out, name=name or config.stem, data=data)
    print_measured(bundle)
