"""``spikebottlenet train``: a config file to a bundle."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.cli.data_options import ImageColumn, LabelColumn, TestSplit, TrainSplit
from spikebottlenet.cli.extras import needing_extra
from spikebottlenet.cli.measured import print_measured

_KILLED_BY = 128  # exit status of a process that a signal ended, less its number


def train(
    config: Annotated[
        str,
        typer.Argument(
            help="YAML of settings, or a shipped one: 'small' for a few images of your own"
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="folder of checkpoints, logs and, at the end, bundle/")
    ] = Path("runs/latest"),
    data: Annotated[
        str | None,
        typer.Option(help="folder of your images, local copy or other name of the data set"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="of the bundle; default: the config's")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE over the config's, as loss.lambda_bits=0.5; repeat"),
    ] = None,
    uncut: Annotated[
        Path | None, typer.Option(help="folder of a run whose un-cut network is taken over")
    ] = None,
    only_uncut: Annotated[
        bool, typer.Option("--only-uncut", help="end when the un-cut network is trained")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="each epoch's figures for TensorBoard")
    ] = False,
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
        from spikebottlenet.lab.stopping import TrainingStoppedError
        from spikebottlenet.lab.train import TrainingOptions, train_bundle
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("spikebottlenet").setLevel(logging.INFO)
    path = config_file(config)
    choice = DataChoice(image_column, label_column, train_split, test_split)
    options = TrainingOptions((*choice.as_sets(), *(sets or ())), uncut, only_uncut, tensorboard)
    try:
        bundle = train_bundle(path, out, name=name or path.stem, data=data, options=options)
    except TrainingStoppedError as error:
        print(f"spikebottlenet: {error}", file=sys.stderr)
        raise typer.Exit(_KILLED_BY + error.signal_number) from error
    if bundle is not None:
        print_measured(bundle)
