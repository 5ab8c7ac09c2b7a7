"""Folders of images: layouts, the test part, images that cannot be read."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import DataError
from spikebottlenet.lab import data_decode
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.data import load_split
from tests.made_images import made_pixels, write_classes, write_images

WANTED = Preprocess(side=16, mean_colour=(120, 120, 120))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_folder_a_class_is_parted_by_class_and_the_same_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_classes(tmp_path / "mine", {"red": 20, "green": 10, "blue": 2})
    train, test = (load_split(str(folder), name, WANTED) for name in ("train", "test"))
    assert train.class_names == test.class_names == ("blue", "green", "red")
    assert np.bincount(test.labels).tolist() == [1, 2, 4]  # a fifth, at least one
    assert np.bincount(train.labels).tolist() == [1, 8, 16]
    assert not set(train.digests.tolist()) & set(test.digests.tolist())
    assert "7 of its 32 rows" in caplog.text
    write_images(tmp_path / "elsewhere", made_pixels("red", 1, side=8))  # has no say
    again = load_split(str(folder), "test", WANTED)
    assert (again.images == test.images).all()
    other = load_split(str(folder), "test", WANTED, DataSettings(seed=1, test_part=0.5))
    assert np.bincount(other.labels).tolist() == [1, 5, 10]


def test_labels_follow_the_pixels(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"red": 5, "green": 5, "blue": 5})
    split = load_split(str(folder), "train", WANTED)
    strongest = split.images.mean(axis=(1, 2)).argmax(axis=1)  # of red, green, blue
    assert [split.class_names[label] for label in split.labels] == [
        ("red", "green", "blue")[index] for index in strongest
    ]


@pytest.mark.parametrize(
    ("train", "test"), [("train", "val"), ("Training", "test"), ("train", "validation")]
)
def test_split_folders_are_understood(tmp_path: Path, train: str, test: str) -> None:
    root = tmp_path / "imagenet"
    write_classes(root / train, {"red": 6, "green": 3}, suffix="JPEG", side=40)
    write_classes(root / test, {"red": 2, "green": 2}, suffix="JPEG", side=20)
    (root / "test").mkdir(exist_ok=True)  # ImageNet's holds no classes
    (root / "test" / "unknown.JPEG").write_bytes(b"")
    assert len(load_split(str(root), "train", WANTED)) == 9
    assert np.bincount(load_split(str(root), "test", WANTED).labels).tolist() == [2, 2]


def test_split_folders_may_have_folders_below_their_classes(tmp_path: Path) -> None:
    for part, count in (("train", 5), ("test", 2)):
        for name in ("red", "green"):
            pixels = made_pixels(name, count, side=8)
            write_images(tmp_path / "mine" / part / name / "2024", pixels)
    assert load_split(str(tmp_path / "mine"), "train", WANTED).class_names == ("green", "red")
    assert len(load_split(str(tmp_path / "mine"), "test", WANTED)) == 4


def test_splits_without_classes_are_no_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_images(tmp_path / "mine" / part, made_pixels("red", 4, side=8))
    with pytest.raises(DataError, match="splits test, train with no folder a class in them"):
        load_split(str(tmp_path / "mine"), "train", WANTED)


def test_a_class_may_be_called_as_a_split(tmp_path: Path) -> None:
    folder = tmp_path / "vehicles"
    for name in ("train", "test tube"):
        write_images(folder / name, made_pixels("red", 4, side=8))
    assert load_split(str(folder), "train", WANTED).class_names == ("test tube", "train")


def test_caltech_has_its_classes_one_folder_down_uneven_and_some_grey(tmp_path: Path) -> None:
    root = tmp_path / "caltech101"
    folder = write_classes(root / "101_ObjectCategories", {"red": 9, "green": 3}, side=30)
    (root / "Annotations" / "red").mkdir(parents=True)
    (root / "Annotations" / "red" / "annotation_0001.mat").write_bytes(b"not an image")
    grey = np.full((50, 31), 77, dtype=np.uint8)
    write_images(folder / "car_side", grey[None])
    Image.fromarray(grey).save(folder / "car_side" / "0001.jpg", quality=100)
    train = load_split(str(root), "train", WANTED)
    assert train.class_names == ("car_side", "green", "red")
    car = train.images[train.labels == 0]
    assert car.shape == (1, 16, 16, 3)
    assert (car == 77).all()


def test_corrupt_images_are_named_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_classes(tmp_path / "mine" / "train", {"red": 30, "green": 10})
    write_classes(tmp_path / "mine" / "test", {"red": 2, "green": 2})
    bad = folder / "red" / "0003.png"
    bad.write_bytes(bad.read_bytes()[:200])
    for _ in range(2):  # decoded, and from the cache
        caplog.clear()
        split = load_split(str(tmp_path / "mine"), "train", WANTED)
        assert np.bincount(split.labels).tolist() == [10, 29]
        assert len(split.corrupt) == 1
        assert str(bad) in caplog.text
        assert "1 of 40 files" in caplog.text
    strict = DataSettings(max_corrupt=0)
    with pytest.raises(DataError, match=r"more than 0 of the 40 files.*0003\.png"):
        load_split(str(tmp_path / "mine"), "train", WANTED, strict)
    (folder / "green" / "0001.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"more than 1 of the 40 files.*raise data\.max_corrupt"):
        load_split(str(tmp_path / "mine"), "train", WANTED)
    lenient = DataSettings(max_corrupt=0.05)
    assert len(load_split(str(tmp_path / "mine"), "train", WANTED, lenient)) == 38


def test_a_changed_image_is_decoded_again(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine" / "train", {"red": 3, "green": 3})
    before = load_split(str(tmp_path / "mine"), "train", WANTED)
    Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8)).save(folder / "red" / "0000.png")
    after = load_split(str(tmp_path / "mine"), "train", WANTED)
    assert len(before) == len(after)
    assert not (before.images == after.images).all()


def test_folders_of_alike_files_do_not_share_pixels(tmp_path: Path) -> None:
    found = []
    for name, value in (("clean", 10), ("noisy", 200)):
        for label in "ab":
            pixels = np.full((5, 16, 16, 3), value, dtype=np.uint8)
            write_images(tmp_path / name / label, pixels, "bmp")
        for file in (tmp_path / name).rglob("*.bmp"):
            os.utime(file, (0, 0))
        found.append(int(load_split(str(tmp_path / name), "test", WANTED).images.max()))
    assert found == [10, 200]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: write_images(root, made_pixels("red", 3, side=8)), "no folder a class"),
        (lambda root: (root / "red").mkdir(parents=True), "cannot load"),
    ],
)
def test_folders_that_hold_no_classes(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "mine")
    with pytest.raises(DataError, match=message):
        load_split(str(tmp_path / "mine"), "train", WANTED)


def test_a_folder_has_no_columns_and_names_its_splits(tmp_path: Path) -> None:
    write_classes(tmp_path / "mine" / "train", {"red": 3, "green": 3})
    write_classes(tmp_path / "mine" / "val", {"red": 1, "green": 1})
    for settings in (DataSettings(label_column="colour"), DataSettings(image_column="img")):
        with pytest.raises(DataError, match=r"no column '(colour|img)'"):
            load_split(str(tmp_path / "mine"), "train", WANTED, settings)
    with pytest.raises(DataError, match=r"mean 'train'.*There are: train, validation, test"):
        load_split(str(tmp_path / "mine"), "trian", WANTED)
    with pytest.raises(DataError, match="did you mean 'validation'"):
        load_split(str(tmp_path / "mine"), "test", WANTED, DataSettings(test_split="validaton"))


def test_test_classes_that_training_lacks(tmp_path: Path) -> None:
    write_classes(tmp_path / "mine" / "train", {"red": 3, "green": 3})
    write_classes(tmp_path / "mine" / "test", {"red": 3, "blue": 3})
    with pytest.raises(DataError, match="training split lacks: blue"):
        load_split(str(tmp_path / "mine"), "test", WANTED)


def test_many_images_keep_their_order_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_decode, "_CHUNK", 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    write_classes(tmp_path / "mine" / "train", {"red": 61})
    write_classes(tmp_path / "mine" / "test", {"red": 1})
    split = load_split(str(tmp_path / "mine"), "train", WANTED)
    assert (split.images == made_pixels("red", 61, side=16)).all()
