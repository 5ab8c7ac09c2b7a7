"""A folder of image files and a table beside them that says which class each is.

    FOLDER/labels.csv    FOLDER/images/*.jpg
    FOLDER/train.csv     FOLDER/train/*.jpg     FOLDER/test.csv     FOLDER/test/*.jpg

Which column names the files is seen from its values: paths from FOLDER on, bare names, or names
without their suffix. Folders of classes come first, unless the table names many of their files and
has a column that is called as labels are.
"""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from spikebottlenet.lab.data_rows import Labels, Rows
from spikebottlenet.lab.data_table import LABEL_COLUMNS, label_column, named_column, table_labels
from spikebottlenet.lab.data_tables_beside import SPLIT_COLUMN, read_tables, table_files

log = logging.getLogger(__name__)

_LOOKED_AT = 1000  # values of a column
_ENOUGH = 0.5  # of them name files: it may be the column of files
_MANY = 0.2  # of all files are named by a table: their folders' names are no classes

File = tuple[str, int, int]  # path, bytes and time of change
Files = dict[str, File]  # by every name that means one


@dataclass(frozen=True)
class Listing:
    """Tables beside files, a table a split."""

    root: Path
    tables: Mapping[str, Any]
    files: Sequence[File]  # all below the root
    _named: dict[str, Files] = field(default_factory=dict)  # by split

    def rows(self, settings: DataSettings, split: str, class_names: tuple[str, ...] | None) -> Rows:
        """Rows of one split; ``class_names`` are those of the training split, or None to find them.

        A row that repeats another is left out; one whose file is not there is corrupt.

        Raises:
            DataError: no such column, or a label that cannot be one, or two of one file.
        """
        table, name = self.tables[split], f"split {split!r} of {self.root}"
        column = self.file_column(settings, split)
        headless = [cell for cell in table.column_names if self._find(_key(cell), split)]
        if headless:
            raise DataError(
                f"the first line of the table of {name} names the file {headless[0]!r}: add a line "
                "before it that names the columns, as file,label"
            )
        if column is None:
            raise DataError(
                f"no column among {', '.join(table.column_names)} of {name} names the files beside "
                "it: name it as data.image_column (--image-column)"
            )
        label = self._label_column(settings, split)
        if label in table.column_names:
            labels, names = table_labels(table, label, class_names, name)
        else:  # a test split of a contest
            labels, names = np.full(len(table), -1, dtype=np.int64), class_names or ()
        said = [_key(value) for value in table[column][:]]
        found = [self._find(each, split) for each in said]
        paths = [f[0] if f else str(self.root / each) for f, each in zip(found, said, strict=True)]
        kept = _once(paths, labels, names, name)
        labels, paths = labels[kept], [paths[row] for row in kept]
        found = [found[row] for row in kept]
        missing = [path for path, file in zip(paths, found, strict=True) if file is None]
        if missing:
            log.warning(
                "%d of %d rows of %s name no file that is there, as %s: counted as corrupt",
                *(len(missing), len(paths), name, missing[0]),
            )
        digest = hashlib.sha256(f"{self.root.resolve()}\n".encode())
        for path, file, of_file in zip(paths, found, labels.tolist(), strict=True):
            digest.update(f"{path}\0{file and file[1:]}\0{of_file}\n".encode())
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

    def file_column(self, settings: DataSettings, split: str) -> str | None:
        """The column that names most files, None where none does; labels may look as if they did.

        Raises:
            DataError: there is no column of the name that is wanted.
        """
        table, wanted = self.tables[split], settings.image_column
        if wanted is not None:
            named_column(table, wanted, "image", f"split {split!r} of {self.root}")
        labels = {settings.label_column, SPLIT_COLUMN, *LABEL_COLUMNS}
        columns = [c for c in table.column_names if c not in labels] if wanted is None else [wanted]
        named = dict[str, int]()
        for column in columns:
            if isinstance(table.features[column], datasets.Value):
                values = [_key(value) for value in table[: min(_LOOKED_AT, len(table))][column]]
                there = [file[0] for each in values if (file := self._find(each, split))]
                if values and len(there) >= _ENOUGH * len(values):
                    named[column] = len(set(there))
        return max(named, key=lambda column: named[column], default=None)

    def says_classes(self, settings: DataSettings) -> bool:
        """Whether its training table rather than folders' names is to say the classes."""
        split = self.training(settings)
        table = self.tables[split]
        column = self.file_column(settings, split)
        if column is None or not {settings.label_column, *LABEL_COLUMNS} & {*table.column_names}:
            return False
        there = {f[0] for value in table[column][:] if (f := self._find(_key(value), split))}
        return len(there) >= _MANY * len(self.files)

    def training(self, settings: DataSettings) -> str:
        """The split that says which classes there are."""
        wanted = settings.train_split
        return wanted if wanted is not None and wanted in self.tables else "train"

    def _label_column(self, settings: DataSettings, split: str) -> str:
        """That of the training split: the only other column of its table, or as anywhere."""
        first = self.training(settings)
        table, files = self.tables[first], self.file_column(settings, first) or ""
        others = [c for c in table.column_names if c not in (files, SPLIT_COLUMN)]
        if settings.label_column is None and len(others) == 1:
            return str(others[0])
        return label_column(table, settings.label_column, files, f"split {first!r} of {self.root}")

    def _find(self, key: str, split: str) -> File | None:
        """The file of that name; of a path from elsewhere, that of its end from the root on."""
        files = self._files(split)
        file, end = files.get(key), key
        while file is None and "/" in end:
            end = end.partition("/")[2]
            near = files.get(end)
            if near is not None and _key(os.path.relpath(near[0], self.root)) == end:
                file = near
        return file

    def _files(self, split: str) -> Files:
        """Files by every name that means one; those of the split's own folder come first.

        What lies in another split's folder is none of this one's.
        """
        if split not in self._named:
            own, others = list[tuple[str, File]](), list[tuple[str, File]]()
            for file in self.files:
                inner = os.path.relpath(file[0], self.root)
                first, _, rest = inner.replace(os.sep, "/").partition("/")
                folder = SPLIT_NAMES.get(first.lower()) if rest else None
                if folder == split:
                    own.append((rest, file))
                if folder in (None, split) or folder not in self.tables:
                    others.append((inner, file))
            found: Files = {}
            for part in (own, others):
                for key, file in _by_name(part):
                    found.setdefault(key, file)
            self._named[split] = found
        return self._named[split]


def find_listing(root: Path, suffixes: frozenset[str], settings: DataSettings) -> Listing | None:
    """The tables of a folder of files; None where none says what class each file is.

    Raises:
        DataError: a table cannot be read, or it cannot be told which one is to be.
    """
    paths = table_files(root)
    if not paths or any(path.name in METADATA_TABLES for path in paths):
        return None
    files = folder_files(root, suffixes)
    classes = _class_folders(root, suffixes)
    if not files:
        return None
    try:
        listing = Listing(root, read_tables(root, paths), files)
        named = listing.file_column(settings, listing.training(settings)) is not None
    except DataError as error:
        if not classes and all(path.suffix.lower() == ".parquet" for path in paths):
            return None  # they may hold their images themselves
        if not classes:
            raise
        log.warning("%s is not read, as the folders beside it say the classes: %s", root, error)
        return None
    if classes and not listing.says_classes(settings):
        log.warning(
            "%s holds folders of classes (%s): %s beside them is not read",
            *(root, ", ".join(classes[:5]), ", ".join(path.name for path in paths)),
        )
        return None
    if classes:
        log.warning("%s: its table says the classes, not the names of its folders", root)
    elif not named and all(path.suffix.lower() == ".parquet" for path in paths):
        return None  # the table holds its images itself
    return listing


def _class_folders(root: Path, suffixes: frozenset[str]) -> tuple[str, ...]:
    """Names of folders of classes; none where a single one holds all."""
    try:
        found = find_class_folders(root, suffixes)
    except DataError:  # files that no folders part
        return ()
    return found.class_names if found is not None and len(found.class_names) > 1 else ()


def _by_name(files: Sequence[tuple[str, File]]) -> Iterator[tuple[str, File]]:
    """Each file by its path from a folder on, and by its bare name where no other has it."""
    once: dict[str, list[File]] = {}
    for inner, file in files:
        key = _key(inner)
        yield key, file
        bare = key.rpartition("/")[2]
        for other in {os.path.splitext(key)[0], bare, os.path.splitext(bare)[0]}:  # noqa: PTH122
            once.setdefault(other, []).append(file)
    yield from ((key, found[0]) for key, found in once.items() if len(found) == 1)


def _key(value: object) -> str:
    """A path as a table may write it, its suffix in small letters."""
    path = str(value).strip().replace("\\", "/").removeprefix("./").lstrip("/")
    stem, suffix = os.path.splitext(path)  # noqa: PTH122  # a million of them
    return stem + suffix.lower()


def _once(paths: Sequence[str], labels: Labels, names: Sequence[str], name: str) -> Labels:
    """Rows, without those that say again what another says.

    Raises:
        DataError: a file with two labels.
    """
    first: dict[str, int] = {}
    for row, path in enumerate(paths):
        known = first.setdefault(path, row)
        if labels[known] != labels[row]:
            one, other = (names[int(labels[each])] for each in (known, row))
            raise DataError(
                f"{name} says both {one!r} and {other!r} of {path}: leave one row a file, with the "
                "class that it is to be"
            )
    if len(first) < len(paths):
        worst, count = Counter(paths).most_common(1)[0]
        log.warning(
            "%d rows of %s repeat others, as %d of %s: left out",
            *(len(paths) - len(first), name, count, worst),
        )
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))
