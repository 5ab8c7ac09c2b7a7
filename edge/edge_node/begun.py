"""A coroutine that runs at once, in the task that makes it, up to where it first waits.

To wake another task for that takes longer than most of what such a coroutine does. Python 3.12 has
tasks that begin so.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Begun:
    """A coroutine that has begun; whoever awaits this runs the rest of it, and is told its errors.

    To be awaited once.
    """

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = work
        self._waits_for: Any = None
        self._ended = False
        self._error: Exception | asyncio.CancelledError | None = None
        try:
            self._go_on(work.send, None)
        except (Exception, asyncio.CancelledError) as error:
            self._error = error

    def _go_on(self, how: Callable[[Any], Any], what: BaseException | None) -> None:
        try:
            self._waits_for = how(what)
        except StopIteration:
            self._ended = True

    def __await__(self) -> Generator[Any, Any, None]:
        if self._error is not None:
            raise self._error
        while not self._ended:
            try:
                yield self._waits_for
            except BaseException as error:  # whoever awaits it is cancelled
                self._go_on(self._work.throw, error)
            else:
                self._go_on(self._work.send, None)
