"""Records for people: a table and a line of totals."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from rich.console import Console
from rich.table import Table

from spikebottlenet.accounting.record import InferenceRecord, Totals

_WIDTH_IN_FILES = 120  # columns, where there is no terminal to ask


def print_table(table: Table) -> None:
    """Print for a terminal of any width, or into a file without cutting words."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_IN_FILES)
    console.print(table)


def record_table(
    rows: Sequence[tuple[str, InferenceRecord]], wanted: Mapping[str, str] | None = None
) -> Table:
    """One row an image; ``wanted`` gives the right label of file names, where known."""
    table = Table(box=None, pad_edge=False)
    table.add_column("image")
    table.add_column("label")
    if wanted is not None:
        table.add_column("wanted")
    for title in ("sure", "from", "bytes", "wire", "edge uJ", "ann uJ", "ratio", "ms"):
        table.add_column(title, justify="left" if title == "from" else "right")
    for name, record in rows:
        short = PurePath(name).name
        cells = [short, record.label]
        if wanted is not None:
            cells.append(wanted.get(short, ""))
        table.add_row(
            *cells,
            f"{100 * record.confidence:.0f} %",
            record.source.value,
            str(record.payload_bytes),
            str(record.wire_bytes_up),
            f"{record.edge_compute_uj:.1f}",
            f"{record.ann_head_uj:.1f}",
            f"{record.ann_head_uj / record.edge_compute_uj:.1f}x",
            f"{record.latency_ms.total:.1f}",
        )
    return table


def result_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One row a stored image, as ``results --json`` writes it."""
    table = Table(box=None, pad_edge=False)
    for title in ("request", "state", "label", "sure", "model", "reason"):
        table.add_column(title, justify="right" if title == "sure" else "left")
    for row in rows:
        sure = row["confidence"]
        table.add_row(
            row["request_id"],
            row["state"],
            row["label"] or "",
            "" if sure is None else f"{100 * sure:.0f} %",
            row["model"],
            row["reason"],
        )
    return table


def totals_line(totals: Totals, *, failed: int, seconds: float) -> str:
    """Images, bytes, estimated energy and rate."""
    rate = totals.images / seconds if seconds > 0 else 0.0
    return (
        f"{totals.images} answered ({totals.edge_exit_answers} by the edge exit), {failed} failed; "
        f"payload {totals.payload_bytes} B, wire {totals.wire_bytes_up} B up "
        f"{totals.wire_bytes_down} B down; estimated energy: edge compute "
        f"{totals.edge_compute_uj:.1f} uJ (ordinary head {totals.ann_head_uj:.1f} uJ), radio "
        f"{totals.edge_radio_uj:.1f} uJ, cloud compute {totals.cloud_compute_uj:.1f} uJ; "
        f"{rate:.1f} images/s"
    )
