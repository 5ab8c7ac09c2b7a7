"""Recordings of event cameras: every format gives the same events, and frames count them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spikebottlenet import recordings
from spikebottlenet.bundle import EventFrames, Preprocess
from spikebottlenet.errors import ConfigError, DataError, ImageError, TooLargeError
from spikebottlenet.event_frames import bin_events
from spikebottlenet.lab.compose import read_config
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.config_files import config_file
from spikebottlenet.lab.data import load_split
from spikebottlenet.lab.data_colours import measured_colours
from spikebottlenet.preprocess import read_input
from spikebottlenet.recordings import Recording, read_recording
from tests.made_recordings import (
    Events,
    made_events,
    write_aedat2,
    write_aedat3,
    write_aedat4,
    write_bin,
)

WANTED = Preprocess(
    side=16,
    mean_colour=(0, 0, 0),
    events=EventFrames(width=120, height=90, timesteps=3),
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
    found = read_recording((tmp_path / name).read_bytes())
    for got, wanted in zip(found[:4], events, strict=True):
        assert got.tolist() == wanted.tolist()
    assert found.width >= 120 - 5
    assert found.height >= 90 - 5


def test_long_recordings_go_past_their_counters(tmp_path: Path) -> None:
    events = made_events(10, width=20, height=20)
    write_aedat3(tmp_path / "late.aedat", events, overflow=1)
    late = read_recording((tmp_path / "late.aedat").read_bytes())
    assert late.microseconds.tolist() == (events.t + 2**31).tolist()
    marked = Events(
        *(np.insert(v, 5, mark) for v, mark in zip(events, (0, 0, 240, 0), strict=True))
    )
    write_bin(tmp_path / "late.bin", marked)
    found = read_recording((tmp_path / "late.bin").read_bytes())
    assert found.microseconds.tolist() == [*events.t[:5], *(events.t[5:] + 2**13)]


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("cut.bin", lambda data: data[:-2], "cut short"),
        ("mixed.bin", lambda _: np.random.default_rng(0).bytes(5000), "times are in no order"),
        ("three.aedat", lambda data: data[:-9], "cut short in the packet"),
        ("dvs128.aedat", lambda data: data[:-3], "cut short"),
        ("four.aedat4", lambda data: data[:40], "of 40 bytes cannot be read"),
        ("empty.bin", lambda data: data[:0], "no events"),
        ("other.aedat", lambda data: b"RIFF" + data, "it starts with b'RIFF"),
        ("future.aedat", lambda data: b"#!AER-DAT9" + data, "it starts with b'#!AER-DAT9"),
    ],
)
def test_damaged_recordings_are_named(
    tmp_path: Path, name: str, make: object, message: str
) -> None:
    path = tmp_path / name
    FORMATS.get(name, write_bin)(path, made_events(50, width=100, height=80))
    with pytest.raises(ImageError, match=message) as raised:
        read_recording(make(path.read_bytes()))
    assert "wanted AEDAT 2.0, 3.1 or 4, or N-Caltech101's .bin" in str(raised.value)


def test_times_and_places_beyond_reason_are_refused(tmp_path: Path) -> None:
    events = made_events(10, width=20, height=20)
    write_aedat3(tmp_path / "late.aedat", events, overflow=1 << 30)
    with pytest.raises(ImageError, match="its times reach from"):
        read_recording((tmp_path / "late.aedat").read_bytes())


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_bytes_raise_nothing_else(tmp_path: Path, name: str) -> None:
    """A device takes recordings from anyone: bytes changed, cut out and put in at random."""
    FORMATS[name](tmp_path / name, made_events(40, width=120, height=90))
    whole, random = (tmp_path / name).read_bytes(), np.random.default_rng(7)
    refused = 0
    for _ in range(40 if name.endswith("4") else 300):  # each has a process of its own
        data = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            at, many = int(random.integers(len(data))), int(random.integers(1, 9))
            new = random.bytes(many if random.random() < 0.7 else 0)
            data[at : at + (many if random.random() < 0.7 else 0)] = new
        try:
            assert read_input(bytes(data), WANTED).shape == WANTED.shape
        except (ImageError, TooLargeError):
            refused += 1
    assert refused > 4


@pytest.mark.parametrize("name", FORMATS)
def test_a_recording_of_too_many_events_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    FORMATS[name](tmp_path / name, made_events(60, width=120, height=90))
    monkeypatch.setattr(recordings, "MAX_EVENTS", 49)
    with pytest.raises(TooLargeError, match="wanted at most 49: cut it shorter"):
        read_recording((tmp_path / name).read_bytes())


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
    by_time = frames(recording, EventFrames(width=8, height=4, timesteps=2))
    assert by_time.shape == (2, 2, 8, 8)
    assert by_time.sum() == 8
    # four rows in the middle of eight sites: row 0 of the camera is site 2
    assert by_time[0, 1, 2].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert by_time[1, 0, 2].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    by_count = frames(recording, EventFrames(width=8, height=4, timesteps=2, parts="count"))
    assert by_count.sum(axis=(1, 2, 3)).tolist() == [4, 4]
    crowd = recording._replace(
        **{k: np.repeat(v, 100) for k, v in recording._asdict().items() if not isinstance(v, int)}
    )
    assert frames(crowd, EventFrames(width=8, height=4, timesteps=1)).max() == 100
    most = crowd._replace(x=np.zeros(800, dtype=np.int64), brighter=np.zeros(800, dtype=bool))
    assert frames(most, EventFrames(width=8, height=4, timesteps=1)).max() == 255


def frames(recording: Recording, wanted: EventFrames) -> np.ndarray:
    """Frames [T, 2, 8, 8] of the pixels [8, 8, T * 2]."""
    pixels = bin_events(recording, wanted, side=8)
    assert pixels.shape == Preprocess(side=8, mean_colour=(0, 0, 0), events=wanted).shape
    return pixels.transpose(2, 0, 1).reshape(-1, 2, 8, 8)


def test_a_stray_event_moves_no_other_and_one_of_many_sets_no_size(tmp_path: Path) -> None:
    events = made_events(200, width=34, height=34)
    stray = Events(*(np.append(v, e) for v, e in zip(events, (300_000, 200, 150, 1), strict=True)))
    wanted = EventFrames(width=34, height=34, timesteps=2)
    for name, made in (("clean", events), ("stray", stray)):
        write_bin(tmp_path / name, made)
    clean, hot = (read_recording((tmp_path / name).read_bytes()) for name in ("clean", "stray"))
    assert (bin_events(clean, wanted, side=17) == bin_events(hot, wanted, side=17)).all()
    for label in ("one", "two"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(75):
            write_bin(tmp_path / "set" / label / f"{number}.bin", stray if number == 7 else events)
    config = read_config(config_file("small-events")).config.data
    measured = measured_colours(config, str(tmp_path / "set"))
    assert measured.camera == (34, 34)
    with pytest.raises(ImageError, match="no event within the camera's 34 x 34"):
        bin_events(clean.chosen(np.arange(0))._replace(width=9), wanted, side=17)


def test_a_folder_a_class_of_recordings_is_a_data_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "Caltech101"
    for index, name in enumerate(("airplanes", "ant")):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            events = made_events(40, width=100, height=80, seed=10 * index + number)
            write_bin(folder / name / f"image_{number:04d}.bin", events)
    train = load_split(str(folder), "train", WANTED)
    test = load_split(str(folder), "test", WANTED)
    assert train.images.shape == (16, 16, 16, 6)
    assert np.bincount(test.labels).tolist() == [2, 2]
    assert train.class_names == ("airplanes", "ant")
    assert (train.images.sum(axis=(1, 2, 3)) == 40).all()
    again = load_split(str(folder), "test", WANTED)
    assert (again.images == test.images).all()
    with pytest.raises(DataError, match="holds recordings, and images are wanted"):
        load_split(str(folder), "train", Preprocess(side=16, mean_colour=(0, 0, 0)))
    bad = folder / "ant" / "image_0003.bin"
    bad.write_bytes(b"123")
    lenient = DataSettings(max_corrupt=0.1)
    splits = [load_split(str(folder), split, WANTED, lenient) for split in ("train", "test")]
    assert sum(map(len, splits)) == 19
    assert str(bad) in caplog.text
    with pytest.raises(DataError, match="no recordings in"):
        load_split(str(tmp_path / "nothing"), "train", WANTED)


def test_recordings_are_not_taken_for_images_nor_images_for_recordings(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(picture, "PNG")
    with pytest.raises(ImageError, match=r"PNG.*which is a picture"):
        read_input(picture.getvalue(), WANTED)
    for byte in (b"\0", b"\xff"):
        with pytest.raises(ImageError, match="all its events are the same one"):
            read_input(byte * 500, WANTED)
    write_bin(tmp_path / "a.bin", made_events(100, width=30, height=30))
    with pytest.raises(ImageError, match="not an image"):
        read_input((tmp_path / "a.bin").read_bytes(), Preprocess(side=16, mean_colour=(0, 0, 0)))
    with pytest.raises(DataError, match="holds recordings but no folder a class"):
        load_split(str(tmp_path), "train", WANTED)
    (tmp_path / "a.bin").unlink()
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "one.png").write_bytes(picture.getvalue())
    with pytest.raises(DataError, match="holds images, and recordings are wanted"):
        load_split(str(tmp_path), "train", WANTED)


def test_each_timestep_sees_one_frame_or_the_config_is_refused() -> None:
    config = read_config(config_file("small-events")).config
    assert config.architecture(10).frames == 4
    with pytest.raises(ConfigError, match=r"data.frames is 3 and bottleneck.timesteps is 4"):
        read_config(config_file("small-events"), ("data.frames=3",))
    with pytest.raises(ConfigError, match="count_scale is 'auto'"):
        config.data.scale  # noqa: B018
    with pytest.raises(ConfigError, match="camera is 'auto'"):
        config.data.preprocess()
