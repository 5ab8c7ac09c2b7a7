"""How many of a split's files may be unreadable, and what is said of them."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from spikebottlenet.errors import DataError

log = logging.getLogger(__name__)
_NAMED = 5  # in one message


class CorruptLimit(NamedTuple):
    """The limit of one split: a share of its files, and one at least unless it is 0."""

    name: str  # of the split, for messages
    files: int
    share: float

    @property
    def allowed(self) -> int:
        """How many files may be left out."""
        return max(1, int(self.files * self.share)) if self.share > 0 else 0

    def check(self, corrupt: Sequence[str]) -> None:
        """Refuse a split with too many.

        Raises:
            DataError: names the first of them.
        """
        if len(corrupt) > self.allowed:
            raise DataError(
                f"more than {self.allowed} of the {self.files} files of {self.name} cannot be "
                f"read: {'; '.join(corrupt[:_NAMED])}: mend them or take them away, or raise "
                "data.max_corrupt"
            )

    def say(self, corrupt: Sequence[str]) -> None:
        """Name each file that is left out, and count them."""
        for one in corrupt:
            log.warning("left out of %s: %s", self.name, one)
        if corrupt:
            log.warning("%d of %d files of %s left out", len(corrupt), self.files, self.name)
