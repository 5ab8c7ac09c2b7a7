"""Event-camera recordings written by the formats' descriptions, and no reader of ours."""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Events(NamedTuple):
    """Microseconds, columns, rows, and whether it got brighter: each int64 [N]."""

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    on: np.ndarray


def made_events(count: int, *, width: int, height: int, seed: int = 0) -> Events:
    """Events at random, in the order of their times."""
    random = np.random.default_rng(seed)
    return Events(
        np.sort(random.integers(0, 300_000, count)),
        random.integers(0, width, count),
        random.integers(0, height, count),
        random.integers(0, 2, count),
    )


def write_bin(path: Path, events: Events) -> None:
    """N-Caltech101's five bytes an event."""
    rows = np.empty((len(events.t), 5), dtype=np.uint8)
    rows[:, 0], rows[:, 1] = events.x, events.y
    rows[:, 2] = events.on << 7 | events.t >> 16
    rows[:, 3], rows[:, 4] = events.t >> 8 & 255, events.t & 255
    path.write_bytes(rows.tobytes())


def write_aedat2(path: Path, events: Events, *, davis: bool, chip: str | None = None) -> None:
    """AEDAT 2.0 of a DVS128 or a DAVIS, with a frame's sample between where it is a DAVIS."""
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n"
    if chip:
        header += f"# AEChip: {chip}\r\n".encode()
    if davis:
        address = events.y << 22 | events.x << 12 | events.on << 11
    else:
        address = events.y << 8 | events.x << 1 | events.on
    words = np.stack([address, events.t], axis=1)
    if davis:
        words = np.insert(words, 1, [1 << 31 | 5 << 12 | 77, words[0, 1]], axis=0)
    path.write_bytes(header + words.astype(">u4").tobytes())


def write_aedat3(path: Path, events: Events, *, overflow: int = 0) -> None:
    """AEDAT 3.1 in two packets, an invalid event and a packet of another kind between them."""
    out = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DAVIS346\r\n#!END-HEADER\r\n"
    half = len(events.t) // 2
    for part in (slice(0, half), slice(half, None)):
        t, x, y, on = (values[part] for values in events)
        words = np.stack([x << 17 | y << 2 | on << 1 | 1, t], axis=1)
        words = np.concatenate([words, [[9 << 17, int(t[-1])]]]).astype("<u4")
        out += struct.pack("<HHIIIIII", 1, 1, 8, 4, overflow, len(words), len(words), len(t))
        out += words.tobytes()
        out += struct.pack("<HHIIIIII", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8)  # a special event
    path.write_bytes(out)


def write_aedat4(path: Path, events: Events, *, width: int, height: int) -> None:
    """AEDAT 4, by another library than the one that reads it."""
    import faery

    rows = np.zeros(len(events.t), dtype=faery.EVENTS_DTYPE)
    rows["t"], rows["x"], rows["y"], rows["on"] = events
    faery.events_stream_from_array(rows, (width, height)).to_file(path)


def moving_bar(*, rightwards: bool, seed: int, side: int = 34, count: int = 600) -> Events:
    """A bright bar that crosses the camera once: its front gets brighter, its back darker.

    Over the whole recording both directions give the same counts: only their order in time differs.
    """
    random = np.random.default_rng(seed)
    t = np.sort(random.integers(0, 100_000, count))
    place = t * side // 100_000 + random.integers(-1, 2, count)
    column = np.clip(place, 0, side - 1)
    on = random.integers(0, 2, count)
    return Events(
        t, column if rightwards else side - 1 - column, random.integers(0, side, count), on
    )
