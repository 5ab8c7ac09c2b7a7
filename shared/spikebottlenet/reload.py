"""SIGHUP: settings read again, models changed, no request lost."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from spikebottlenet.config import Settings
from spikebottlenet.errors import SpikeBottleNetError
from spikebottlenet.logs import fields
from spikebottlenet.notify import Notifier

log = logging.getLogger(__name__)

SettingsT = TypeVar("SettingsT", bound=Settings)

_CHANGED_WHILE_RUNNING = ("bundle", "bundle_from_cloud", "bundle_store")


@asynccontextmanager
async def reloading(
    settings: SettingsT,
    reread: Callable[[], SettingsT],
    change: Callable[[SettingsT], Awaitable[None]],
) -> AsyncIterator[None]:
    """While the block lasts, each SIGHUP reads the settings again and calls ``change`` with them.

    What cannot be used is logged, and everything stays as it was.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    work = asyncio.create_task(_reload_always(settings, reread, change, asked))
    try:
        yield
    finally:
        loop.add_signal_handler(signal.SIGHUP, asked.clear)  # the end is near: nothing to reload
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _reload_always(
    settings: SettingsT,
    reread: Callable[[], SettingsT],
    change: Callable[[SettingsT], Awaitable[None]],
    asked: asyncio.Event,
) -> None:
    notifier = Notifier.from_environment()
    while True:
        await asked.wait()
        asked.clear()
        notifier.reloading()
        try:
            fresh = await asyncio.to_thread(reread)
            await change(fresh)
        except SpikeBottleNetError as error:
            log.error("not reloaded, all stays as it was", extra=fields(reason=str(error)))
            continue
        except Exception:
            log.exception("not reloaded, all stays as it was")
            continue
        finally:
            notifier.ready()
        log.info("reloaded", extra=fields(need_restart=_need_restart(settings, fresh) or None))


def _need_restart(old: Settings, new: Settings) -> list[str]:
    """Settings that changed and are only read at the start."""
    before, after = old.model_dump(), new.model_dump()
    return [
        name
        for name, value in after.items()
        if value != before[name] and name not in _CHANGED_WHILE_RUNNING
    ]
