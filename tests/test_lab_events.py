"""Recordings of event cameras: every format gives the same events, and frames count them."""

from pathlib import Path

import numpy as np
import pytest

from spikebottlenet.errors import DataError
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.event_frames import FrameSettings, bin_events
from spikebottlenet.lab.events import load_event_split
from spikebottlenet.lab.recordings import Recording, read_recording
from tests.made_recordings import (
    Events,
    made_events,
    write_aedat2,
    write_aedat3,
    write_aedat4,
    write_bin,
)

FORMATS = {
    "recording.bin": write_bin,
    "dvs128.aedat": lambda path, events: write_aedat2(path, events, davis=False),
    "davis.aedat": lambda path, events: write_aedat2(path, events, davis=True),
    "davis-named.aedat2": lambda path, events: write_aedat2(
        path, events, davis=True, chip="eu.seebetter.ini.chips.davis.Davis346"
    ),
    "three.aedat": write_aedat3,
    "four.aedat4": lambda path, events: write_aedat4(path, events, width=120, height=90),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_events_that_were_written(tmp_path: Path, name: str) -> None:
    events = made_events(500, width=120, height=90)
    FORMATS[name](tmp_path / name, events)
    found = read_recording(tmp_path / name)
    for got, wanted in zip(found[:4], events, strict=True):
        assert got.tolist() == wanted.tolist()
    assert found.width >= 120 - 5
    assert found.height >= 90 - 5


def test_long_recordings_go_past_their_counters(tmp_path: Path) -> None:
    events = made_events(10, width=20, height=20)
    write_aedat3(tmp_path / "late.aedat", events, overflow=1)
    late = read_recording(tmp_path / "late.aedat")
    assert late.microseconds.tolist() == (events.t + 2**31).tolist()
    marked = Events(
        *(np.insert(v, 5, mark) for v, mark in zip(events, (0, 0, 240, 0), strict=True))
    )
    write_bin(tmp_path / "late.bin", marked)
    found = read_recording(tmp_path / "late.bin")
    assert found.microseconds.tolist() == [*events.t[:5], *(events.t[5:] + 2**13)]


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("cut.bin", lambda data: data[:-2], "cut short"),
        ("three.aedat", lambda data: data[:-9], "cut short in the packet"),
        ("dvs128.aedat", lambda data: data[:-3], "cut short"),
        ("four.aedat4", lambda data: data[:40], "cannot read recording"),
        ("empty.bin", lambda data: data[:0], "no events"),
        ("other.aedat", lambda data: b"RIFF" + data, "wanted AEDAT"),
    ],
)
def test_damaged_recordings_are_named(
    tmp_path: Path, name: str, make: object, message: str
) -> None:
    path = tmp_path / name
    FORMATS.get(name, write_bin)(path, made_events(50, width=100, height=80))
    path.write_bytes(make(path.read_bytes()))
    with pytest.raises(DataError, match=message) as raised:
        read_recording(path)
    assert str(path) in str(raised.value)


def test_frames_count_events_by_time_or_by_number() -> None:
    """Eight events in columns 0 to 7 of an 8 x 4 camera, the last three late and darker."""
    recording = Recording(
        microseconds=np.array([0, 1, 2, 3, 4, 90, 95, 99]),
        x=np.arange(8),
        y=np.zeros(8, dtype=np.int64),
        brighter=np.arange(8) < 5,
        width=8,
        height=4,
    )
    by_time = bin_events(recording, FrameSettings(side=8, timesteps=2))
    assert by_time.shape == (2, 2, 8, 8)
    assert by_time.sum() == 8
    # four rows in the middle of eight sites: row 0 of the camera is site 2
    assert by_time[0, 1, 2].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert by_time[1, 0, 2].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    by_count = bin_events(recording, FrameSettings(side=8, timesteps=2, parts="count"))
    assert by_count.sum(axis=(1, 2, 3)).tolist() == [4, 4]
    crowd = recording._replace(
        **{k: np.repeat(v, 100) for k, v in recording._asdict().items() if not isinstance(v, int)}
    )
    assert bin_events(crowd, FrameSettings(side=8, timesteps=1)).max() == 100
    most = crowd._replace(x=np.zeros(800, dtype=np.int64), brighter=np.zeros(800, dtype=bool))
    assert bin_events(most, FrameSettings(side=8, timesteps=1)).max() == 255


def test_a_folder_a_class_of_recordings_is_a_data_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "Caltech101"
    for index, name in enumerate(("airplanes", "ant")):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            events = made_events(40, width=100, height=80, seed=10 * index + number)
            write_bin(folder / name / f"image_{number:04d}.bin", events)
    wanted = FrameSettings(side=16, timesteps=3)
    train = load_event_split(str(folder), "train", wanted)
    test = load_event_split(str(folder), "test", wanted)
    assert train.frames.shape == (16, 3, 2, 16, 16)
    assert np.bincount(test.labels).tolist() == [2, 2]
    assert train.class_names == ("airplanes", "ant")
    assert (train.frames.sum(axis=(1, 2, 3, 4)) == 40).all()
    again = load_event_split(str(folder), "test", wanted)
    assert (again.frames == test.frames).all()
    bad = folder / "ant" / "image_0003.bin"
    bad.write_bytes(b"123")
    lenient = DataSettings(max_corrupt=0.1)
    splits = [load_event_split(str(folder), split, wanted, lenient) for split in ("train", "test")]
    assert sum(map(len, splits)) == 19
    assert str(bad) in caplog.text
    with pytest.raises(DataError, match="no recordings in"):
        load_event_split(str(tmp_path / "nothing"), "train", wanted)
