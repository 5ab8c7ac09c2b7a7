"""``spikebottlenet report``: measured runs as one page."""

from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.bundle import bundle_folder
from spikebottlenet.lab.report.write import write_report


def report(
    runs: Annotated[
        list[str],
        typer.Argument(help="folders of trainings, bundles or results.json files; or 'default'"),
    ],
    out: Annotated[Path, typer.Option(help="folder for report.html and report.md")],
) -> None:
    """Write tables, frontiers and targets of runs and their baselines, as HTML and Markdown.

    Made of the runs' results.json, which `train`, `baselines` and `evaluate --out` write. Nothing
    is measured here, and what was not is said.
    """
    written = write_report([bundle_folder(run) for run in runs], out)
    print(f"written: {written.page} and {written.text.name}, {written.points} points")
    if written.sections > 1:
        print(f"{written.sections} sections: the runs were measured on different images")
