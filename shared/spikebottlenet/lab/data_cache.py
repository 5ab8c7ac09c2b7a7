"""Decoded images on disk, mapped into memory: a folder a split and preprocess.

    XDG_CACHE_HOME/spikebottlenet/data/KEY/
        images.u8     uint8 [N, ...], no header
        index.npz     labels int64 [N], digests uint64 [N], the shape of an image
        corrupt.json  what could not be read, and why

It is made under another name and renamed when whole, by one process at a time (a lock that the
kernel drops when the process dies): a kill or a full disk leaves no folder that is used.
"""

import errno
import fcntl
import hashlib
import json
import math
import mmap
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.durable_folder import force_to_disk
from spikebottlenet.errors import DataError

_IMAGES, _INDEX, _CORRUPT = "images.u8", "index.npz", "corrupt.json"
# Linux, asm-generic/mman-common.h: pages that are never written need no room in swap.
_MAP_NORESERVE = 0x4000
_UNFINISHED = ".unfinished"


class Chunk(NamedTuple):
    """Some of the arrays to be kept, in order."""

    images: npt.NDArray[np.uint8]  # [n, ...]
    labels: npt.NDArray[np.int64]  # [n]
    digests: npt.NDArray[np.uint64]  # [n]
    corrupt: tuple[str, ...]


@dataclass(frozen=True)
class Cached:
    """A split as it lies on disk; writing to ``images`` changes memory alone."""

    images: npt.NDArray[np.uint8]  # [N, ...]
    labels: npt.NDArray[np.int64]  # [N]
    digests: npt.NDArray[np.uint64]  # [N]
    corrupt: tuple[str, ...]


def cache_root() -> Path:
    """Where decoded splits are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "spikebottlenet" / "data"


def cache_key(*parts: str) -> str:
    """A folder's name from all that its content depends on."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def cached_or_made(
    key: str, chunks: Iterable[Chunk], *, shape: tuple[int, ...], most: int
) -> Cached:
    """What is cached under ``key``, or else ``chunks`` written there, which are not read otherwise.

    ``shape`` is of one image, ``most`` how many there can be: room is asked for before the start.

    Raises:
        DataError: no room on the disk, or it cannot be written.
    """
    root = cache_root()
    found = _open(root / key, shape)
    if found is not None:
        return found
    wanted = most * math.prod(shape)
    with _disk(root, wanted), _alone(root / f"{key}.lock"):
        found = _open(root / key, shape)  # another process may have made it meanwhile
        if found is not None:
            return found
        making = root / f"{key}{_UNFINISHED}"
        shutil.rmtree(making, ignore_errors=True)  # a dead process's
        shutil.rmtree(root / key, ignore_errors=True)  # a damaged one
        _check_room(root, wanted)
        making.mkdir()
        try:
            _write(making, chunks)
            making.rename(root / key)
            force_to_disk(root)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    made = _open(root / key, shape)
    if made is None:
        raise DataError(f"{root / key} was written and cannot be read: check the disk")
    return made


def _write(folder: Path, chunks: Iterable[Chunk]) -> None:
    labels, digests, corrupt = [], [], list[str]()
    with (folder / _IMAGES).open("wb") as file:
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk.images).data)
            labels.append(chunk.labels)
            digests.append(chunk.digests)
            corrupt += chunk.corrupt
    with (folder / _INDEX).open("wb") as file:
        np.savez(
            file,
            labels=np.concatenate([*labels, np.empty(0, dtype=np.int64)]),
            digests=np.concatenate([*digests, np.empty(0, dtype=np.uint64)]),
        )
    (folder / _CORRUPT).write_text(json.dumps(corrupt), encoding="utf-8")
    for name in (_IMAGES, _INDEX, _CORRUPT):
        force_to_disk(folder / name)


def _open(folder: Path, shape: tuple[int, ...]) -> Cached | None:
    """What a folder holds, or None where it is not there or not whole."""
    try:
        with (folder / _INDEX).open("rb") as file, np.load(file) as index:
            labels, digests = index["labels"], index["digests"]
        corrupt = tuple(json.loads((folder / _CORRUPT).read_text(encoding="utf-8")))
        wanted = (len(labels), *shape)
        if (folder / _IMAGES).stat().st_size != math.prod(wanted):
            return None
        return Cached(_mapped(folder / _IMAGES, wanted), labels, digests, corrupt)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _mapped(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Map a file, copy on write: torch warns of memory that cannot be written."""
    size = math.prod(shape)
    if size == 0:
        return np.empty(shape, dtype=np.uint8)
    with path.open("rb") as file:
        mapped = mmap.mmap(
            file.fileno(),
            size,
            flags=mmap.MAP_PRIVATE | _MAP_NORESERVE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
        )
    return np.frombuffer(mapped, dtype=np.uint8).reshape(shape)


def _check_room(root: Path, wanted: int) -> None:
    free = shutil.disk_usage(root).free
    if free < wanted:
        raise DataError(
            f"{root} has {free / 1e6:.0f} MB free, wanted {wanted / 1e6:.0f} MB for decoded "
            "images: free some, or name another disk as XDG_CACHE_HOME"
        )


@contextmanager
def _disk(root: Path, wanted: int) -> Iterator[None]:
    """Say what is wrong with the cache's disk."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        remedy = "make it writable"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(root).free
            remedy = f"{free / 1e6:.0f} MB are left, wanted {wanted / 1e6:.0f} MB, free some"
        raise DataError(
            f"cannot write decoded images to {root}: {error.strerror or error}; {remedy}, or name "
            "another disk as XDG_CACHE_HOME"
        ) from error


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process makes the same."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
