"""What a web server tells its pages when the daemon is about to end."""

from collections.abc import Callable

ENDING = "spikebottlenet.ending"  # in a request's scope


class Ending:
    """Calls, once it begins, whatever would else go on for ever."""

    def __init__(self) -> None:
        self.begun = False
        self._ends: set[Callable[[], None]] = set()

    def ends(self, end: Callable[[], None]) -> None:
        """Have ``end`` called; more than once does no harm."""
        if self.begun:
            end()
        else:
            self._ends.add(end)

    def begin(self) -> None:
        """Call them all."""
        self.begun = True
        for end in self._ends:
            end()
        self._ends.clear()
