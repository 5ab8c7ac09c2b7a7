"""``spikebottlenet train``: a config file to a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.cli.data_options import ImageColumn, LabelColumn, TestSplit, TrainSplit
from spikebottlenet.cli.extras import needing_extra
from spikebottlenet.cli.measured import print_measured


def train(
    config: Annotated[
        str, typer.Argument(help="training settings, YAML, or 'small' for a few images of your own")
    ],
    out: Annotated[
        Path, typer.Option(help="folder of checkpoints, logs and, at the end, bundle/")
    ] = Path("runs/latest"),
    data: Annotated[
        str | None,
        typer.Option(help="folder of your images, local copy or other name of the data set"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="of the bundle; default: the config's")] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    train_split: TrainSplit = None,
    test_split: TestSplit = None,
) -> None:
    """Train the un-cut network, then the cut one from it, and make the bundle.

    Stopped or killed, the same command goes on from the last whole epoch.
    """
    with needing_extra("lab"):
        from spikebottlenet.lab.config import DataChoice
        from spikebottlenet.lab.config_files import config_file
        from spikebottlenet.lab.train import train_bundle
    path = config_file(config)
    choice = DataChoice(image_column, label_column, train_split, test_split)
    bundle = train_bundle(path, out, name=name or path.stem, data=data, choice=choice)
    print_measured(bundle)
