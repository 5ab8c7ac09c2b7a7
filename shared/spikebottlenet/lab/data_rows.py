"""Images of one split before they are decoded: how to read each, its label and its name."""

import difflib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Read = Callable[[Sequence[int]], "list[bytes | OSError]"]


@dataclass(frozen=True)
class Rows:
    """Files of images, in the order of the data set; ``read`` may be called from any thread."""

    name: str  # for messages: data set and split
    class_names: tuple[str, ...]
    labels: Labels  # [N]
    read: Read  # whole files by row, or why one cannot be read
    row_name: Callable[[int], str]  # for messages: a path, or a row's number
    content: str  # tells this content from another, hexadecimal

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Labels, *, name: str) -> "Rows":
        """These rows alone."""
        chosen = indices.astype(np.int64)
        digest = hashlib.sha256(self.content.encode() + chosen.tobytes()).hexdigest()
        return Rows(
            name=name,
            class_names=self.class_names,
            labels=self.labels[chosen],
            read=lambda rows: self.read([int(chosen[row]) for row in rows]),
            row_name=lambda row: self.row_name(int(chosen[row])),
            content=digest,
        )


def nearest(wanted: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known: the nearest one, and all of them if they are few."""
    names = list(known)
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return (f"did you mean {near[0]!r}? " if near else "") + f"There are: {shown or 'none'}"


def part_by_class(labels: Labels, part: float, *, seed: int) -> tuple[Labels, Labels]:
    """Rows of (rest, part): the same share of each class, by a seeded choice, in order.

    A class of two images or more has at least one on each side.
    """
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        count = int(np.clip(round(part * len(members)), min(1, len(members) - 1), len(members) - 1))
        chosen[members[:count]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
