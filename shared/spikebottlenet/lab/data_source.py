"""Which images a split means: ``train`` and ``test`` of any data set, named so or parted."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from spikebottlenet.errors import DataError
from spikebottlenet.lab.config import DataSettings
from spikebottlenet.lab.data_folder import IMAGE_SUFFIXES, ClassFolders, find_class_folders
from spikebottlenet.lab.data_listing import find_listing
from spikebottlenet.lab.data_rows import Rows, nearest, part_by_class
from spikebottlenet.lab.data_table import open_tables, table_rows
from spikebottlenet.recording_names import RECORDING_SUFFIXES

log = logging.getLogger(__name__)

TRAIN, TEST = "train", "test"
_TEST_NAMES = ("test", "validation", "valid", "val")  # ImageNet's test split has no labels


@dataclass(frozen=True)
class Source:
    """A data set whose splits are known and not yet read."""

    name: str
    splits: tuple[str, ...]
    open_split: Callable[[str], Rows]
    settings: DataSettings

    def rows(self, split: str) -> Rows:
        """Rows of ``train``, ``test`` or a split by its own name.

        Where there is no test split, the same seeded part of each class's training images is it.

        Raises:
            DataError: no such split.
        """
        if split not in (TRAIN, TEST):
            return self.open_split(self._known(split, split, (TRAIN, TEST)))
        tested = self._test()
        if tested is not None:
            return tested if split == TEST else self._train()
        rest, part = self._parted()
        return part if split == TEST else rest

    def _known(self, name: str, split: str, known: tuple[str, ...] = ()) -> str:
        if name not in self.splits:
            raise DataError(
                f"cannot load split {split!r} of {self.name!r}: no split {name!r}; "
                f"{nearest(name, dict.fromkeys((*self.splits, *known)))}"
            )
        return name

    def _train_name(self) -> str:
        if self.settings.train_split is not None:
            return self._known(self.settings.train_split, TRAIN)
        if TRAIN not in self.splits and len(self.splits) == 1:
            return self.splits[0]
        return self._known(TRAIN, TRAIN)

    def _train(self) -> Rows:
        return self.open_split(self._train_name())

    def _test_names(self) -> list[str]:
        wanted = self.settings.test_split
        if wanted is None:
            only = self._train_name() if len(self.splits) == 1 else self.settings.train_split
            return [name for name in _TEST_NAMES if name in self.splits and name != only]
        if wanted == self._train_name():
            raise DataError(
                f"test split {wanted!r} of {self.name!r} is its training split: name another, or "
                "leave data.test_split out and a part is kept for testing"
            )
        return [self._known(wanted, TEST)]

    def _test(self) -> Rows | None:
        for name in self._test_names():
            rows = self.open_split(name)
            if len(rows) and rows.labels.min() >= 0:
                return rows
            log.warning("split %r of %s has no labels: another is the test split", name, self.name)
        return None

    def _parted(self) -> tuple[Rows, Rows]:
        train = self._train()
        part, seed = self.settings.test_part, self.settings.seed
        rest, tested = part_by_class(train.labels, part, seed=seed)
        _say_parted(self.name, len(tested), len(train), part, seed)
        return (
            train.take(rest, name=f"{train.name}, without its test part"),
            train.take(tested, name=f"test part of {train.name}"),
        )


@cache  # once is enough
def _say_parted(name: str, tested: int, whole: int, part: float, seed: int) -> None:
    log.warning(
        "%s has no test split: %d of its %d rows, the same on every run, are the test split "
        "(data.test_part %g, data.seed %d)",
        *(name, tested, whole, part, seed),
    )


def open_source(name: str, settings: DataSettings, *, recordings: bool = False) -> Source:
    """Find a data set's splits; of an event camera's recordings where those are wanted.

    Raises:
        DataError: it cannot be found, or is not of images (or recordings) in classes.
    """
    if not name:
        raise DataError("no data set is named: give --data, a public name or a folder")
    suffixes = RECORDING_SUFFIXES if recordings else IMAGE_SUFFIXES
    local = Path(name).expanduser()
    listing = find_listing(local, suffixes, settings) if local.is_dir() else None
    if listing is not None:
        return _of_tables(name, listing.tables, partial(listing.rows, settings), settings)
    folder = _class_folders(name, recordings=recordings)
    if folder is not None:
        column = settings.image_column or settings.label_column
        if column is not None:
            raise DataError(
                f"{name!r} is a folder of files and has no column {column!r}: its classes "
                "are its folders' names; leave the column out"
            )
        return Source(name, tuple(folder.splits), folder.rows, settings)
    if recordings:
        raise DataError(
            f"no recordings in {name!r}: give a folder that holds a folder a class of "
            f"{', '.join(sorted(RECORDING_SUFFIXES))} files"
        )
    tables = open_tables(name, settings.subset)

    def open_split(split: str, class_names: tuple[str, ...] | None) -> Rows:
        about = f"split {split!r} of {name!r}"
        return table_rows(tables[split], settings, name=about, class_names=class_names)

    return _of_tables(name, tables, open_split, settings)


def _of_tables(
    name: str,
    splits: Iterable[str],
    open_split: Callable[[str, tuple[str, ...] | None], Rows],
    settings: DataSettings,
) -> Source:
    """The training split says which classes there are."""
    names = tuple(splits)
    first = settings.train_split if settings.train_split in names else TRAIN

    def by_training(split: str) -> Rows:
        known = None
        if split != first and first in names:
            known = open_split(first, None).class_names
        return open_split(split, known)

    return Source(name, names, by_training, settings)


def _class_folders(name: str, *, recordings: bool) -> ClassFolders | None:
    """The folders of a local data set, None where it is none of files.

    Raises:
        DataError: it holds recordings where images are wanted, or the other way round.
    """
    local = Path(name).expanduser()
    if not local.is_dir():
        return None
    kinds = (IMAGE_SUFFIXES, RECORDING_SUFFIXES)
    wanted, other = reversed(kinds) if recordings else kinds
    found = find_class_folders(local, wanted)
    if not _has_class_folders(local, other):
        return found
    held, asked = ("images", "recordings") if recordings else ("recordings", "images")
    if found is not None:
        log.warning("%r holds %s too: they are left out, as %s are wanted", name, held, asked)
        return found
    raise DataError(
        f"{name!r} holds {held}, and {asked} are wanted: give other data; to train on recordings "
        "take the shipped config small-events, or data.input: events"
    )


def _has_class_folders(local: Path, suffixes: frozenset[str]) -> bool:
    try:
        return find_class_folders(local, suffixes) is not None
    except DataError:  # some such files, and another kind of data set
        return False
