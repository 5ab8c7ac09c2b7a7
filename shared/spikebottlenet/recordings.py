"""Recordings of event cameras: every change of brightness as a time, a place and a sign.

A recording's format is told by its first bytes; what does not begin as an AEDAT file is a ``.bin``.

    AEDAT 4    read by the library ``aedat`` (extra ``events``), see ``aedat4``
    AEDAT 3.1  packets: little-endian header of 28 bytes (uint16 type, uint16 source, uint32 bytes
               of an event, offset of its time, overflow, capacity, number, valid), then events of
               uint32 data (bit 0 valid, 1 sign, 2-16 y, 17-31 x) and int32 microseconds
    AEDAT 2.0  big-endian uint32 address, uint32 microseconds. DVS128: bit 0 sign, 1-7 x, 8-14 y.
               DAVIS: bit 31 clear, 11 sign, 12-21 x, 22-30 y
    .bin       N-MNIST's and N-Caltech101's, 5 bytes: x, y, then big-endian 1 bit of sign and 23 of
               microseconds; y 240 marks 2^13 microseconds more

Sources: inivation's AEDAT file formats; Orchard et al., "Converting Static Image Datasets to
Spiking Neuromorphic Datasets Using Saccades", 2015. A set sign bit is read as brighter; places are
as stored. The plain formats are read here: libraries that know them are GPL, or bring audio tools.

Recordings are hostile input: at most ``MAX_EVENTS`` are taken up, whatever a file unpacks to.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikebottlenet.aedat4 import unpack
from spikebottlenet.errors import ImageError, TooLargeError

_MAGIC, _AEDAT4 = b"#!AER-DAT", b"#!AER-DAT4"
_END_OF_HEADER = b"#!END-HEADER"
_POLARITY = 1  # event type
_PACKET = struct.Struct("<HHIIIIII")
_DVS128_SIDE = 128
_OVERFLOW_Y, _OVERFLOW_US = 240, 1 << 13
MAX_EVENTS = 5_000_000  # of one recording; some 100 bytes each while it is read
_LATEST_US = 1 << 58  # 9,000 years: 32 times that is an int64
_LARGEST_SIDE = 1 << 16  # sites of a camera
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
_IN_ORDER = 0.9  # of a .bin's events are not before the one before; half of random bytes


class Recording(NamedTuple):
    """Events of one recording, in the order of their times."""

    microseconds: npt.NDArray[np.int64]  # [N]
    x: npt.NDArray[np.int64]  # [N], columns
    y: npt.NDArray[np.int64]  # [N], rows
    brighter: npt.NDArray[np.bool_]  # [N]
    width: int  # of the camera, or as far as events reach
    height: int

    def chosen(self, events: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Recording":
        """Some of its events, in their order."""
        return self._replace(
            microseconds=self.microseconds[events],
            x=self.x[events],
            y=self.y[events],
            brighter=self.brighter[events],
        )


def read_recording(data: bytes) -> Recording:
    """Read the bytes of a recording's file.

    Raises:
        ImageError: not a recording of a known format, cut short, or without events.
        TooLargeError: more than ``MAX_EVENTS``.
        ConfigError: it is AEDAT 4, and the extra ``events`` is not installed.
    """
    try:
        found = _reader(data)(data)
        if not len(found.x):
            raise ValueError("it has no events")
    except (OSError, ValueError) as error:
        raise ImageError(
            f"recording of {len(data)} bytes cannot be read: {error}; "
            "wanted AEDAT 2.0, 3.1 or 4, or N-Caltech101's .bin"
        ) from error
    return found.chosen(np.argsort(found.microseconds, kind="stable"))


def _reader(data: bytes) -> Callable[[bytes], Recording]:
    if data.startswith(_AEDAT4):
        return _aedat4
    if data.startswith(_MAGIC + b"3"):
        return _aedat3
    if data.startswith(_MAGIC + b"2"):
        return _aedat2
    if data.startswith(_MAGIC):
        raise ValueError(f"it starts with {data[:12]!r}")
    return _bin


def _check_count(events: int) -> None:
    if events > MAX_EVENTS:
        raise TooLargeError(
            f"recording has {events} events or more, wanted at most {MAX_EVENTS}: cut it shorter"
        )


def _recording(
    microseconds: npt.NDArray[np.integer],
    x: npt.NDArray[np.integer],
    y: npt.NDArray[np.integer],
    brighter: npt.NDArray[np.integer] | npt.NDArray[np.bool_],
    size: tuple[int, int] | None = None,
) -> Recording:
    times = microseconds.astype(np.int64)
    if len(times) and not 0 <= times.min() <= times.max() < _LATEST_US:
        raise ValueError(f"its times reach from {times.min()} to {times.max()} us")
    columns, rows = x.astype(np.int64), y.astype(np.int64)
    reach = (int(columns.max(initial=0)) + 1, int(rows.max(initial=0)) + 1)
    width, height = size or reach
    if reach[0] > width or reach[1] > height or max(width, height) > _LARGEST_SIDE:
        raise ValueError(f"events reach {reach}, the camera has {(width, height)}")
    return Recording(times, columns, rows, brighter.astype(np.bool_), width, height)


def _aedat4(data: bytes) -> Recording:
    events, width, height = unpack(data, most=MAX_EVENTS)
    return _recording(events["t"], events["x"], events["y"], events["on"], (width, height))


def _header_lines(data: bytes) -> tuple[list[bytes], int]:
    """Comment lines, and where the events start."""
    lines, start = list[bytes](), 0
    while data[start : start + 1] == b"#":
        end = data.find(b"\n", start)
        if end < 0:
            raise ValueError("its header has no end")
        lines.append(data[start:end].strip())
        start = end + 1
        if lines[-1] == _END_OF_HEADER:
            break
    return lines, start


def _aedat3(data: bytes) -> Recording:
    lines, start = _header_lines(data)
    if _END_OF_HEADER not in lines:
        raise ValueError(f"its header lacks {_END_OF_HEADER.decode()}")
    _check_count((len(data) - start) // 8)
    parts, times = list[npt.NDArray[np.uint32]](), list[npt.NDArray[np.int64]]()
    while start < len(data):
        header = data[start : start + _PACKET.size].ljust(_PACKET.size, b"\xff")
        kind, _, size, _, overflow, capacity, number, _ = _PACKET.unpack(header)
        start += _PACKET.size
        if start + size * capacity > len(data) or number > capacity:
            raise ValueError(f"it is cut short in the packet at byte {start - _PACKET.size}")
        if kind == _POLARITY:
            if size != 8:
                raise ValueError(f"its events have {size} bytes, wanted 8")
            words = np.frombuffer(data, dtype="<u4", count=2 * number, offset=start).reshape(-1, 2)
            valid = words[words[:, 0] & 1 == 1]
            parts.append(valid[:, 0].astype(np.uint32))
            times.append((overflow << 31) + valid[:, 1].astype(np.int64))
        start += size * capacity
    if not parts:
        raise ValueError("it has no events")
    word, time = np.concatenate(parts), np.concatenate(times)
    return _recording(time, word >> 17 & 0x7FFF, word >> 2 & 0x7FFF, word >> 1 & 1)


def _aedat2(data: bytes) -> Recording:
    lines, start = _header_lines(data)
    if (len(data) - start) % 8:
        raise ValueError(f"it is cut short: {(len(data) - start) % 8} bytes after the last event")
    _check_count((len(data) - start) // 8)
    words = np.frombuffer(data, dtype=">u4", offset=start).reshape(-1, 2).astype(np.uint32)
    address, time = words[:, 0], words[:, 1]
    chip = b" ".join(line for line in lines if b"AEChip" in line or b"HardwareInterface" in line)
    davis = b"DAVIS" in chip.upper() or (
        b"DVS128" not in chip.upper() and bool((address >> 16).any())
    )
    if not davis:
        on = (address >> 15 & 1) == 0  # not an outside trigger
        address, time = address[on], time[on]
        size = (_DVS128_SIDE, _DVS128_SIDE)
        return _recording(time, address >> 1 & 0x7F, address >> 8 & 0x7F, address & 1, size)
    on = (address >> 31 == 0) & (address >> 10 & 1 == 0)  # not a frame's, nor a trigger
    address, time = address[on], time[on]
    return _recording(time, address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1)


def _bin(data: bytes) -> Recording:
    if data.startswith(_PICTURES):
        raise ValueError(f"it starts with {data[:8]!r}, which is a picture")
    if len(data) % 5:
        raise ValueError(
            f"it starts with {data[:8]!r}, which is no AEDAT, and its bytes are not 5 an event: it "
            "is another kind of file, or cut short"
        )
    _check_count(len(data) // 5)
    events = np.frombuffer(data, dtype=np.uint8).reshape(-1, 5).astype(np.int64)
    time = (events[:, 2] & 0x7F) << 16 | events[:, 3] << 8 | events[:, 4]
    overflow = events[:, 1] == _OVERFLOW_Y
    time += _OVERFLOW_US * np.cumsum(overflow)
    kept, time = events[~overflow], time[~overflow]
    if len(time) > 1 and float((np.diff(time) >= 0).mean()) < _IN_ORDER:
        raise ValueError(
            f"it starts with {data[:8]!r}, which is no AEDAT, and read as 5 bytes an event its "
            "times are in no order: it is another kind of file"
        )
    if len(kept) > 1 and (kept == kept[0]).all():
        raise ValueError("all its events are the same one")
    return _recording(time, kept[:, 0], kept[:, 1], kept[:, 2] >> 7)
