"""Disk space kept for what frees disk space.

An answer that comes for a stored request has to be written before the request's place is free. On
a disk that others have filled it could not be, and the queue would never drain: so some space is
set aside in a file, and given up when nothing else is left.
"""

import contextlib
import os
from pathlib import Path

_BYTES = 1 << 20
_SHARE = 16  # of the free space, at most one part in so many
_MARGIN_BYTES = 64 * 1024  # what one commit may take besides its frames


class Reserve:
    """The file ``NAME.reserve`` beside a queue."""

    def __init__(self, queue: Path) -> None:
        self._path = queue.with_name(f"{queue.name}.reserve")
        self._folder = queue.parent
        self._bytes = min(_BYTES, self.free_bytes() // _SHARE)
        self.take()

    def free_bytes(self) -> int:
        """What the disk has left for this user."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def take(self) -> bool:
        """Set the space aside, if it is not and there is enough; whether it is now."""
        if self._path.exists():
            return True
        if self.free_bytes() < 2 * self._bytes + _MARGIN_BYTES:
            return False
        try:
            file = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.posix_fallocate(file, 0, max(1, self._bytes))
            finally:
                os.close(file)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()
            return False
        return True

    def give_up(self) -> bool:
        """Free the space; whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def has_room_for(self, frame_bytes: int) -> bool:
        """Whether so much can be stored twice, with the space set aside untouched."""
        return self.free_bytes() >= 4 * frame_bytes + _MARGIN_BYTES and self.take()
