"""Plots of what was found, as SVG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from spikebottlenet.bench.figures import Claim, Part, Table

_HOLDS, _MISSED = "#2a7f62", "#b5452c"


def draw_plots(parts: Sequence[Part], folder: Path, report: str) -> list[Path]:
    """Write every plot there is something for, named after the report."""
    mpl.rcParams["svg.fonttype"] = "none"  # text stays text
    paths = []
    claims = [claim for part in parts for claim in part.claims]
    if claims:
        paths.append(_save(_claims(claims), folder / f"{report}-claims.svg"))
    tables = {table.key: table for part in parts for table in part.tables}
    if "peers" in tables:
        paths.append(_save(_peers(tables["peers"]), folder / f"{report}-peers.svg"))
    growth = [table for key, table in tables.items() if key.startswith("growth_")]
    if growth:
        paths.append(_save(_growth(growth), folder / f"{report}-growth.svg"))
    return paths


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, bbox_inches="tight")
    return path


def _claims(claims: Sequence[Claim]) -> Figure:
    """Each ratio over what is wanted of it: 1 is the bound."""
    figure = Figure(figsize=(8, 0.4 * len(claims) + 1.2))
    axes = figure.subplots()
    for row, claim in enumerate(claims):
        colour = _HOLDS if claim.holds else _MISSED
        low, middle, high = (
            value / claim.wanted
            for value in (claim.ratio.low, claim.ratio.median, claim.ratio.high)
        )
        axes.plot([low, high], [row, row], color=colour, linewidth=2)
        axes.plot([middle], [row], "o", color=colour)
    names = [f"{claim.name} ({claim.bound} {claim.wanted:g})" for claim in claims]
    axes.set_yticks(range(len(claims)), names)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("ratio over what is wanted; bars are quartiles")
    return figure


def _peers(table: Table) -> Figure:
    """Images/s per core and bytes an image of each server."""
    names = [str(name) for name in table.column(table.columns[0])]
    figure = Figure(figsize=(11, 0.35 * len(names) + 1.2))
    left, right = figure.subplots(1, 2, sharey=True)
    places = range(len(names))
    left.barh(places, _numbers(table.column("images/s per core")), color=_HOLDS)
    left.set_xlabel("images/s per server core")
    up, down = (_numbers(table.column(f"bytes {way}")) for way in ("up", "down"))
    right.barh(places, up, color=_HOLDS, label="up")
    right.barh(places, down, left=up, color=_MISSED, label="down")
    right.set_xlabel("bytes on the wire an image")
    right.legend()
    left.set_yticks(places, names)
    left.invert_yaxis()
    return figure


def _growth(tables: Sequence[Table]) -> Figure:
    """Every cost over its size, both logarithmic."""
    figure = Figure(figsize=(4.2 * len(tables), 3.6))
    panels: Any = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, table in zip(panels, tables, strict=True):
        *rows, slopes = table.rows
        sizes = _numbers([row[0] for row in rows])
        for at, name in enumerate(table.columns[1:], start=1):
            axes.loglog(
                sizes, _numbers([row[at] for row in rows]), "o-", label=f"{name}: {slopes[at]}"
            )
        axes.set_xlabel(table.columns[0])
        axes.legend(fontsize="x-small", title="cost: slope", title_fontsize="x-small")
    return figure


def _numbers(cells: Sequence[object]) -> list[float]:
    return [float(cell) if isinstance(cell, int | float) else float("nan") for cell in cells]
