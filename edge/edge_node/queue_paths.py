"""Where a queue's files lie, and how they come and go for good."""

import contextlib
import os
from pathlib import Path

SUFFIXES = ("", "-wal", "-shm")  # of one SQLite file


def copy_path(path: Path) -> Path:
    """Where a queue's copy lies."""
    return path.with_name(f"{path.name}.copy")


def salvage_path(path: Path) -> Path:
    """Where a salvage lies that ended, until it is put in place."""
    return path.with_name(f"{path.name}.salvaged")


def unlink_file(path: Path) -> None:
    """Remove an SQLite file and what belongs to it."""
    for suffix in SUFFIXES:
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Have the names in a file's folder on disk."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def set_aside(path: Path, queue: Path) -> Path:
    """Rename a damaged file of a queue; it is never deleted."""
    number = 1
    while (aside := queue.with_name(f"{queue.name}.damaged-{number}")).exists():
        number += 1
    for suffix in SUFFIXES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside
