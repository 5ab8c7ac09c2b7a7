"""The log of a training: one JSON line an epoch, written from what the checkpoint knows."""

import json
from pathlib import Path
from typing import Any

from spikebottlenet.lab.checkpoint import replace_file

Line = dict[str, Any]


def write_log(path: Path, lines: list[Line]) -> None:
    """Make the log say these epochs, by one rename; an epoch stands in it once.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    whole = "".join(json.dumps(line) + "\n" for line in lines).encode()
    if not path.exists() or path.read_bytes() != whole:
        replace_file(path, whole)


def read_log(path: Path, epochs: int) -> list[Line]:
    """The first so many epochs of a log, up to a line that was cut short."""
    lines: list[Line] = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for row in text.splitlines()[:epochs]:
        try:
            lines.append(json.loads(row))
        except ValueError:
            break
    return lines
