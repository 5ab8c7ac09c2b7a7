"""Data sets that ``datasets`` opens: a public name, or a folder of parquet files and the like.

Columns are found by their types and usual names, or are named by the settings.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from spikebottlenet.errors import DataError
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.data_rows import Labels, Rows, nearest

log = logging.getLogger(__name__)

LABEL_COLUMNS = ("fine_label", "label", "labels", "class", "category", "target")
_IMAGE_COLUMNS = ("img", "image", "jpg", "png", "photo", "picture")


def open_tables(name: str, subset: str | None) -> dict[str, Any]:
    """Every split of a data set, by its name.

    Raises:
        DataError: it cannot be found or read.
    """
    local = Path(name).expanduser()
    if name.startswith(("/", ".", "~")) and not local.exists():
        raise DataError(f"no {name!r} here: give a public data set name or a folder of its files")
    try:
        if (local / "dataset_dict.json").exists():
            return dict(datasets.load_from_disk(str(local)))
        return dict(datasets.load_dataset(str(local) if local.exists() else name, name=subset))
    except Exception as error:  # the library and what it calls raise almost anything
        raise DataError(
            f"cannot load {name!r}: {error}; give a public data set name or a folder of its files"
        ) from error


def table_rows(
    table: Any, settings: DataSettings, *, name: str, class_names: tuple[str, ...] | None
) -> Rows:
    """Rows of one split; ``class_names`` are those of the training split, or None to find them.

    Raises:
        DataError: no such column, or a label that cannot be one.
    """
    images = _image_column(table, settings.image_column, name)
    label = label_column(table, settings.label_column, images, name)
    labels, names = table_labels(table, label, class_names, name)
    files = table.select_columns([images]).cast_column(images, datasets.Image(decode=False))

    def read(rows: Sequence[int]) -> list[bytes | OSError]:
        return [_file(cell) for cell in files[list(rows)][images]]

    return Rows(
        name=name,
        class_names=names,
        labels=labels,
        read=read,
        row_name=lambda row: _row_name(files[row][images], row),
        content=f"{table._fingerprint}:{images}:{label}{_files_state(files, images)}",
    )


def _files_state(files: Any, column: str) -> str:
    """Digest of size and time of change of each file that a table names; empty where it has none.

    The library's fingerprint is of the paths alone.
    """
    digest, named = hashlib.sha256(), False
    for path in _named_files(files, column):
        named = True
        digest.update(f"{os.path.abspath(path)}\0".encode())  # noqa: PTH100  # a million of them
        try:
            about = os.stat(path)  # noqa: PTH116
            digest.update(f"{about.st_size}\0{about.st_mtime_ns}\n".encode())
        except OSError:  # reading it says so
            digest.update(b"not there\n")
    return f":{digest.hexdigest()}" if named else ""


def _named_files(files: Any, column: str) -> Iterator[str]:
    """Paths of the images whose bytes are not in the table."""
    for chunk in files.data.column(column).chunks:
        outside = chunk.field("bytes").is_null()
        yield from (path for path in chunk.field("path").filter(outside).to_pylist() if path)


def _file(cell: "dict[str, Any] | None") -> bytes | OSError:
    if cell is None:
        return OSError("there is no image in this row")
    if cell["bytes"] is not None:
        return bytes(cell["bytes"])
    try:
        return Path(cell["path"]).read_bytes()
    except OSError as error:
        return error


def _row_name(cell: "dict[str, Any] | None", row: int) -> str:
    path = cell["path"] if cell else None
    return f"row {row} ({path})" if path else f"row {row}"


def named_column(table: Any, wanted: str, what: str, name: str) -> str:
    """The column of that name.

    Raises:
        DataError: there is none; names the nearest.
    """
    if wanted not in table.column_names:
        raise DataError(
            f"{name} has no {what} column {wanted!r}: {nearest(wanted, table.column_names)}"
        )
    return wanted


def _image_column(table: Any, wanted: str | None, name: str) -> str:
    if wanted is not None:
        chosen = named_column(table, wanted, "image", name)
        if not _may_be_image(table.features[chosen]):
            raise DataError(
                f"column {chosen!r} of {name} holds {table.features[chosen]}, wanted images "
                "(bytes of image files, or their paths)"
            )
        return chosen
    images = [c for c, kind in table.features.items() if isinstance(kind, datasets.Image)]
    usual = [c for c in _IMAGE_COLUMNS if c in (images or table.column_names)]
    usual = [c for c in usual if _may_be_image(table.features[c])]
    found = images if len(images) == 1 else usual
    if not found:
        raise DataError(
            f"no image column among {', '.join(table.column_names)} of {name}: name it as "
            "data.image_column (--image-column)"
        )
    return str(found[0])


def _may_be_image(kind: Any) -> bool:
    if isinstance(kind, datasets.Image):
        return True
    if isinstance(kind, datasets.Value):
        return kind.dtype in ("binary", "large_binary", "string", "large_string")
    return isinstance(kind, dict) and set(kind) == {"bytes", "path"}


def label_column(table: Any, wanted: str | None, images: str, name: str) -> str:
    """The column of labels: the one that is wanted, or found by its type and name.

    Raises:
        DataError: there is none.
    """
    if wanted is not None:
        return named_column(table, wanted, "label", name)
    named = [c for c, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)]
    found = [c for c in LABEL_COLUMNS if c in (named or table.column_names)] or named
    found = [c for c in found if c != images]
    if not found:
        raise DataError(
            f"no label column among {', '.join(table.column_names)} of {name}: name it as "
            "data.label_column (--label-column)"
        )
    return str(found[0])


def table_labels(
    table: Any, column: str, known: tuple[str, ...] | None, name: str
) -> tuple[Labels, tuple[str, ...]]:
    """Labels [N] and class names, by ``known`` where the training split has settled them.

    Raises:
        DataError: a row without a label, or with one that training lacks.
    """
    kind = table.features[column]
    values = table[column][:]
    missing = sum(value is None for value in values)
    if known is not None and missing == len(values):
        return np.full(len(values), -1, dtype=np.int64), known  # a test split of a contest
    if missing:
        raise DataError(f"{missing} rows of {name} have no {column!r}: fill them in or drop them")
    if isinstance(kind, datasets.ClassLabel):
        labels = np.asarray(values, dtype=np.int64)
        if known is None or known == tuple(kind.names):
            return labels, tuple(kind.names)
        return _by_name(labels, tuple(kind.names), known, name), known
    values = _texts_or_whole(values, kind, f"label column {column!r} of {name}")
    names = known or tuple(str(value) for value in sorted(set(values), key=_number_first))
    order = {value: index for index, value in enumerate(names)}
    _refuse_unknown(sorted({str(value) for value in values} - order.keys()), name)
    return np.asarray([order[str(value)] for value in values], dtype=np.int64), names


def _texts_or_whole(values: list[Any], kind: Any, about: str) -> list[Any]:
    """Labels as texts, whole numbers or truths; 3.0 is 3, as tables with gaps write it."""
    if isinstance(kind, datasets.Value):
        if kind.dtype.startswith(("int", "uint", "string", "large_string", "bool")):
            return values
        if kind.dtype.startswith("float") and all(float(value).is_integer() for value in values):
            return [int(value) for value in values]
    raise DataError(
        f"{about} holds {kind}, wanted whole numbers or texts: name another as "
        "data.label_column (--label-column)"
    )


def _number_first(value: object) -> tuple[float, str]:
    """Key that has 9 before 10 also where both are texts."""
    text = str(value)
    return (int(text) if text.removeprefix("-").isdecimal() else float("inf"), text)


def _by_name(labels: Labels, names: tuple[str, ...], known: tuple[str, ...], name: str) -> Labels:
    """Labels by the training split's order of classes; -1, no label, stays so."""
    order = {each: index for index, each in enumerate(known)}
    used = sorted(set(labels[labels >= 0].tolist()))
    _refuse_unknown([names[label] for label in used if names[label] not in order], name)
    if len(order) < len(known) or len(set(names)) < len(names):
        raise DataError(
            f"{name} has its classes in another order than the training split, and several of one "
            "name: give each class a name of its own"
        )
    log.warning("%s has its classes in another order than the training split: by name", name)
    table = np.asarray([*(order.get(each, -1) for each in names), -1], dtype=np.int64)
    return table[labels]


def _refuse_unknown(labels: Sequence[str], name: str) -> None:
    if labels:
        raise DataError(
            f"{name} has labels that the training split lacks: {', '.join(labels[:10])}: add "
            "images of them there, or drop these"
        )
