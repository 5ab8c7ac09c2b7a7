"""The models that an edge serves: each with its head and its link to the cloud.

They can be changed while it runs: a request keeps the model that it began with, and an old model's
link closes once nothing uses it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

from edge_node.cloud_link import CloudLink
from edge_node.head_worker import Head
from spikebottlenet.bundle import Bundle, Half, open_bundle
from spikebottlenet.errors import BundleError, ConfigError
from spikebottlenet.logs import fields

log = logging.getLogger(__name__)


class ServedModel:
    """One bundle's edge half, loaded, and its stream to the cloud."""

    def __init__(self, bundle: Bundle, head: Head, link: CloudLink) -> None:
        self.bundle = bundle
        self.head = head
        self.link = link
        self._running = AsyncExitStack()
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    async def start(self) -> None:
        """Begin to connect."""
        await self._running.enter_async_context(self.link.running())

    async def stop(self) -> None:
        """Close the link once nobody uses it."""
        await self._unused.wait()
        await self._running.aclose()

    def __enter__(self) -> Self:
        """A request begins that uses it."""
        self._users += 1
        self._unused.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            self._unused.set()


Build = Callable[[Bundle], ServedModel]


class ServedModels:
    """Every model served; the first is for requests that name none."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._models: dict[str, ServedModel] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self, bundles: Sequence[Bundle]) -> AsyncIterator["ServedModels"]:
        """Serve these bundles until the block ends."""
        try:
            await self._serve(bundles)
            yield self
        finally:
            for model in self._models.values():
                await model.stop()
            await asyncio.gather(*self._retiring)

    def __iter__(self) -> Iterator[ServedModel]:
        """In the order of the settings."""
        return iter(self._models.values())

    @property
    def first(self) -> ServedModel:
        """The model named first in the settings."""
        return next(iter(self._models.values()))

    def find(self, wanted: str) -> ServedModel:
        """A model by name, or by fingerprint or the start of one; the first for no name.

        Raises:
            BundleError: not served here, or more than one fits.
        """
        if not wanted:
            return self.first
        found = [
            model
            for fingerprint, model in self._models.items()
            if wanted == model.bundle.manifest.name or fingerprint.startswith(wanted.lower())
        ]
        if len(found) != 1:
            served = ", ".join(model.bundle.model for model in self._models.values())
            kind = "fits more than one model" if found else "is no model served here"
            raise BundleError(f"{wanted!r} {kind}, this edge-node serves {served}: name one")
        return found[0]

    async def change(self, folders: Sequence[Path]) -> None:
        """Serve the bundles of these folders instead; one that is served already stays.

        Raises:
            BundleError: one cannot be opened; nothing changed.
        """
        await self._serve(
            [await asyncio.to_thread(open_bundle, folder, Half.EDGE) for folder in folders]
        )

    async def _serve(self, bundles: Sequence[Bundle]) -> None:
        if not bundles:
            raise ConfigError("no bundle to serve: name at least one with --bundle")
        models: dict[str, ServedModel] = {}
        for bundle in bundles:
            model = self._models.get(bundle.fingerprint)
            if model is None:
                model = await asyncio.to_thread(self._build, bundle)
            models[bundle.fingerprint] = model
        for fingerprint, served in models.items():
            if fingerprint not in self._models:
                await served.start()
        old, self._models = self._models, models
        for fingerprint, served in old.items():
            if fingerprint not in models:
                task = asyncio.create_task(served.stop())
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
        log.info("serving", extra=fields(models=[m.bundle.model for m in models.values()]))
