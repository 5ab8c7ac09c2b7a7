"""A report as values: sections of tables, figures and notes, which pages are written from."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Table:
    """Rows of text; columns that hold numbers are set to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()  # columns
    note: str = ""


class Key(NamedTuple):
    """A line of a legend."""

    shape: str
    colour: int  # of the palette
    name: str


@dataclass(frozen=True)
class Figure:
    """A drawing; ``svg`` is a whole ``<svg>`` element."""

    key: str  # of its file
    title: str
    svg: str
    note: str = ""
    legend: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Notes:
    """Sentences under a heading."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Folded:
    """Blocks that a page shows on request."""

    title: str
    blocks: tuple[Table | Figure | Notes, ...]


Block = Table | Figure | Notes | Folded


@dataclass(frozen=True)
class Section:
    """What was measured on the same images."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    lines: tuple[str, ...]
    sections: tuple[Section, ...]
