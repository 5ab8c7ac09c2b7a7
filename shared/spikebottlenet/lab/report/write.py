"""A report on disk: ``report.html`` by itself, ``report.md`` and its drawings."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from spikebottlenet.lab.disk import writing
from spikebottlenet.lab.report.build import build
from spikebottlenet.lab.report.markdown import drawings, markdown
from spikebottlenet.lab.report.page import html_page
from spikebottlenet.lab.report.runs import read_groups

PAGE, TEXT = "report.html", "report.md"


class Written(NamedTuple):
    """What was written, and of how much."""

    page: Path
    text: Path
    sections: int
    points: int


def write_report(places: Sequence[Path], out: Path) -> Written:
    """Report runs (folders or results files) into a folder.

    Raises:
        DataError: a run has no results, or damaged ones.
        StoreError: the report cannot be written.
    """
    groups = read_groups(places)
    document = build(groups)
    with writing("the report", out):
        out.mkdir(parents=True, exist_ok=True)
        for name, svg in drawings(document).items():
            (out / name).write_text(svg, encoding="utf-8")
        (out / TEXT).write_text(markdown(document), encoding="utf-8")
        (out / PAGE).write_text(html_page(document), encoding="utf-8")
    points = sum(len(group.placed) for group in groups)
    return Written(out / PAGE, out / TEXT, len(groups), points)
