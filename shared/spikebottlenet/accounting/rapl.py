"""Joules that the processor itself counted, where it does: RAPL by Linux's powercap files.

Intel's and AMD's processors have the same driver and files, one folder a domain:

    /sys/class/powercap/intel-rapl:0/name                   "package-0"
    /sys/class/powercap/intel-rapl:0/energy_uj              grows, then starts at 0 again
    /sys/class/powercap/intel-rapl:0/max_energy_range_uj    the last value before that
    /sys/class/powercap/intel-rapl:0:0/...                  a part of it ("core", "dram")

Source: kernel documentation, power/powercap/powercap.rst. A package's count holds its parts' but
for its memory's ("dram"), and the whole machine's: other processes, and what is idle. It is shown
beside an estimate, never added to one.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from spikebottlenet.errors import ConfigError

POWERCAP = Path("/sys/class/powercap")
_SAMPLE_S = 60.0  # a package of 262 kJ range wraps in 15 minutes at 290 W
_UJ_PER_J = 1e6


class Domain(NamedTuple):
    """One counter."""

    name: str
    folder: Path
    range_uj: int  # the largest value


class Joules(NamedTuple):
    """What was counted, by domain; none, and why, where there is no counter."""

    by_domain: Mapping[str, float]
    absent: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"joules": dict(self.by_domain), "absent": self.absent, "method": "RAPL"}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The same from plain values."""
        return cls(values["joules"], values["absent"])

    def sentence(self, images: int) -> str:
        """For a person; domains hold one another, so nothing is summed."""
        if self.absent:
            return f"measured: nothing, {self.absent}"
        found = ", ".join(
            f"{name} {joules:.3f} J ({1e3 * joules / max(images, 1):.3f} mJ an image)"
            for name, joules in self.by_domain.items()
        )
        return f"measured by RAPL, the whole machine with all that ran on it: {found}"


def grown_uj(before: int, now: int, range_uj: int) -> int:
    """How far a counter went, at most one start at 0 between."""
    return now - before if now >= before else now - before + range_uj + 1


def find_domains(root: Path = POWERCAP) -> list[Domain]:
    """Every RAPL domain, packages first; none where there is no RAPL.

    Raises:
        ConfigError: there are counters, and this user may not read them.
    """
    found: list[Domain] = []
    for folder in sorted(root.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text().strip()
            range_uj = int((folder / "max_energy_range_uj").read_text())
        except (OSError, ValueError):
            continue  # a domain without a counter, or gone
        parent = folder.name.split(":")[1]
        parts = len(folder.name.split(":")) > 2
        _read(folder)
        found.append(Domain(f"package-{parent}.{name}" if parts else name, folder, range_uj))
    return found


def _read(folder: Path) -> int:
    path = folder / "energy_uj"
    try:
        return int(path.read_text())
    except PermissionError as error:
        raise ConfigError(
            f"found {path}, which this user may not read: run as root, or let a trusted group read "
            f"it ('chgrp GROUP {path} && chmod g+r {path}'), or leave --measure out"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path} ({error}): leave --measure out") from error


@dataclass
class Meter:
    """Sums of counters since it was made; ``sample`` has to come more often than they wrap."""

    domains: list[Domain]
    _last: dict[str, int] = field(default_factory=dict)
    _sum_uj: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.sample()

    def sample(self) -> None:
        """Take up what every counter went since the last time."""
        with self._lock:
            for domain in self.domains:
                now = _read(domain.folder)
                before = self._last.get(domain.name, now)
                grown = grown_uj(before, now, domain.range_uj)
                self._sum_uj[domain.name] = self._sum_uj.get(domain.name, 0) + grown
                self._last[domain.name] = now

    def read(self) -> Joules:
        """All until now."""
        if not self.domains:
            return Joules({}, f"this machine shows no RAPL counters under {POWERCAP}")
        self.sample()
        return Joules({name: total / _UJ_PER_J for name, total in self._sum_uj.items()})


@contextmanager
def metering(root: Path = POWERCAP, *, sample_s: float = _SAMPLE_S) -> Iterator[Meter]:
    """A meter that a thread samples while the block runs.

    Raises:
        ConfigError: there are counters, and this user may not read them.
    """
    meter = Meter(find_domains(root))
    ended = threading.Event()

    def keep_sampling() -> None:
        while not ended.wait(sample_s):
            meter.sample()

    thread = threading.Thread(target=keep_sampling, name="rapl", daemon=True)
    if meter.domains:
        thread.start()
    try:
        yield meter
    finally:
        ended.set()
        if meter.domains:
            thread.join()
