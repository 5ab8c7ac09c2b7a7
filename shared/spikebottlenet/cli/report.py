"""``spikebottlenet report``: measured runs as one page."""

from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.lab.report.write import write_report


def report(
    runs: Annotated[list[Path], typer.Argument(help="folders of trainings, or results.json files")],
    out: Annotated[Path, typer.Option(help="folder for report.html and report.md")],
) -> None:
    """Write tables, frontiers and targets of runs and their baselines, as HTML and Markdown.

    Made of the runs' results.json, which `train`, `baselines` and `evaluate --out` write. Nothing
    is measured here, and what was not is said.
    """
    written = write_report(runs, out)
    print(f"written: {written.page} and {written.text.name}, {written.points} points")
    if written.sections > 1:
        print(f"{written.sections} sections: the runs were measured on different images")
