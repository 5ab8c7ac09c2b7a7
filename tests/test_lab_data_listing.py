"""Images in one folder and a table beside them that says which class each is."""

from pathlib import Path

import datasets
import numpy as np
import pytest

from spikebottlenet.bundle import Preprocess
from spikebottlenet.errors import DataError
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.data import ImageSplit, load_split
from spikebottlenet.lab.data_folder import IMAGE_SUFFIXES
from spikebottlenet.lab.data_listing import find_listing
from tests.made_images import CLASSES, made_pixels, write_images

WANTED = Preprocess(side=16, mean_colour=(120, 120, 120))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def write_mixed(folder: Path, count: int = 12, *, seed: int = 0) -> list[str]:
    """Images of all classes in turn, 0000.png on; the class of each."""
    names = [CLASSES[index % len(CLASSES)] for index in range(count)]
    pixels = [made_pixels(name, 1, side=16, seed=seed + i)[0] for i, name in enumerate(names)]
    write_images(folder, np.stack(pixels))
    return names


def strongest(split: ImageSplit) -> list[str]:
    """What the pixels say each image is."""
    means = split.images.reshape(len(split), -1, 3).mean(axis=1)
    red, green, blue = (means > 120).T
    return [
        "yellow" if r and g else "red" if r else "green" if g else "blue" if b else "?"
        for r, g, b in zip(red, green, blue, strict=True)
    ]


def named(split: ImageSplit) -> list[str]:
    return [split.class_names[label] for label in split.labels]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("file,label", "images/{:04d}.png,{}"),
        ("file_name;label", "{:04d}.png;{}"),
        ("id\tbreed", "{:04d}\t{}"),
        ("label,path", "{1},/home/somebody/d/images/{0:04d}.png"),
        ("label,path,weather", "{1},.\\images\\{0:04d}.png,rain"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_table_says_which_class_each_file_is(
    tmp_path: Path, header: str, row: str, suffix: str
) -> None:
    names = write_mixed(tmp_path / "d" / "images")
    order = list(reversed(range(len(names))))
    lines = [header, *(row.format(index, names[index]) for index in order)]
    (tmp_path / "d" / f"labels.{suffix}").write_text("\n".join(lines), encoding="utf-8-sig")
    whole = [load_split(str(tmp_path / "d"), split, WANTED) for split in ("train", "test")]
    assert whole[0].class_names == CLASSES
    assert sum(len(split) for split in whole) == len(names)
    for split in whole:
        assert named(split) == strongest(split)


def test_tables_and_folders_of_splits_with_the_same_names(tmp_path: Path) -> None:
    root = tmp_path / "d"
    train = write_mixed(root / "train", 12)
    test = list(reversed(write_mixed(root / "test", 8)))
    write_images(root / "test", np.stack([made_pixels(name, 1, side=16)[0] for name in test]))
    for split, names in (("train", train), ("test", test)):
        lines = [f"{index:04d}.png,{name}" for index, name in enumerate(names)]
        (root / f"{split}.csv").write_text("\n".join(["image,label", *lines]))
    for split, names in (("train", train), ("test", test)):
        found = load_split(str(root), split, WANTED)
        assert named(found) == strongest(found) == names


def test_a_test_table_without_labels_leaves_a_part_of_training_for_testing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "d"
    names = write_mixed(root / "train", 20)
    write_mixed(root / "test", 8)
    lines = [f"{index:04d},{name}" for index, name in enumerate(names)]
    (root / "train.csv").write_text("\n".join(["id,label", *lines]))
    (root / "test.csv").write_text("\n".join(["id,when", *(f"{i:04d},noon" for i in range(8))]))
    (root / "sample_submission.csv").write_text("id,label\n0000,red\n")
    train, test = (load_split(str(root), split, WANTED) for split in ("train", "test"))
    assert len(train) + len(test) == len(names)
    assert named(test) == strongest(test)
    assert "has no labels" in caplog.text


def test_a_column_may_name_the_splits(tmp_path: Path) -> None:
    root = tmp_path / "d"
    names = write_mixed(root, 12)
    lines = [f"{i:04d}.png,{name},{'test' if i >= 8 else 'train'}" for i, name in enumerate(names)]
    (root / "all.csv").write_text("\n".join(["file,label,split", *lines]))
    assert named(load_split(str(root), "train", WANTED)) == names[:8]
    assert named(load_split(str(root), "test", WANTED)) == names[8:]


def test_numbers_are_classes_in_their_order_whatever_wrote_them(tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_mixed(root / "images", 4)
    files = [f"{index:04d}.png" for index in range(4)]
    (root / "a.csv").write_text(
        "\n".join(f"{a},{b}" for a, b in zip(["f", *files], "y9809", strict=True))
    )
    with pytest.raises(DataError, match="label column 'z'"):
        load_split(str(root), "train", WANTED, DataSettings(label_column="z"))
    (root / "a.csv").unlink()
    table = datasets.Dataset.from_dict({"f": files, "kind": [10.0, 9.0, 10.0, 9.0]})
    table.to_parquet(root / "a.parquet")
    assert load_split(str(root), "train", WANTED).class_names == ("9", "10")
    (root / "a.parquet").unlink()
    texts = datasets.Dataset.from_dict({"f": files, "kind": ["10", "9", "10", "9"]})
    texts.to_json(root / "a.jsonl")
    assert load_split(str(root), "train", WANTED).class_names == ("9", "10")
    (root / "a.jsonl").unlink()
    datasets.Dataset.from_dict({"f": files, "kind": [0.5, 9.0, 10.0, 9.0]}).to_parquet(
        root / "a.parquet"
    )
    with pytest.raises(DataError, match=r"label column 'kind' .*wanted whole numbers"):
        load_split(str(root), "train", WANTED)


def test_files_that_are_not_there_are_named_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "d"
    names = write_mixed(root / "images", 12)
    lines = [f"{index:04d}.png,{name}" for index, name in enumerate([*names, "red"])]
    (root / "labels.csv").write_text("\n".join(["file,label", *lines]))
    settings = DataSettings(test_split=None, max_corrupt=0.1)
    found = [load_split(str(root), split, WANTED, settings) for split in ("train", "test")]
    assert sum(len(split) for split in found) == 12
    assert "1 of 13 rows" in caplog.text
    assert "0012.png" in caplog.text


def test_a_changed_file_and_a_changed_label_are_read_again(tmp_path: Path) -> None:
    root = tmp_path / "d"
    names = write_mixed(root / "images", 8)
    lines = [f"{index:04d}.png,{name}" for index, name in enumerate(names)]
    (root / "train.csv").write_text("\n".join(["file,label", *lines]))
    (root / "test.csv").write_text("\n".join(["file,label", *lines]))
    assert named(load_split(str(root), "train", WANTED)) == names
    write_images(root / "images", made_pixels("red", 1, side=16, seed=5))
    lines[0] = "0000.png,red"
    (root / "train.csv").write_text("\n".join(["file,label", *lines]))
    again = load_split(str(root), "train", WANTED)
    assert named(again) == strongest(again) == ["red", *names[1:]]


def write_labels(path: Path, rows: list[tuple], header: str = "file,label") -> None:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))


@pytest.mark.parametrize("layout", ["contest", "sharded", "an empty one beside", "links"])
def test_other_folders_beside_do_not_make_classes(
    tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "d"
    held = {"contest": "train_images", "sharded": "images/00"}.get(layout, "images")
    if layout == "links":
        names = write_mixed(tmp_path / "big", 12)
        root.mkdir()
        (root / held).symlink_to(tmp_path / "big")
        (root / "more").symlink_to(root)  # goes round
    else:
        names = write_mixed(root / held, 12)
    if layout == "contest":
        write_mixed(root / "test_images", 8, seed=50)
    if layout == "sharded":
        write_images(root / "images" / "01", made_pixels("red", 3, side=16, seed=9))
    (root / "notes").mkdir()
    rows = [(f"{held}/{index:04d}.png", name) for index, name in enumerate(names)]
    write_labels(root / "train.csv", rows)
    found = [load_split(str(root), split, WANTED) for split in ("train", "test")]
    assert found[0].class_names == CLASSES
    for split in found:
        assert named(split) == strongest(split)
    assert sum(len(split) for split in found) == len(names)


@pytest.mark.parametrize("header", ["label,id", "id,label"])
def test_labels_that_look_like_files_are_labels(tmp_path: Path, header: str) -> None:
    root = tmp_path / "d"
    root.mkdir()
    for index in range(20):
        pixels = made_pixels(CLASSES[index % 4], 1, side=16, seed=index)
        write_images(root / "one", pixels)
        (root / "one" / "0000.png").rename(root / f"{index}.png")
    (root / "one").rmdir()
    rows = [
        (index % 4, index) if header == "label,id" else (index, index % 4) for index in range(21)
    ]
    write_labels(root / "train.csv", rows, header)
    settings = DataSettings(max_corrupt=0.2)
    found = [load_split(str(root), split, WANTED, settings) for split in ("train", "test")]
    assert found[0].class_names == ("0", "1", "2", "3")
    assert sum(len(split) for split in found) == 20
    for split in found:
        assert [CLASSES[int(name)] for name in named(split)] == strongest(split)


@pytest.mark.parametrize("name", ["train.csv", "all.csv"])
def test_a_split_that_is_none_is_refused_and_not_trained_on(tmp_path: Path, name: str) -> None:
    root = tmp_path / "d"
    names = write_mixed(root / "images", 8)
    rows = [(f"{i:04d}.png", n, "test" if i > 5 else "train") for i, n in enumerate(names)]
    write_labels(root / name, rows, "file,label,split")
    assert len(load_split(str(root), "train", WANTED)) == 6
    rows[0] = (*rows[0][:2], "dev")
    write_labels(root / name, rows, "file,label,split")
    with pytest.raises(DataError, match=r"column 'split' of .* has 'dev': wanted train, test"):
        load_split(str(root), "train", WANTED)


def test_a_file_of_the_test_folder_is_none_of_the_training_table(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for split, count in (("train", 12), ("test", 12)):
        names = write_mixed(root / split, count, seed=100 * (split == "test"))
        rows = [(f"{index:04d}.png", name) for index, name in enumerate(names)]
        write_labels(root / f"{split}.csv", rows)
    (root / "train" / "0003.png").unlink()
    found = load_split(str(root), "train", WANTED, DataSettings(max_corrupt=0.1))
    assert len(found) == 11


def test_a_file_has_one_label_and_one_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "d"
    names = write_mixed(root / "images", 8)
    rows = [(f"{index:04d}.png", name) for index, name in enumerate(names)]
    write_labels(root / "labels.csv", [*rows, rows[2], rows[2]])
    write_labels(root / "._labels.csv", [])  # as one system leaves them behind
    found = [load_split(str(root), split, WANTED) for split in ("train", "test")]
    assert sum(len(split) for split in found) == 8
    assert "2 rows of" in caplog.text
    write_labels(root / "labels.csv", [*rows, (rows[2][0], "blue")])
    with pytest.raises(DataError, match=r"says both 'red' and 'blue' of .*0002.png"):
        load_split(str(root), "train", WANTED)


def test_an_older_table_beside_is_not_mixed_in(tmp_path: Path) -> None:
    root = tmp_path / "d"
    names = write_mixed(root / "images", 8)
    rows = [(f"{index:04d}.png", name) for index, name in enumerate(names)]
    write_labels(root / "train.csv", rows)
    write_labels(root / "train_old.csv", [(file, "blue") for file, _ in rows])
    found = load_split(str(root), "train", WANTED)
    assert named(found) == strongest(found)


def test_tables_as_tools_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "d"
    names = write_mixed(root / "images", 8)
    for path in list((root / "images").iterdir()):
        path.rename(path.with_suffix(".PNG"))
    rows = [(i, f"/srv/d/images/{i:04d}.png", name) for i, name in enumerate(names)]
    write_labels(root / "labels.csv", rows, ",file,label")  # pandas, its index with it
    monkeypatch.chdir(root)
    found = load_split(".", "train", WANTED)
    assert found.class_names == CLASSES
    assert named(found) == strongest(found)
    write_labels(root / "labels.csv", rows[1:], "0,images/0000.png,red")
    with pytest.raises(DataError, match="add a line before it"):
        load_split(".", "train", WANTED)


def test_a_picture_beside_tables_that_hold_their_images_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_images(root / "assets", made_pixels("red", 1, side=16))
    pixels = [made_pixels(name, 1, side=16)[0] for name in CLASSES]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    for index in range(2):
        table = datasets.Dataset.from_dict({"image": pixels, "label": CLASSES}, features=features)
        table.to_parquet(root / f"{index:04d}.parquet")
    assert find_listing(root, IMAGE_SUFFIXES, DataSettings()) is None


def test_folders_of_classes_come_before_a_table(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for name in ("red", "green"):
        write_images(root / name, made_pixels(name, 5, side=16))
    (root / "notes.csv").write_text("file,label\nred/0000.png,blue\n")
    assert load_split(str(root), "train", WANTED).class_names == ("green", "red")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"a.csv": "file,label\n0000.png,red", "b.csv": "x,y\n1,2"}, "a.csv, b.csv, and none is"),
        ({"a.csv": ""}, "cannot read"),
        ({"a.csv": "file,one,two\n0000.png,red,3\n0001.png,red,4"}, "no label column among"),
        ({"a.csv": "file,label\nnone.png,red\nnor.png,blue"}, "names the files beside"),
        ({"a.csv": "file,label\n0000.png,\n0001.png,blue"}, "1 rows of .* have no 'label'"),
    ],
)
def test_tables_that_say_too_little(tmp_path: Path, tables: dict, message: str) -> None:
    root = tmp_path / "d"
    write_mixed(root / "images", 4)
    for name, text in tables.items():
        (root / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load_split(str(root), "train", WANTED)
