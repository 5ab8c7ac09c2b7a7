"""The end of a daemon's life: a signal sets an event, nothing more."""

import asyncio
import signal


def stop_requested() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; call it from the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
