"""Event-camera data sets: a folder of recordings a class, each recording as frames.

The layouts, the test part and the cache are those of image folders.
"""

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikebottlenet.errors import DataError
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.data_cache import Chunk, cache_key, cached_or_made
from spikebottlenet.lab.data_corrupt import CorruptLimit
from spikebottlenet.lab.data_folder import find_class_folders
from spikebottlenet.lab.data_rows import Labels, Rows
from spikebottlenet.lab.data_source import Source
from spikebottlenet.lab.event_frames import FrameSettings, bin_events
from spikebottlenet.lab.recordings import RECORDING_SUFFIXES, read_recording

log = logging.getLogger(__name__)

_CACHE_FORMAT = "events 1"
_CHUNK = 32  # recordings


@dataclass(frozen=True)
class EventSplit:
    """Recordings of one split as frames, sorted by class and path."""

    frames: npt.NDArray[np.uint8]  # [N, T, 2, H, W]
    labels: Labels  # [N]
    class_names: tuple[str, ...]
    corrupt: tuple[str, ...] = ()  # recordings that were left out: name and reason

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Labels) -> "EventSplit":
        """A split of these rows."""
        return EventSplit(
            self.frames[indices], self.labels[indices], self.class_names, self.corrupt
        )


def load_event_split(
    folder: str, split: str, wanted: FrameSettings, settings: DataSettings | None = None
) -> EventSplit:
    """Load ``train`` or ``test`` of a folder of recordings: AEDAT 2.0, 3.1, 4 or N-Caltech's .bin.

    Raises:
        DataError: no such folder or split, too many recordings that cannot be read, or no room.
    """
    options = settings or DataSettings()
    root = Path(folder).expanduser()
    found = find_class_folders(root, RECORDING_SUFFIXES) if root.is_dir() else None
    if found is None:
        raise DataError(
            f"no recordings in {folder!r}: give a folder that holds a folder a class of "
            f"{', '.join(sorted(RECORDING_SUFFIXES))} files"
        )
    rows = Source(folder, tuple(found.splits), found.rows, options).rows(split)
    limit = CorruptLimit(rows.name, len(rows), options.max_corrupt)
    names = "\0".join(rows.class_names)
    key = cache_key(_CACHE_FORMAT, rows.content, names, wanted.model_dump_json())
    cached = cached_or_made(key, _chunks(rows, wanted, limit), shape=wanted.shape, most=len(rows))
    limit.check(cached.corrupt)
    limit.say(cached.corrupt)
    if not len(cached.labels):
        raise DataError(f"{rows.name} has no recording: choose another split")
    return EventSplit(cached.images, cached.labels, rows.class_names, cached.corrupt)


def _chunks(rows: Rows, wanted: FrameSettings, limit: CorruptLimit) -> Iterator[Chunk]:
    def one(row: int) -> npt.NDArray[np.uint8] | str:
        try:
            return bin_events(read_recording(Path(rows.row_name(row))), wanted)  # a folder's: paths
        except DataError as error:
            return str(error)

    corrupt = list[str]()
    with ThreadPoolExecutor(thread_name_prefix="events") as pool:
        for start in range(0, len(rows), _CHUNK):
            chosen = range(start, min(start + _CHUNK, len(rows)))
            made = list(pool.map(one, chosen))
            bad = tuple(found for found in made if isinstance(found, str))
            corrupt += bad
            limit.check(corrupt)
            good = [(row, f) for row, f in zip(chosen, made, strict=True) if not isinstance(f, str)]
            frames = np.asarray([f for _, f in good], dtype=np.uint8).reshape(-1, *wanted.shape)
            digests = [
                int.from_bytes(hashlib.blake2b(f.data, digest_size=8).digest(), "little")
                for _, f in good
            ]
            labels = rows.labels[[row for row, _ in good]] if good else rows.labels[:0]
            yield Chunk(frames, labels, np.asarray(digests, dtype=np.uint64), bad)
