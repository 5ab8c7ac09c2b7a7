"""Tables that lie beside files: which of them is which split, and what is in them."""

import csv
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets

from spikebottlenet.errors import DataError
from spikebottlenet.lab.data_folder import SPLIT_NAMES

log = logging.getLogger(__name__)

SPLIT_COLUMN = "split"

_BUILDERS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".parquet": "parquet"}
_SEPARATORS = ",\t;"
_SHARD = re.compile(r"(?P<name>[a-z]+)-\d+(-of-\d+)?")


def table_files(root: Path) -> list[Path]:
    """The tables of a folder, hidden ones left out."""
    found = (path for path in root.iterdir() if path.suffix.lower() in _BUILDERS)
    return sorted(path for path in found if not path.name.startswith("."))


def read_tables(root: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """A table a split: those called as splits, or the only one.

    Raises:
        DataError: a table cannot be read, or it cannot be told which one is to be.
    """
    by_split: dict[str, list[Path]] = {}
    left = list[Path]()
    for path in paths:
        stem = path.stem.lower()
        shard = _SHARD.fullmatch(stem)
        split = SPLIT_NAMES.get(shard["name"] if shard else stem)
        if split is None:
            left.append(path)
        else:
            by_split.setdefault(split, []).append(path)
    if "train" not in by_split:
        if len(paths) > 1:
            raise DataError(
                f"{root} has the tables {', '.join(path.name for path in paths)}, and none is "
                "called train: keep the one that says which class each file is, or name them "
                "after their splits"
            )
        return _parted(_read(paths), paths[0])
    if left:
        names = ", ".join(path.name for path in left)
        log.warning("%s: not read, as others are called as splits: %s", root, names)
    tables = {split: _read(of_split) for split, of_split in by_split.items()}
    return tables if len(tables) > 1 else _parted(tables["train"], by_split["train"][0])


def _read(paths: Sequence[Path]) -> Any:
    """One table of one or more files of the same kind."""
    builder, options = _BUILDERS[paths[0].suffix.lower()], dict[str, Any]()
    try:
        if builder == "csv":
            options = _csv_options(paths[0])
        files = [str(path) for path in paths]
        return datasets.load_dataset(builder, data_files=files, split="train", **options)
    except Exception as error:  # the library and what it calls raise almost anything
        raise DataError(
            f"cannot read {paths[0]}: {error.__cause__ or error}; wanted a table with a header"
        ) from error


def _csv_options(path: Path) -> dict[str, Any]:
    """Its separator, and all columns as texts: a file may be called 0001, and a class None."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
    separator = max(_SEPARATORS, key=header.count)
    columns = next(csv.reader([header], delimiter=separator))
    # A column without a name, as of row numbers, gets the one that the reader gives it.
    names = [name or f"Unnamed: {index}" for index, name in enumerate(columns)]
    return {
        "sep": separator,
        "encoding": "utf-8-sig",
        "features": datasets.Features({name: datasets.Value("string") for name in names}),
        "keep_default_na": False,
        "na_values": [""],
    }


def _parted(table: Any, path: Path) -> dict[str, Any]:
    """By a column that names splits, where there is one.

    Raises:
        DataError: it names some, and something else too.
    """
    if SPLIT_COLUMN not in table.column_names:
        return {"train": table}
    said = ["" if value is None else str(value).strip() for value in table[SPLIT_COLUMN][:]]
    values = [SPLIT_NAMES.get(value.lower()) for value in said]
    if not any(values):
        return {"train": table}  # another kind of column
    unknown = sorted({value for value, known in zip(said, values, strict=True) if known is None})
    if unknown or "train" not in values:
        found = ", ".join(repr(value) for value in unknown[:5]) or "no row of train"
        raise DataError(
            f"column {SPLIT_COLUMN!r} of {path} has {found}: wanted train, test or validation in "
            "every row, or no such column"
        )
    return {
        split: table.select([row for row, value in enumerate(values) if value == split])
        for split in sorted({str(value) for value in values})
    }
