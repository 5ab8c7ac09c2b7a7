"""A folder of image files and a table beside them that says which class each is.

    FOLDER/labels.csv    FOLDER/images/*.jpg
    FOLDER/train.csv     FOLDER/train/*.jpg     FOLDER/test.csv     FOLDER/test/*.jpg

Which column names the files is seen from its values: paths from FOLDER on, bare names, or names
without their suffix.
"""

import csv
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from spikebottlenet.errors import DataError
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.data_folder import (
    METADATA_TABLES,
    SPLIT_NAMES,
    find_class_folders,
    folder_files,
    read_file,
)
from spikebottlenet.lab.data_rows import Rows
from spikebottlenet.lab.data_table import label_column, named_column, table_labels, table_rows

log = logging.getLogger(__name__)

_BUILDERS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".parquet": "parquet"}
_SEPARATORS = ",\t;"
_SPLIT_COLUMN = "split"
_LOOKED_AT = 1000  # values of a column
_ENOUGH = 0.5  # of them name files: it is the column of files

File = tuple[str, int, int]  # path, bytes and time of change
Files = dict[str, File]  # by every name that means one


@dataclass(frozen=True)
class Listing:
    """Tables beside files, a table a split."""

    root: Path
    tables: Mapping[str, Any]
    suffixes: frozenset[str]

    def rows(self, settings: DataSettings, split: str, class_names: tuple[str, ...] | None) -> Rows:
        """Rows of one split; ``class_names`` are those of the training split, or None to find them.

        A table that names none of the files may hold its images itself.

        Raises:
            DataError: no such column, or a label that cannot be one.
        """
        table, name = self.tables[split], f"split {split!r} of {self.root}"
        files = self._files(split)
        column = self._file_column(table, settings.image_column, files, name)
        if column is None:
            return table_rows(table, settings, name=name, class_names=class_names)
        label = self._label_column(settings, split)
        if label in table.column_names:
            labels, names = table_labels(table, label, class_names, name)
        else:  # a test split of a contest
            labels, names = np.full(len(table), -1, dtype=np.int64), class_names or ()
        said = [_key(value) for value in table[column][:]]
        found = [self._find(each, files) for each in said]
        missing = [each for each, file in zip(said, found, strict=True) if file is None]
        if missing:
            log.warning(
                "%d of %d rows of %s name no file that is there, as %r: counted as corrupt",
                *(len(missing), len(said), name, missing[0]),
            )
        paths = [
            file[0] if file else str(self.root / each)
            for file, each in zip(found, said, strict=True)
        ]
        digest = hashlib.sha256(f"{self.root.resolve()}\n".encode())
        for path, file, label in zip(paths, found, labels.tolist(), strict=True):
            digest.update(f"{path}\0{file and file[1:]}\0{label}\n".encode())
        return Rows(
            name=name,
            class_names=names,
            labels=labels,
            read=lambda rows: [
                read_file(paths[row]) if found[row] else FileNotFoundError("no such file below")
                for row in rows
            ],
            row_name=lambda row: paths[row],
            content=digest.hexdigest(),
        )

    def _label_column(self, settings: DataSettings, split: str) -> str:
        """That of the training split: the only other column of its table, or as anywhere."""
        wanted = settings.train_split or "train"
        first = wanted if wanted in self.tables else split
        table, name = self.tables[first], f"split {first!r} of {self.root}"
        files = self._file_column(table, settings.image_column, self._files(first), name) or ""
        others = [c for c in table.column_names if c not in (files, _SPLIT_COLUMN)]
        if settings.label_column is None and len(others) == 1:
            return str(others[0])
        return label_column(table, settings.label_column, files, name)

    def _file_column(self, table: Any, wanted: str | None, files: Files, name: str) -> str | None:
        """The column that names files, None where none does."""
        if wanted is not None:
            named_column(table, wanted, "image", name)
        shares = dict[str, float]()
        for column in table.column_names if wanted is None else [wanted]:
            if isinstance(table.features[column], datasets.Value):
                values = table[: min(_LOOKED_AT, len(table))][column]
                named = sum(self._find(_key(value), files) is not None for value in values)
                shares[column] = named / max(1, len(values))
        best = max(shares, key=lambda column: shares[column], default=None)
        return best if best is not None and shares[best] >= _ENOUGH else None

    def _find(self, key: str, files: Files) -> File | None:
        """The file of that name; of a path from elsewhere, that of its end from the root on."""
        file = files.get(key)
        end = key
        while file is None and "/" in end:
            end = end.partition("/")[2]
            near = files.get(end)
            if near is not None and near[0] == str(self.root / end):
                file = near
        return file

    def _files(self, split: str) -> Files:
        """Files by every name that means one; those of the split's own folder come first."""
        inner = [
            path
            for path in sorted(self.root.iterdir())
            if path.is_dir() and SPLIT_NAMES.get(path.name.lower()) == split
        ]
        found: Files = {}
        for folder in [*inner, self.root]:
            for key, file in _by_name(folder, self.suffixes):
                found.setdefault(key, file)
        return found


def find_listing(root: Path, suffixes: frozenset[str]) -> Listing | None:
    """The tables of a folder of files; None where it has none, or has folders of classes.

    Raises:
        DataError: a table cannot be read, or it cannot be told which one is to be.
    """
    paths = sorted(path for path in root.iterdir() if path.suffix.lower() in _BUILDERS)
    if not paths or any(path.name in METADATA_TABLES for path in paths):
        return None
    if _has_classes(root, suffixes) or not folder_files(root, suffixes):
        return None
    return Listing(root, _tables(root, paths), suffixes)


def _has_classes(root: Path, suffixes: frozenset[str]) -> bool:
    try:
        found = find_class_folders(root, suffixes)
    except DataError:  # files that no folders part
        return False
    return found is not None and len(found.class_names) > 1


def _tables(root: Path, paths: Sequence[Path]) -> dict[str, Any]:
    by_split: dict[str, list[Path]] = {}
    for path in paths:
        first = path.stem.lower().replace("_", "-").split("-")[0]
        if first in SPLIT_NAMES:
            by_split.setdefault(SPLIT_NAMES[first], []).append(path)
    if "train" not in by_split:
        if len(paths) > 1:
            raise DataError(
                f"{root} has the tables {', '.join(path.name for path in paths)}, and none is "
                "called train: keep the one that says which class each file is, or name them "
                "after their splits"
            )
        return _parted(_read(paths))
    return {split: _read(of_split) for split, of_split in by_split.items()}


def _read(paths: Sequence[Path]) -> Any:
    """One table of one or more files of the same kind."""
    builder, options = _BUILDERS[paths[0].suffix.lower()], dict[str, Any]()
    try:
        if builder == "csv":
            with paths[0].open(encoding="utf-8-sig") as file:
                header = file.readline()
            separator = max(_SEPARATORS, key=header.count)
            columns = next(csv.reader([header], delimiter=separator))
            # As texts: a file may be called 0001, and a class None.
            texts = datasets.Features({column: datasets.Value("string") for column in columns})
            options = {"sep": separator, "encoding": "utf-8-sig", "features": texts}
            options |= {"keep_default_na": False, "na_values": [""]}
        files = [str(path) for path in paths]
        return datasets.load_dataset(builder, data_files=files, split="train", **options)
    except Exception as error:  # the library and what it calls raise almost anything
        raise DataError(f"cannot read {paths[0]}: {error}; wanted a table with a header") from error


def _parted(table: Any) -> dict[str, Any]:
    """By a column that names splits, where there is one."""
    if _SPLIT_COLUMN not in table.column_names:
        return {"train": table}
    values = [SPLIT_NAMES.get(str(value).lower()) for value in table[_SPLIT_COLUMN][:]]
    if None in values or "train" not in values:
        return {"train": table}
    return {
        split: table.select([row for row, value in enumerate(values) if value == split])
        for split in sorted({str(value) for value in values})
    }


def _by_name(folder: Path, suffixes: frozenset[str]) -> Iterator[tuple[str, File]]:
    """Each file by its path from the folder on, and by its bare name where no other has it."""
    files = folder_files(folder, suffixes)
    once: dict[str, list[File]] = {}
    for file in files:
        inner = os.path.relpath(file[0], folder)
        yield _key(inner), file
        bare = os.path.basename(inner)  # noqa: PTH119  # a million of them
        for key in {_key(os.path.splitext(inner)[0]), bare, os.path.splitext(bare)[0]}:  # noqa: PTH122
            once.setdefault(key, []).append(file)
    yield from ((key, found[0]) for key, found in once.items() if len(found) == 1)


def _key(value: object) -> str:
    """A path as a table may write it."""
    return str(value).strip().replace("\\", "/").removeprefix("./").lstrip("/")
