"""Checks of classes: enough of each to train on, and the same as a bundle's."""

import logging
from dataclasses import replace

import numpy as np

from spikebottlenet.errors import DataError
from spikebottlenet.lab.data import ImageSplit

log = logging.getLogger(__name__)
_SHOWN = 10


def check_trainable(split: ImageSplit, *, batch: int) -> None:
    """Refuse what no training could use.

    Raises:
        DataError: fewer than two classes, one without images, or fewer images than a batch.
    """
    names = split.class_names
    if len(names) < 2:
        raise DataError(
            f"one class ({', '.join(names) or 'without a name'}), wanted at least two: add the "
            "images of another"
        )
    counts = np.bincount(split.labels, minlength=len(names))
    empty = [name for name, count in zip(names, counts, strict=True) if not count]
    if empty:
        raise DataError(
            f"no image to train on of {len(empty)} of {len(names)} classes ({_listed(empty)}): add "
            "images, take the class away, or hold out fewer"
        )
    if len(split) < batch:
        raise DataError(
            f"{len(split)} images to train on are fewer than a batch of {batch}: add images, or "
            "make the batch smaller"
        )


def match_classes(split: ImageSplit, wanted: tuple[str, ...]) -> ImageSplit:
    """The same images with labels by ``wanted``'s order.

    Raises:
        DataError: the classes are others; names which are missing and which are extra.
    """
    found = split.class_names
    if found == wanted:
        return split
    missing = sorted(set(wanted) - set(found))
    extra = sorted(set(found) - set(wanted))
    if missing or extra:
        parts = [
            f"{what} {len(names)} ({_listed(names)})"
            for what, names in (("it lacks", missing), ("it has in excess", extra))
            if names
        ]
        raise DataError(
            f"data has {len(found)} classes that are not the bundle's {len(wanted)}: "
            f"{'; '.join(parts)}: evaluate on the data it was trained for"
        )
    if len(set(wanted)) != len(wanted) or len(found) != len(wanted):
        pairs = enumerate(zip(found, wanted, strict=False))
        where = next((i for i, (one, other) in pairs if one != other), 0)
        raise DataError(
            f"classes of one name in another order than the bundle's: number {where} is "
            f"{found[where]!r}, wanted {wanted[where]!r}: give each class a name of its own"
        )
    log.warning("the data's classes are in another order than the bundle's: matched by name")
    order = {name: index for index, name in enumerate(wanted)}
    table = np.asarray([order[name] for name in found], dtype=np.int64)
    return replace(split, labels=table[split.labels], class_names=wanted)


def warn_of_duplicates(train: ImageSplit, test: ImageSplit) -> int:
    """How many test images are in the training split too, pixel for pixel; said where there are."""
    if train.digests is None or test.digests is None:
        return 0
    count = int(np.isin(test.digests, train.digests).sum())
    if count:
        log.warning(
            "%d of %d test images are training images too, pixel for pixel: the accuracy will look "
            "better than it is",
            *(count, len(test)),
        )
    return count


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more
