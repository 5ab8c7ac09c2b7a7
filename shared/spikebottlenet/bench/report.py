"""What was found as JSON, as Markdown and on a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from spikebottlenet.bench.figures import CLAIMS, Cell, Claim, Part, Table
from spikebottlenet.bench.subject import Subject

FORMAT_VERSION = 1


def as_json(
    parts: Sequence[Part], subject: Subject, machine: dict[str, Any], *, seconds: float
) -> dict[str, Any]:
    """The whole report, plain."""
    manifest = subject.bundle.manifest
    made = [claim for part in parts for claim in part.claims]
    names = {claim.name for claim in made}
    return {
        "format_version": FORMAT_VERSION,
        "quick": subject.quick,
        "seconds": round(seconds, 1),
        "machine": machine,
        "bundle": {"name": manifest.name, "fingerprint": subject.bundle.fingerprint},
        "images": {
            "source": subject.images.source,
            "held_out": subject.images.held_out,
            "count": len(subject.images.pixels),
        },
        "claims": [claim.as_json() for claim in made],
        "not_measured": [name for name in CLAIMS if name not in names],
        "parts": {
            part.name: {
                "seconds": round(part.seconds, 1),
                "failed": part.failed,
                "tables": [table.as_json() for table in part.tables],
                "notes": list(part.notes),
            }
            for part in parts
        },
    }


def as_markdown(parts: Sequence[Part], subject: Subject, machine: dict[str, Any]) -> str:
    """The whole report to read."""
    lines = [
        "# Bench",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['date']}. Bundle "
        f"{subject.bundle.model}. Images: {subject.images.source} "
        f"({len(subject.images.pixels)}).",
        "",
    ]
    if subject.quick:
        lines += ["A quick run: it shows that everything runs, its figures say little.", ""]
    claims = [claim for part in parts for claim in part.claims]
    if claims:
        lines += _markdown(_claims_table(claims))
    for part in parts:
        for table in part.tables:
            lines += _markdown(table)
        for note in part.notes:
            lines += [note, ""]
    return "\n".join(lines)


def print_report(parts: Sequence[Part], console: Console) -> None:
    """The same on a terminal."""
    claims = [claim for part in parts for claim in part.claims]
    if claims:
        console.print(_rich(_claims_table(claims)))
    for part in parts:
        for table in part.tables:
            console.print(_rich(table))
            if table.note:
                console.print(table.note, highlight=False, markup=False)
        for note in part.notes:
            console.print(note, highlight=False, markup=False)
    missed = [claim.name for claim in claims if not claim.holds]
    if claims:
        console.print(f"{len(claims) - len(missed)} of {len(claims)} hold", highlight=False)
    if missed:
        console.print(f"missed: {', '.join(missed)}", highlight=False)


def _claims_table(claims: Sequence[Claim]) -> Table:
    rows = tuple(
        (
            claim.name,
            f"{claim.value:.4g}",
            f"{claim.reference:.4g}",
            claim.unit,
            f"{claim.ratio.median:.3f}",
            f"{claim.ratio.low:.3f} to {claim.ratio.high:.3f}",
            f"{claim.bound} {claim.wanted:g}",
            "holds" if claim.holds else "MISSED",
        )
        for claim in claims
    )
    columns = ("figure", "value", "reference", "unit", "ratio", "quartiles", "wanted", "")
    return Table("claims", "Against the references", columns, rows)


def _markdown(table: Table) -> list[str]:
    lines = [f"## {table.title}", "", "| " + " | ".join(table.columns) + " |"]
    lines += ["|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    return [*lines, "", *([table.note, ""] if table.note else [])]


def _rich(table: Table) -> RichTable:
    made = RichTable(title=table.title, title_justify="left")
    for index, name in enumerate(table.columns):
        made.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in table.rows:
        made.add_row(*(_cell(cell) for cell in row))
    return made


def _cell(cell: Cell) -> str:
    return "-" if cell is None else str(cell)
