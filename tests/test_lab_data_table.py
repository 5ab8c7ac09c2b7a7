"""Data sets through ``datasets``: columns found and named, labels of every kind, splits."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import DataError
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.data import load_split
from tests.made_images import made_pixels

WANTED = Preprocess(side=16, mean_colour=(120, 120, 120))
COLOURS = datasets.ClassLabel(names=["red", "green"])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def write_table(
    folder: Path,
    split: str,
    labels: list,
    *,
    label: object,
    columns: tuple[str, str] = ("image", "label"),
    pixels: np.ndarray | None = None,
    **more: list,
) -> str:
    """A parquet file as ``datasets`` writes it; the folder, as a user would name it."""
    folder.mkdir(exist_ok=True)
    seed = int(split != "train")
    images = made_pixels("red", len(labels), side=16, seed=seed) if pixels is None else pixels
    features = {columns[0]: datasets.Image(), columns[1]: label}
    rows = {columns[0]: list(images), columns[1]: labels}
    if more:
        features |= {name: datasets.Value("string") for name in more}
        rows |= more
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)


def write_set(folder: Path, **splits: tuple[list, datasets.ClassLabel]) -> None:
    """A data set as ``save_to_disk`` leaves it; each split has classes of its own."""
    made = {}
    for split, (labels, kind) in splits.items():
        features = datasets.Features({"image": datasets.Image(), "label": kind})
        rows = {"image": list(made_pixels("red", len(labels), side=16)), "label": labels}
        made[split] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(made).save_to_disk(folder)


def test_fashion_mnist_is_grey_of_28_pixels(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (6, 28, 28)).astype(np.uint8)
    name = write_table(tmp_path / "d", "train", [0, 1] * 3, label=COLOURS, pixels=grey)
    split = load_split(name, "train", Preprocess(side=32, mean_colour=(0, 0, 0), crop=1.0))
    assert split.images.shape[1:] == (32, 32, 3)
    assert (split.images == split.images[..., :1]).all()  # grey in all three
    wanted = Image.fromarray(grey[0]).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    assert np.abs(split.images[0].astype(int) - np.asarray(wanted, dtype=int)).max() <= 1


@pytest.mark.parametrize(
    ("kind", "labels", "names", "found"),
    [
        (COLOURS, [1, 0, 1], ("red", "green"), [1, 0, 1]),
        (datasets.Value("string"), ["pear", "fig", "pear"], ("fig", "pear"), [1, 0, 1]),
        (datasets.Value("int64"), [3, 1, 10], ("1", "3", "10"), [1, 0, 2]),
    ],
)
def test_labels_are_names_texts_or_numbers(
    tmp_path: Path, kind: object, labels: list, names: tuple, found: list
) -> None:
    name = write_table(tmp_path / "d", "train", labels, label=kind)
    write_table(tmp_path / "d", "test", labels[:1], label=kind)
    train, test = (load_split(name, split, WANTED) for split in ("train", "test"))
    assert train.class_names == test.class_names == names
    assert train.labels.tolist() == found
    assert test.labels.tolist() == found[:1]


def test_columns_are_found_or_named_and_the_nearest_is_said(tmp_path: Path) -> None:
    name = write_table(
        tmp_path / "d",
        "train",
        [0, 1, 1, 0],
        label=COLOURS,
        columns=("picture_png", "colour"),
        shape=["round", "square", "square", "square"],
    )
    assert load_split(name, "train", WANTED).class_names == ("red", "green")
    by_shape = load_split(name, "train", WANTED, DataSettings(label_column="shape"))
    assert by_shape.class_names == ("round", "square")
    with pytest.raises(DataError, match=r"label column 'color'.*did you mean 'colour'"):
        load_split(name, "train", WANTED, DataSettings(label_column="color"))
    with pytest.raises(DataError, match=r"image column 'picture'.*did you mean 'picture_png'"):
        load_split(name, "train", WANTED, DataSettings(image_column="picture"))
    with pytest.raises(DataError, match=r"'colour' of .*wanted images"):
        load_split(name, "train", WANTED, DataSettings(image_column="colour"))


def test_bytes_alone_are_images_where_they_are_named(tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    Image.fromarray(made_pixels("red", 1, side=16)[0]).save(file)
    table = datasets.Dataset.from_dict({"data": [file.read_bytes()] * 4, "class": [0, 1, 0, 1]})
    (tmp_path / "d").mkdir()
    table.to_parquet(tmp_path / "d" / "train.parquet")
    with pytest.raises(DataError, match="no image column among data, class"):
        load_split(str(tmp_path / "d"), "train", WANTED)
    split = load_split(str(tmp_path / "d"), "train", WANTED, DataSettings(image_column="data"))
    assert (split.images == made_pixels("red", 1, side=16)).all()


def test_splits_are_named_or_the_nearest_is_said(tmp_path: Path) -> None:
    name = write_table(tmp_path / "d", "train", [0, 1] * 4, label=COLOURS)
    write_table(tmp_path / "d", "test", [0, 1], label=COLOURS)
    assert len(load_split(name, "test", WANTED)) == 2
    assert (
        len(load_split(name, "test", WANTED, DataSettings(train_split="test", test_split="train")))
        == 8
    )
    with pytest.raises(DataError, match=r"split 'tset'.*did you mean 'test'"):
        load_split(name, "test", WANTED, DataSettings(test_split="tset"))
    with pytest.raises(DataError, match="is its training split"):
        load_split(name, "test", WANTED, DataSettings(test_split="train"))


@pytest.mark.parametrize("none", [[-1, -1], [None, None]])
def test_a_test_split_without_labels_is_passed_over(
    none: list, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = write_table(tmp_path / "d", "train", [0, 1] * 4, label=COLOURS)
    write_table(tmp_path / "d", "validation", [0, 1, 1], label=COLOURS)
    write_table(tmp_path / "d", "test", none, label=COLOURS)
    assert load_split(name, "test", WANTED).labels.tolist() == [0, 1, 1]
    assert len(load_split(name, "train", WANTED)) == 8
    assert "no labels" in caplog.text


def test_test_labels_of_another_order_follow_their_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = datasets.ClassLabel(names=["green", "red"])
    write_set(tmp_path / "s", train=([0, 1, 1], COLOURS), test=([0, 0, 1], other))
    assert load_split(str(tmp_path / "s"), "test", WANTED).labels.tolist() == [1, 1, 0]
    assert load_split(str(tmp_path / "s"), "test", WANTED).class_names == ("red", "green")
    assert "another order" in caplog.text
    blue = datasets.ClassLabel(names=["red", "blue"])
    write_set(tmp_path / "b", train=([0, 1, 1], COLOURS), test=([0, 1], blue))
    with pytest.raises(DataError, match="labels that the training split lacks: blue"):
        load_split(str(tmp_path / "b"), "test", WANTED)


def test_a_table_of_paths_is_read_again_when_its_files_change(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    files = [tmp_path / f"{index}.png" for index in range(4)]
    for file, image in zip(files, made_pixels("red", 4, side=16), strict=True):
        Image.fromarray(image).save(file)
    rows = [f"{file},{index % 2}" for index, file in enumerate(files)]
    (tmp_path / "d" / "train.csv").write_text("\n".join(["image,label", *rows]))
    before = np.array(load_split(str(tmp_path / "d"), "train", WANTED).images)
    Image.fromarray(made_pixels("green", 1, side=16)[0]).save(files[3])
    after = load_split(str(tmp_path / "d"), "train", WANTED).images  # without its test part
    changed = [bool((one != two).any()) for one, two in zip(before, after, strict=True)]
    assert changed == [False, True]


def test_one_split_alone_is_parted(tmp_path: Path) -> None:
    name = write_table(tmp_path / "d", "train", [0] * 10 + [1] * 20, label=COLOURS)
    assert np.bincount(load_split(name, "test", WANTED).labels).tolist() == [2, 4]
    assert np.bincount(load_split(name, "train", WANTED).labels).tolist() == [8, 16]


def test_labels_that_are_none_or_unknown(tmp_path: Path) -> None:
    text = datasets.Value("string")
    name = write_table(tmp_path / "d", "train", ["fig", None, "pear"], label=text)
    with pytest.raises(DataError, match=r"1 rows of .* have no 'label'"):
        load_split(name, "train", WANTED)
    name = write_table(tmp_path / "e", "train", ["fig", "fig"], label=text)
    write_table(tmp_path / "e", "test", ["fig", "plum"], label=text)
    with pytest.raises(DataError, match="training split lacks: plum"):
        load_split(name, "test", WANTED)


def test_a_damaged_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    name = write_table(tmp_path / "d", "train", [0, 1], label=COLOURS)
    file = next((tmp_path / "d").iterdir())
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match="cannot load"):
        load_split(name, "train", WANTED)
