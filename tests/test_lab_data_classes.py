"""Classes: enough of each to train on, and the same as a bundle's; images in two splits."""

from pathlib import Path

import numpy as np
import pytest

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import ConfigError, DataError
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.config_files import config_file
from spikebottlenet.lab.data import ImageSplit, load_split
from spikebottlenet.lab.data_classes import check_trainable, match_classes, warn_of_duplicates
from spikebottlenet.lab.data_colours import measured_colours
from tests.made_images import made_pixels, write_classes, write_images

WANTED = Preprocess(side=16, mean_colour=(120, 120, 120))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def split_of(labels: list[int], names: tuple[str, ...]) -> ImageSplit:
    images = np.zeros((len(labels), 8, 8, 3), dtype=np.uint8)
    return ImageSplit(images, np.asarray(labels, dtype=np.int64), names)


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 0, 0], ("red",), r"one class \(red\)"),
        ([0, 2, 0], ("red", "green", "blue"), r"1 of 3 classes \('green'\)"),
        ([0, 1], ("red", "green"), "2 images to train on are fewer than a batch of 3"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    labels: list[int], names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        check_trainable(split_of(labels, names), batch=3)


def test_an_empty_class_folder_is_a_class_without_images(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"red": 10, "green": 10})
    (folder / "yellow").mkdir()
    split = load_split(str(folder), "train", WANTED)
    with pytest.raises(DataError, match="'yellow'"):
        check_trainable(split, batch=4)


def test_the_same_classes_in_another_order_are_matched_by_name() -> None:
    matched = match_classes(split_of([0, 1, 2, 2], ("a", "b", "c")), ("c", "a", "b"))
    assert matched.labels.tolist() == [1, 2, 0, 0]
    assert matched.class_names == ("c", "a", "b")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (("a", "b"), r"lacks 1 \('c'\): evaluate"),
        (("a", "b", "c", "d"), r"in excess 1 \('d'\)"),
        (("a", "b", "d"), r"lacks 1 \('c'\); it has in excess 1 \('d'\)"),
        (("a", "c", "b", "a"), r"number 1 is 'c', wanted 'b'"),
    ],
)
def test_other_classes_are_named(found: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        match_classes(split_of([0, 1], found), ("a", "b", "c"))


def test_test_images_that_were_trained_on_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "mine"
    write_classes(folder / "train", {"red": 9, "green": 9}, seed=0)
    write_classes(folder / "test", {"red": 5, "green": 5}, seed=1)
    train, test = (load_split(str(folder), name, WANTED) for name in ("train", "test"))
    assert warn_of_duplicates(train, test) == 0
    write_images(folder / "test" / "red", made_pixels("red", 3, side=16, seed=0))
    test = load_split(str(folder), "test", WANTED)
    assert warn_of_duplicates(train, test) == 3
    assert "3 of 10 test images" in caplog.text


def test_mean_and_deviation_come_from_the_training_split(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write_classes(folder / "train", {"red": 20, "green": 20}, side=16)
    write_classes(folder / "test", {"red": 2, "green": 2}, side=16, seed=7)
    found = measured_colours(DataSettings(side=16, mean="auto", std="auto"), str(folder))
    pixels = load_split(str(folder), "train", WANTED).images.reshape(-1, 3) / 255
    assert found.mean == pytest.approx(pixels.mean(axis=0), abs=1e-4)
    assert found.std == pytest.approx(pixels.std(axis=0), abs=1e-4)
    half = measured_colours(DataSettings(side=16, mean="auto"), str(folder))
    assert half.mean == found.mean
    assert half.std == DataSettings().std
    with pytest.raises(ConfigError, match="'auto'"):
        DataSettings(mean="auto").preprocess()


def test_configs_are_found_by_name(tmp_path: Path) -> None:
    assert config_file("small").name == "small.yaml"
    with pytest.raises(ConfigError, match="did you mean 'small'"):
        config_file("smal")
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    assert config_file(str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
