"""A folder of image files, a folder a class: with split folders above the classes, or without.

    FOLDER/CLASS/*.jpg      FOLDER/train/CLASS/*.JPEG, FOLDER/val/CLASS/...      (ImageNet's)
    FOLDER/101_ObjectCategories/CLASS/*.jpg                                     (Caltech-101's)

Walked here and not by ``datasets``, whose image folders take a class named ``test tube`` for the
test split and forget a class whose folder is empty.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikebottlenet.errors import DataError
from spikebottlenet.lab.data_rows import Rows
from spikebottlenet.recording_names import RECORDING_SUFFIXES

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".avif", ".jp2"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pbm"),
    )
)
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
METADATA_TABLES = (
    "metadata.csv",
    "metadata.jsonl",
    "metadata.parquet",
)  # `datasets` knows what to do
_DEPTH = 3  # folders that a download may wrap around the classes


@dataclass(frozen=True)
class ClassFolders:
    """Where the classes' folders lie: one folder of them a split."""

    root: Path
    splits: dict[str, Path]  # by train, test, validation
    class_names: tuple[str, ...]
    suffixes: frozenset[str]  # of the files that count

    def rows(self, split: str) -> Rows:
        """Every image of a split, sorted by class and path.

        Raises:
            DataError: it holds a class that the training split lacks.
        """
        folder = self.splits[split]
        found = _folders(folder)
        unknown = sorted({path.name for path in found} - set(self.class_names))
        unknown = [name for name in unknown if folder_files(folder / name, self.suffixes)]
        if unknown:
            raise DataError(
                f"{folder} has classes that the training split lacks: {', '.join(unknown[:10])}: "
                "add them there, or take them away"
            )
        order = {name: index for index, name in enumerate(self.class_names)}
        paths, labels = list[str](), list[int]()
        digest = hashlib.sha256(f"{folder.resolve()}\n".encode())  # another's files may look alike
        for class_folder in (path for path in found if path.name in order):
            for path, size, changed in folder_files(class_folder, self.suffixes):
                paths.append(path)
                labels.append(order[class_folder.name])
                digest.update(f"{os.path.relpath(path, folder)}\0{size}\0{changed}\n".encode())
        return Rows(
            name=f"split {split!r} of {self.root}",
            class_names=self.class_names,
            labels=np.asarray(labels, dtype=np.int64),
            read=lambda rows: [read_file(paths[row]) for row in rows],
            row_name=lambda row: paths[row],
            content=digest.hexdigest(),
        )


def find_class_folders(
    root: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES
) -> ClassFolders | None:
    """The layout of a folder of images, or None where it is none: `datasets` may know it.

    Raises:
        DataError: it holds images, but no folder a class.
    """
    folder = root
    for _ in range(_DEPTH):
        if any((folder / name).exists() for name in METADATA_TABLES):
            return None
        splits = _split_folders(folder, suffixes)
        if splits:
            if any((path / name).exists() for path in splits.values() for name in METADATA_TABLES):
                return None
            return ClassFolders(root, splits, _names(splits["train"]), suffixes)
        children = _folders(folder)
        if any(_holds_files(child, suffixes) for child in children):
            return _classes(root, folder, suffixes)
        inside = [child for child in children if _files_below(child, suffixes)]
        if not inside:
            break
        if len(inside) > 1:
            return _classes(root, folder, suffixes)
        folder = inside[0]
    if _holds_files(root, suffixes) and not any(root.glob("*.parquet")):
        held = "recordings" if suffixes == RECORDING_SUFFIXES else "images"
        raise DataError(
            f"{root} holds {held} but no folder a class: put what belongs to each class into a "
            "folder that bears its name"
        )
    return None


def _classes(root: Path, folder: Path, suffixes: frozenset[str]) -> ClassFolders:
    names = _names(folder)
    if all(name.lower() in SPLIT_NAMES for name in names):
        raise DataError(
            f"{folder} has the splits {', '.join(names)} with no folder a class in them: put what "
            "belongs to each class into a folder that bears its name"
        )
    return ClassFolders(root, {"train": folder}, names, suffixes)


def _split_folders(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """Folders named as splits that hold folders of images; none where there is no training one."""
    found = dict[str, Path]()
    for child in _folders(folder):
        split = SPLIT_NAMES.get(child.name.lower())
        if split and any(_files_below(inner, suffixes) for inner in _folders(child)):
            found[split] = child
    return found if "train" in found else {}


def _names(folder: Path) -> tuple[str, ...]:
    """Of every folder that is not hidden: one without an image is a class without images."""
    return tuple(path.name for path in _folders(folder))


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    inner = (path for path in folder.iterdir() if not path.name.startswith((".", "__")))
    return sorted(path for path in inner if path.is_dir())


def _counts(name: str, suffixes: frozenset[str]) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes  # noqa: PTH122


def _holds_files(folder: Path, suffixes: frozenset[str]) -> bool:
    with os.scandir(folder) as entries:
        return any(_counts(entry.name, suffixes) for entry in entries)


def _files_below(folder: Path, suffixes: frozenset[str]) -> bool:
    return any(_counts(name, suffixes) for _, names in _walk(folder) for name in names)


def folder_files(folder: Path, suffixes: frozenset[str]) -> "list[tuple[str, int, int]]":
    """Path, bytes and time of change of each file at or below a folder, sorted by path."""
    found = []
    for inner, names in _walk(folder):
        for name in names:
            if _counts(name, suffixes):
                path = os.path.join(inner, name)  # noqa: PTH118  # a million of them
                about = os.stat(path) if os.path.exists(path) else os.lstat(path)  # noqa: PTH110, PTH116
                found.append((path, about.st_size, about.st_mtime_ns))
    return sorted(found)


def _walk(folder: Path) -> "Iterator[tuple[str, list[str]]]":
    """Every folder at or below this one with its files' names, linked ones too, each once."""
    seen = set[tuple[int, int]]()
    for inner, folders, names in os.walk(folder, followlinks=True):
        about = os.stat(inner)  # noqa: PTH116
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        yield inner, names


def read_file(path: str) -> bytes | OSError:
    """Its bytes, or why it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        return error
