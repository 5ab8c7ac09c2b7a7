"""A folder that is changed by one process at a time, and outlives the power."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikebottlenet.errors import StoreError


class InUseError(StoreError):
    """Another process changes the folder now."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say what is wrong with a disk, and what to do.

    Raises:
        StoreError: in place of any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some room on that disk"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "run as the daemon's user, or name another folder"
        else:
            remedy = "check the disk, or name another folder"
        raise StoreError(
            f"cannot use {folder} for bundles: {error.strerror or error}; the bundle in use is "
            f"kept: {remedy}"
        ) from error


def force_to_disk(path: Path) -> None:
    """Return when a file's bytes, or a folder's names, will outlive the power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Be the only process in this block; the kernel ends that when a process dies.

    Raises:
        InUseError: another one is.
        StoreError: the file cannot be made.
    """
    with writing(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
        # To be read only: a person's command may have made it as another user.
        descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(
                f"another process changes the bundles in {lock.parent}: wait for its end"
            ) from error
        yield
    finally:
        os.close(descriptor)


def replace_link(link: Path, target: Path) -> None:
    """Make a symbolic link lead elsewhere by one rename: it leads to the old or to the new."""
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
    force_to_disk(link.parent)
