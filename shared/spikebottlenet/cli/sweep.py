"""``spikebottlenet sweep``: one training for each point of a grid of settings."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from spikebottlenet.cli.extras import needing_extra
from spikebottlenet.cli.table import print_table

_KILLED_BY = 128  # exit status of a process that a signal ended, less its number


def sweep(
    config: Annotated[
        str,
        typer.Option(help="settings that all runs begin with: YAML, or a shipped name"),
    ],
    out: Annotated[Path, typer.Option(help="folder of all runs, and of sweep.json and sweep.md")],
    grid: Annotated[
        list[str] | None,
        typer.Option(help="KEY=V1,V2: values of one setting, as loss.lambda_bits=0,0.5,1; repeat"),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE over the config's; repeat")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="local copy or other name of the config's data set")
    ] = None,
) -> None:
    """Train every combination; runs with the same un-cut part share one un-cut network.

    Given again, the same command goes on: what is done is not run again. A run that fails is named
    at the end, and the exit status is 1.
    """
    with needing_extra("lab"):
        from spikebottlenet.lab import sweep as lab
        from spikebottlenet.lab.config_files import config_file
        from spikebottlenet.lab.stopping import TrainingStoppedError
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("spikebottlenet").setLevel(logging.INFO)
    axes = [lab.parse_axis(text) for text in grid or ()]
    path = config_file(config)
    points = lab.grid(path, axes, sets or ())
    outcomes: list[lab.Outcome] = []
    try:
        for outcome in lab.run_sweep(path, points, out, data=data):
            outcomes.append(outcome)
            lab.write_table(out, lab.table(axes, outcomes))
    except TrainingStoppedError as error:
        print(f"spikebottlenet: {error}", file=sys.stderr)
        raise typer.Exit(_KILLED_BY + error.signal_number) from error
    rows = lab.table(axes, outcomes)
    shown = Table(box=None, pad_edge=False)
    figures = ("held_out_top1", "test_top1", "uncut_top1", "payload_bytes_mean", "edge_compute_uj")
    names = ["run", "state", *figures]
    for name in names:
        shown.add_column(name)
    for row in rows:
        shown.add_row(*(str(row.get(name, "-")) for name in names))
    print_table(shown)
    failed = [outcome for outcome in outcomes if outcome.measured is None]
    for outcome in failed:
        print(f"spikebottlenet: {outcome.point.name}: {outcome.reason}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)
