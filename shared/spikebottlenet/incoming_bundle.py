"""A bundle on its way into a store: bounded while it comes, checked before it counts."""

import hashlib
import json
from pathlib import Path
from typing import BinaryIO, NoReturn

from spikebottlenet.bundle import Half, Manifest, open_bundle, write_manifest
from spikebottlenet.durable_folder import force_to_disk, writing
from spikebottlenet.errors import BundleError, ConfigError

MAX_BUNDLE_BYTES = 256 * 1024 * 1024
MAX_MANIFEST_BYTES = 1024 * 1024  # of its JSON; the shipped one has 2 kB

_MAX_REASON = 500  # characters
_AGAIN = "nothing was changed: fetch it again"


def parse_manifest(text: str, *, fingerprint: str = "") -> Manifest:
    """The manifest that a cloud sent as canonical JSON, if it is the one of ``fingerprint``.

    Raises:
        BundleError: too large, not understood, or another fingerprint, and which.
    """
    raw = text.encode(errors="surrogatepass")
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"manifest has {len(raw)} bytes, at most {MAX_MANIFEST_BYTES} are taken: "
            "check which cloud this is"
        )
    found = hashlib.sha256(raw).hexdigest()
    if fingerprint and found != fingerprint:
        raise BundleError(
            f"manifest that came is of bundle {found}, wanted {fingerprint}: "
            "check which bundles the cloud serves"
        )
    try:
        plain = json.loads(text, parse_constant=_refuse_constant)
        manifest = Manifest.parse(plain, source="manifest from the cloud")
        understood = manifest.fingerprint
    except (ConfigError, ValueError, RecursionError) as error:
        reason = str(error)[:_MAX_REASON]  # it quotes what came
        raise BundleError(
            f"manifest not understood: {reason}; install a matching version"
        ) from error
    if understood != found:
        raise BundleError(
            f"manifest has SHA-256 {found}, and {understood} as this version writes it: "
            "install a matching version"
        )
    return manifest


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


class IncomingBundle:
    """A folder that is filled chunk by chunk, with the files of one half and nothing else."""

    def __init__(self, folder: Path, manifest: Manifest, half: Half, max_bytes: int) -> None:
        self.folder = folder
        self.manifest = manifest
        self.half = half
        self._max_bytes = max_bytes
        self._bytes = 0
        self._offset = 0  # in the file that is being written, bytes
        self._names: list[str] = []  # begun so far; the last one is being written
        self._file: BinaryIO | None = None

    def write(self, name: str, *, offset: int, data: bytes) -> None:
        """Add the next bytes of a file.

        Raises:
            BundleError: a file that is not wanted, or comes twice; a gap, an overlap or nothing;
                more bytes than a bundle may have.
            StoreError: disk full, no permission.
        """
        if not self._names or name != self._names[-1]:
            self._begin(name)
        if offset != self._offset:
            raise BundleError(f"{name} goes on at byte {offset}, wanted {self._offset}: {_AGAIN}")
        if not data:
            raise BundleError(f"{name} comes in chunks without bytes: {_AGAIN}")
        self._bytes += len(data)
        if self._bytes > self._max_bytes:
            raise BundleError(
                f"bundle has more than {self._max_bytes} bytes: raise max_bundle_bytes if it is "
                "meant to be so large; nothing was changed"
            )
        with writing(self.folder):
            if self._file is not None:
                self._file.write(data)
        self._offset += len(data)

    def finish(self) -> None:
        """Force everything to the disk and check it as any bundle is checked when it is opened.

        Raises:
            BundleError: a file is missing or altered.
            StoreError: disk full, no permission.
        """
        self.close()
        with writing(self.folder):
            write_manifest(self.folder, self.manifest)
            for path in self.folder.iterdir():
                force_to_disk(path)
            force_to_disk(self.folder)
        wanted = self.manifest.fingerprint
        try:
            found = open_bundle(self.folder, self.half).fingerprint
        except BundleError as error:
            raise BundleError(f"what came is not bundle {wanted}: {error}; {_AGAIN}") from error
        if found != wanted:
            raise BundleError(
                f"bundle {wanted} reads as {found} from the disk: report this manifest"
            )

    def close(self) -> None:
        """Let go of the file that is being written."""
        if self._file is not None:
            with writing(self.folder):
                self._file.close()
            self._file = None

    def _begin(self, name: str) -> None:
        self.close()
        # A half's names are plain ones, so that nothing is written outside of the folder.
        wanted = self.manifest.files_of(self.half)
        if name not in wanted or name not in self.manifest.files:
            raise BundleError(
                f"file {name!r} was not asked for, wanted {', '.join(wanted)}: {_AGAIN}"
            )
        if name in self._names:
            raise BundleError(f"{name} comes a second time: {_AGAIN}")
        self._names.append(name)
        self._offset = 0
        with writing(self.folder):
            self._file = (self.folder / name).open("xb")
