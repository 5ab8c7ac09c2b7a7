"""What a part of the bench gives: claims, tables and notes, plain enough for JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from spikebottlenet.bench.measuring import Spread, ratios, spread

Cell = str | float | int | None

# Every claim that a whole run makes; a report names those that it did not come to.
CLAIMS = (
    "codec.payload_to_model",
    "codec.payload_to_prior",
    "codec.time_to_head",
    "edge.pipeline_to_bare_head",
    "edge.rate_to_torch_eager",
    "edge.start_to_ready",
    "edge.resident",
    "cloud.served_to_bare_tail",
    "cloud.p99_to_batch",
    "link.overhead_to_echo",
    "link.overhead_to_relayed_echo",
    "overload.p99_accepted",
    "overload.refused_at_once",
    "overload.goodput",
    "peers.bytes_jpeg_up",
    "peers.bytes_jpeg_optimised_up",
    "peers.bytes_png_up",
    "peers.bytes_webp_up",
    "peers.bytes_jpeg_both",
    "peers.bytes_jpeg_optimised_both",
    "peers.bytes_png_both",
    "peers.bytes_webp_both",
    "peers.rate_per_core",
)


class Bound(StrEnum):
    """Which way a ratio is wanted."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True)
class Claim:
    """A figure against its reference, and what is wanted of their ratio."""

    name: str  # part and figure: "codec.payload_to_prior"
    says: str  # in words
    unit: str  # of value and reference
    value: float
    reference: float
    reference_is: str
    ratio: Spread  # of value / reference over the repeats
    bound: Bound
    wanted: float

    @property
    def holds(self) -> bool:
        """Whether the median ratio keeps the bound; one that is no number never does."""
        if self.bound is Bound.AT_MOST:
            return self.ratio.median <= self.wanted
        return self.ratio.median >= self.wanted

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "says": self.says,
            "unit": self.unit,
            "value": finite(self.value),
            "reference": finite(self.reference),
            "reference_is": self.reference_is,
            "ratio": finite(self.ratio.median),
            "spread": {
                "first_quartile": finite(self.ratio.low),
                "third_quartile": finite(self.ratio.high),
                "repeats": self.ratio.repeats,
            },
            "bound": self.bound.value,
            "wanted": self.wanted,
            "holds": self.holds,
        }


@dataclass(frozen=True)
class Table:
    """Figures side by side."""

    key: str  # what plots find it by
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values, a row as a mapping by its columns."""
        plain = [[finite(c) if isinstance(c, float) else c for c in row] for row in self.rows]
        rows = [dict(zip(self.columns, row, strict=True)) for row in plain]
        return {"key": self.key, "title": self.title, "rows": rows, "note": self.note}

    def column(self, name: str) -> list[Cell]:
        """One column."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


@dataclass(frozen=True)
class Part:
    """All that one part of the bench found."""

    name: str
    claims: tuple[Claim, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0  # that measuring took
    failed: bool = False  # notes say why


def claim(
    name: str,
    says: str,
    bound: Bound,
    wanted: float,
    *,
    unit: str,
    values: Sequence[float],
    references: Sequence[float],
    reference_is: str,
    paired: bool = True,
) -> Claim:
    """A claim from repeats: the ratio within each round, or of the medians if not ``paired``.

    What was not measured, or has no reference, is NaN: then the claim is, and does not hold.
    """
    value, reference = spread(values), spread(references)
    if paired:
        of_ratio = spread(ratios(values, references))
    else:
        of_ratio = value.scaled(ratios([1.0], [reference.median])[0])
    return Claim(
        name, says, unit, value.median, reference.median, reference_is, of_ratio, bound, wanted
    )


def limit_claim(name: str, says: str, limit: float, *, unit: str, values: Sequence[float]) -> Claim:
    """A claim against a stated limit: the reference is the limit itself."""
    return claim(
        name,
        says,
        Bound.AT_MOST,
        1.0,
        unit=unit,
        values=values,
        references=[limit],
        reference_is="the limit that is wanted",
        paired=False,
    )


def fixed(value: float | None, digits: int = 2) -> str:
    """A number for a table: so many digits, ``-`` for none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def finite(value: float) -> float | None:
    """A number that JSON can hold; None for what could not be measured."""
    return value if math.isfinite(value) else None
