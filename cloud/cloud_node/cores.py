"""How lanes share the cores with the event loop and with each other."""

import os
import sys
import threading
from contextlib import suppress

_LANES_NICE = 3  # half of the loop's share where they compete
_LINUX = sys.platform == "linux"  # where a thread has a niceness and cores of its own


class LaneCores:
    """The cores of the lane whose thread makes this.

    The lane gives way to the event loop. Under more load than the cores can serve a refusal is then
    sent at once, and does not wait until the tails leave some time.

    Where there are as many lanes as cores, and all have a batch, each keeps to a core of its own.
    Without that the scheduler puts two of them on one core at times: the one that holds the
    interpreter's lock then waits for its turn on the core, and the event loop, or a lane that is
    done, waits for the lock while the other core idles. That was a fifteenth of the cores' time.
    With a lane idle there are cores for all, and the scheduler knows best which.
    """

    def __init__(self, lane: int, lanes: int) -> None:
        self._lane, self._lanes = lane, lanes
        self._own = False  # it keeps to one
        if _LINUX:
            with suppress(OSError):  # a sandbox may not let it
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LANES_NICE)

    def take(self, *, every: bool) -> None:
        """Run on this lane's core from now on, or on ``every`` one.

        Threads that an engine starts run where the lane does that starts them.
        """
        if not _LINUX or self._own != every:  # it is so already
            return
        with suppress(OSError):
            # Those of the first thread, as nothing narrows them but whoever runs this process.
            cores = sorted(os.sched_getaffinity(os.getpid()))
            own = not every and 1 < self._lanes == len(cores)
            if own is not self._own:
                os.sched_setaffinity(0, cores[self._lane : self._lane + 1] if own else cores)
                self._own = own
