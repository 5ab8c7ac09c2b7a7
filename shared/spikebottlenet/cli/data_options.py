"""Options of the commands that read a data set."""

from typing import Annotated

import typer

ImageColumn = Annotated[
    str | None, typer.Option("--image-column", help="column of images; default: found")
]
LabelColumn = Annotated[
    str | None, typer.Option("--label-column", help="column of labels; default: found")
]
TrainSplit = Annotated[
    str | None, typer.Option("--train-split", help="split to train on; default: train")
]
TestSplit = Annotated[
    str | None,
    typer.Option(
        "--test-split", help="split to test on; default: test, validation, or a part of train"
    ),
]
