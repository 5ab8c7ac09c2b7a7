"""A folder of bundles, the one in use and the one before it by symbolic links.

    bundles/<fingerprint>/   a bundle's manifest and the files of one half
    bundles/.incoming/       folders that are being filled, or taken away
    bundles/.lock            held by the process that changes the store
    current, previous        links to bundles/<fingerprint>
    left                     link to the one that was rolled back from

A bundle is written beside the others, checked, forced to the disk and renamed into place; then the
links are swapped, each by one rename. So whatever instant the power fails at, ``current`` is whole:
the old bundle or the new one. That every hash fits says that the bundle is the one its fingerprint
names; who sent it is for TLS, or a fingerprint that was asked for, to say.
"""

import contextlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from spikebottlenet.bundle import Half, open_bundle
from spikebottlenet.durable_folder import (
    InUseError,
    exclusive,
    force_to_disk,
    replace_link,
    writing,
)
from spikebottlenet.errors import BundleError, StoreError
from spikebottlenet.incoming_bundle import MAX_BUNDLE_BYTES, IncomingBundle, parse_manifest
from spikebottlenet.logs import fields

log = logging.getLogger(__name__)

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_CURRENT, _PREVIOUS, _LEFT = "current", "previous", "left"


@dataclass(frozen=True)
class StoredBundle:
    """A bundle of the store."""

    fingerprint: str
    folder: Path
    bytes: int  # of all its files
    stored_unix_s: float
    is_current: bool
    is_previous: bool


@dataclass(frozen=True)
class BundleStore:
    """The bundles in a folder; nothing is read or made before it is asked for."""

    folder: Path
    keep: int = 3  # bundles; the current and the previous one are kept whatever this says
    max_bundle_bytes: int = MAX_BUNDLE_BYTES  # of a bundle that is received

    @property
    def current(self) -> Path | None:
        """Folder of the bundle in use."""
        return self._linked(_CURRENT)

    @property
    def previous(self) -> Path | None:
        """Folder of the bundle that was in use before."""
        return self._linked(_PREVIOUS)

    @property
    def left(self) -> str:
        """Fingerprint of the bundle that was rolled back from, until it is asked for again."""
        place = self._linked(_LEFT)
        return "" if place is None else place.name

    def usable(self, half: Half) -> Path | None:
        """The current bundle; the previous one if that is damaged; None if both are."""
        places = (self.current, self.previous)
        return next((place for place in places if place and self.holds(place.name, half)), None)

    def bundles(self) -> list[StoredBundle]:
        """Every bundle, the latest first."""
        folder = self.folder / "bundles"
        with writing(self.folder):
            paths = folder.iterdir() if folder.is_dir() else ()
            found = [
                StoredBundle(
                    fingerprint=path.name,
                    folder=path,
                    bytes=sum(file.stat().st_size for file in path.iterdir()),
                    stored_unix_s=path.stat().st_mtime,
                    is_current=path == self.current,
                    is_previous=path == self.previous,
                )
                for path in paths
                if _FINGERPRINT.fullmatch(path.name)
            ]
        return sorted(found, key=lambda stored: stored.stored_unix_s, reverse=True)

    def holds(self, fingerprint: str, half: Half) -> bool:
        """Whether a bundle is here, with every file of this half unaltered."""
        if not _FINGERPRINT.fullmatch(fingerprint):
            return False
        try:
            return open_bundle(self._place(fingerprint), half).fingerprint == fingerprint
        except BundleError:
            return False

    def clean(self) -> None:
        """Remove what a killed process left behind. For a daemon's start.

        Raises:
            StoreError: the folder cannot be written.
        """
        if (self.folder / "bundles").is_dir():
            with contextlib.suppress(InUseError), self._changing():
                shutil.rmtree(self._incoming, ignore_errors=True)

    @contextmanager
    def receiving(
        self, manifest_json: str, half: Half, *, fingerprint: str = ""
    ) -> Iterator[IncomingBundle]:
        """A bundle to fill in; it is gone after the block unless it was installed.

        Raises:
            BundleError: the manifest is not that of ``fingerprint``, or is not understood.
            StoreError: disk full, no permission, or another process changes the store.
        """
        manifest = parse_manifest(manifest_json, fingerprint=fingerprint)
        with self._changing():
            with writing(self.folder):
                shutil.rmtree(self._incoming, ignore_errors=True)  # nobody else holds the lock
                self._incoming.mkdir()
                folder = Path(tempfile.mkdtemp(dir=self._incoming))
                folder.chmod(0o755)
            incoming = IncomingBundle(folder, manifest, half, self.max_bundle_bytes)
            try:
                yield incoming
            finally:
                with contextlib.suppress(StoreError):  # said before, or of no account now
                    incoming.close()
                shutil.rmtree(self._incoming, ignore_errors=True)

    def install(
        self, incoming: IncomingBundle, *, trial: Callable[[Path], None] = lambda _: None
    ) -> Path:
        """Check what was received and make it current; the old one becomes the previous one.

        ``trial`` gets the bundle's folder while the old one is still current, and raises if the
        bundle is of no use.

        Raises:
            BundleError: a file is missing or altered, or the trial failed; nothing was changed.
            StoreError: disk full, no permission; the old bundle stays current.
        """
        incoming.finish()
        trial(incoming.folder)
        fingerprint = incoming.manifest.fingerprint
        place = self._place(fingerprint)
        if not self.holds(fingerprint, incoming.half):
            with writing(self.folder):
                if place.exists():
                    self._take_away(place)  # damaged, so that nobody can be using it
                incoming.folder.rename(place)
                force_to_disk(place.parent)
        return self._use(place)

    def use(self, fingerprint: str) -> Path:
        """Make a bundle of the store the current one.

        Raises:
            BundleError: it is not here.
            StoreError: the links cannot be changed; the old bundle stays current.
        """
        place = self._place(fingerprint)
        with self._changing():
            if not _FINGERPRINT.fullmatch(fingerprint) or not place.is_dir():
                raise BundleError(f"no bundle {fingerprint} in {self.folder}: fetch it first")
            return self._use(place)

    def rollback(self, half: Half) -> Path:
        """Make the previous bundle the current one, and the current one the previous.

        The one that is left is not taken again unless it is asked for by ``use`` or ``install``.

        Raises:
            BundleError: there is none to go back to, or it is damaged.
            StoreError: the links cannot be changed.
        """
        with self._changing():
            current, previous = self.current, self.previous
            if previous is None or previous == current:
                raise BundleError(
                    f"no earlier bundle in {self.folder} to go back to: fetch the one you want "
                    "by its fingerprint"
                )
            if not self.holds(previous.name, half):
                raise BundleError(f"earlier bundle {previous.name} is damaged: fetch it again")
            with writing(self.folder):
                if current is not None:
                    replace_link(self.folder / _LEFT, Path("bundles") / current.name)
                replace_link(
                    self.folder / _CURRENT, Path("bundles") / previous.name
                )  # before the other: it is what was asked for
                if current is not None:
                    replace_link(self.folder / _PREVIOUS, Path("bundles") / current.name)
            return previous

    @property
    def _incoming(self) -> Path:
        return self.folder / "bundles" / ".incoming"

    def _place(self, fingerprint: str) -> Path:
        return self.folder / "bundles" / fingerprint

    def _linked(self, name: str) -> Path | None:
        """Where a link leads, if that is a bundle of this store."""
        try:
            target = (self.folder / name).readlink()
        except OSError:
            return None
        place = self._place(target.name)
        return place if _FINGERPRINT.fullmatch(target.name) and place.is_dir() else None

    def _use(self, place: Path) -> Path:
        """Swap the links. A crash between the two leaves the old current; a second try mends it."""
        current = self.current
        with writing(self.folder):
            with contextlib.suppress(PermissionError):  # another user's, who fetched it by hand
                os.utime(place)  # the latest
            if place != current:
                if current is not None:
                    replace_link(self.folder / _PREVIOUS, Path("bundles") / current.name)
                replace_link(self.folder / _CURRENT, Path("bundles") / place.name)
            if place.name == self.left:
                (self.folder / _LEFT).unlink()
        self._forget()
        return place

    def _forget(self) -> None:
        """Keep the latest. A disk that does not let go of the others does not stop the new one."""
        try:
            for stored in self.bundles()[self.keep :]:
                if not stored.is_current and not stored.is_previous:
                    self._take_away(stored.folder)
        except (OSError, StoreError) as error:
            log.warning("earlier bundles stay", extra=fields(reason=str(error)))

    def _take_away(self, place: Path) -> None:
        """By one rename, so that half a bundle is never among the others."""
        self._incoming.mkdir(exist_ok=True)
        away = Path(tempfile.mkdtemp(dir=self._incoming)) / place.name
        place.rename(away)
        shutil.rmtree(away, ignore_errors=True)

    def _changing(self) -> AbstractContextManager[None]:
        return exclusive(self.folder / "bundles" / ".lock")
