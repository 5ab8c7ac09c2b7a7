"""Checkpoints that neither a kill, nor a full disk, nor a damaged file can take away.

A new one is written beside the old one, forced to disk, and takes its name by one rename; the old
one stays as ``NAME.previous.pt``. Behind the bytes of ``torch.save`` stand 6 bytes ``SHA256`` and
the 32 bytes of their hash, which ``torch.load`` passes over; files without are older, and are read.
"""

import contextlib
import hashlib
import io
import logging
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from spikebottlenet.durable_folder import force_to_disk
from spikebottlenet.errors import StoreError
from spikebottlenet.lab import disk

log = logging.getLogger(__name__)

State = dict[str, Any]

_MARK = b"SHA256"
_TRAILER = len(_MARK) + hashlib.sha256().digest_size
_MEGABYTE = 1e6


def previous_of(path: Path) -> Path:
    """Where the checkpoint before the newest one lies."""
    return path.with_suffix(f".previous{path.suffix}")


def save_checkpoint(path: Path, state: State) -> None:
    """Put ``state`` in the place of the newest checkpoint, which becomes the previous one.

    Raises:
        StoreError: the disk is full or cannot be written; the newest checkpoint is as it was.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    data += _MARK + hashlib.sha256(data).digest()
    replace_file(path, data, previous=previous_of(path))


def replace_file(path: Path, data: bytes, *, previous: Path | None = None) -> None:
    """Give a file new contents: after a power cut it has the old ones or the new ones.

    Raises:
        StoreError: the disk is full or cannot be written; the file is as it was.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, previous)
        partial.replace(path)
        force_to_disk(path.parent)
    except OSError as error:
        raise _explained(path, partial, len(data), error) from error


def _keep(path: Path, previous: Path) -> None:
    """Give the file a second name, so that at no moment there is none under its first."""
    second = previous.with_name(f"{previous.name}.partial")
    second.unlink(missing_ok=True)
    try:
        second.hardlink_to(path)
    except OSError:  # a file system without hard links
        path.replace(previous)
        return
    second.replace(previous)


def _explained(path: Path, partial: Path, wanted: int, error: OSError) -> StoreError:
    with contextlib.suppress(OSError):
        partial.unlink(missing_ok=True)
    kept = f"{path} is as it was" if path.exists() else f"there is no {path.name} yet"
    return StoreError(
        f"cannot write {path}: {disk.reason(error)}; found {disk.room(path.parent)}, "
        f"wanted {wanted / _MEGABYTE:.1f} MB; {kept}: {disk.remedy(error)}, then give the same "
        "command again, and the training goes on from there"
    )


def load_checkpoint(path: Path) -> State | None:
    """The newest checkpoint, the previous one where the newest is damaged, or None of neither.

    Raises:
        StoreError: there are checkpoints, but not one that can be read.
    """
    reasons = []
    for candidate in (path, previous_of(path)):
        if not candidate.exists():
            continue
        try:
            state = read_checkpoint(candidate)
        except (OSError, StoreError) as error:
            log.warning("checkpoint %s cannot be used (%s)", candidate, error)
            reasons.append(f"{candidate}: {error}")
            continue
        if reasons:
            log.warning("going on from the one before, %s", candidate)
        return state
    if reasons:
        raise StoreError(
            f"no checkpoint can be used ({'; '.join(reasons)}): bring one back, or move them "
            "away to begin this training again"
        )
    return None


def read_checkpoint(path: Path) -> State:
    """This very file, on the CPU, and no other in its place.

    Raises:
        StoreError: it is damaged.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    trailer = data[-_TRAILER:]
    if trailer.startswith(_MARK):
        data, wanted = data[:-_TRAILER], trailer[len(_MARK) :]
        if hashlib.sha256(data).digest() != wanted:
            raise StoreError("it is damaged: its bytes are not those of its SHA-256")
    try:
        state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except (
        RuntimeError,
        ValueError,
        EOFError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        first = str(error).strip().partition("\n")[0]
        raise StoreError(f"it is damaged: {first or type(error).__name__}") from error
    if not isinstance(state, dict) or not isinstance(state.get("network"), dict):
        raise StoreError("it is not a checkpoint: found no weights in it")
    return state
