"""What is said where a disk refuses a write: what was to be written, the room, what to do."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from spikebottlenet.errors import StoreError

_MEGABYTE = 1e6
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_WORDS = ("No space left", "Disk quota")  # of errors without a number


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Around writing ``what`` somewhere in ``folder``.

    Raises:
        StoreError: in place of a disk's error.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"cannot write {what} in {folder}: {reason(error)}; found {room(folder)}: "
            f"{remedy(error)}, then give the same command again"
        ) from error


def reason(error: Exception) -> str:
    """Why, in the system's words."""
    return getattr(error, "strerror", None) or str(error)


def room(folder: Path) -> str:
    """How much is left on a folder's disk."""
    try:
        return f"{shutil.disk_usage(folder).free / _MEGABYTE:.1f} MB free"
    except OSError:
        return "a disk that does not answer"


def remedy(error: Exception) -> str:
    """What is to be done first."""
    number, words = getattr(error, "errno", None), str(error)
    if number == errno.EFBIG or "File too large" in words:
        return "allow larger files (`ulimit -f`, or the disk's own limit)"
    if number in _FULL or any(said in words for said in _FULL_WORDS):
        return "free some room"
    return "check the disk and its permissions"
