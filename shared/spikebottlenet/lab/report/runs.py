"""Runs and their points, parted by the images that they were measured on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spikebottlenet.bundle import MANIFEST
from spikebottlenet.errors import DataError
from spikebottlenet.lab.report.manifest import manifest_results
from spikebottlenet.lab.results import (
    RESULTS,
    Method,
    Point,
    Results,
    Subject,
    read_results,
    results_path,
)


class Placed(NamedTuple):
    """A point and the run that it is of."""

    run: str
    point: Point

    @property
    def title(self) -> str:
        """As tables call it."""
        return f"{self.run}: {self.point.method.value}, {self.point.setting}"


class Images(NamedTuple):
    """Which images: points of others are never put side by side."""

    data: str
    split: str
    images: int
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """All points measured on the same images."""

    images: Images
    placed: tuple[Placed, ...]

    def of(self, *methods: Method) -> tuple[Placed, ...]:
        """Its points of some methods."""
        return tuple(each for each in self.placed if each.point.method in methods)

    def beside(self, own: Placed, *methods: Method) -> tuple[Placed, ...]:
        """Points of the same network at the same cut: of the same run, or else of another's."""
        there = [each for each in self.of(*methods) if same_cut(each.point, own.point)]
        return tuple([each for each in there if each.run == own.run] or there)


def same_cut(one: Point, other: Point) -> bool:
    """Whether two points are of one network cut at one place."""
    return same_network(one, other) and one.subject.cut == other.subject.cut


def same_network(one: Point, other: Point) -> bool:
    """Whether two points are of one kind of network."""
    a, b = one.subject, other.subject
    return (a.backbone, a.width, a.side) == (b.backbone, b.width, b.side)


def read_groups(places: Sequence[Path]) -> tuple[Group, ...]:
    """Read every run's results; groups come in the order of their first point.

    Raises:
        DataError: no runs, a run without results or with damaged ones, or one named twice.
    """
    if not places:
        raise DataError("no runs to report: give folders that hold a results.json")
    names = run_names(places)
    found: list[tuple[Images, list[Placed]]] = []
    for name, place in zip(names, places, strict=True):
        results = results_of(place)
        if not results.points:
            raise DataError(f"{results_path(place)} holds no point: evaluate the run first")
        for point in results.points:
            subject = point.subject
            images = Images(subject.data, subject.split, subject.images, results.class_names)
            others = [placed for about, placed in found if about.class_names == images.class_names]
            there = _of_the_same_images(subject, others)
            if there is None:
                found.append((images, [Placed(name, point)]))
            else:
                there.append(Placed(name, point))
    titles = [images[:3] for images, _ in found]
    return tuple(
        Group(
            images if titles.count(images[:3]) == 1 else _told_apart(images, placed), tuple(placed)
        )
        for images, placed in found
    )


def _told_apart(images: Images, placed: Sequence[Placed]) -> Images:
    """With the beginning of the images' digest, where others bear the same name."""
    digests = [each.point.subject.images_sha256[:8] for each in placed]
    digest = next((each for each in digests if each), "no digest")
    return images._replace(data=f"{images.data} ({digest})")


def _of_the_same_images(subject: Subject, found: list[list[Placed]]) -> list[Placed] | None:
    """The points that one belongs to: one of them has its digest, or none speaks against it."""
    for fits in (_any_has_its_digest, _all_agree):
        there = next((placed for placed in found if fits(subject, placed)), None)
        if there is not None:
            return there
    return None


def _any_has_its_digest(subject: Subject, placed: Sequence[Placed]) -> bool:
    digest = subject.images_sha256
    return bool(digest) and any(
        each.point.subject.images_sha256 == digest and each.point.subject.same_images(subject)
        for each in placed
    )


def _all_agree(subject: Subject, placed: Sequence[Placed]) -> bool:
    return all(each.point.subject.same_images(subject) for each in placed)


def results_of(place: Path) -> Results:
    """A run's results; of a bundle by itself, what its manifest says."""
    if (place / MANIFEST).is_file() and not (place / RESULTS).exists():
        return manifest_results(place)
    return read_results(place)


def run_names(places: Iterable[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart.

    Raises:
        DataError: one is given twice.
    """
    parts = [place.resolve().parts for place in places]
    twice = next((each for each in parts if parts.count(each) > 1), None)
    if twice is not None:
        raise DataError(f"{Path(*twice)} is given twice: give each run once")
    length = 1
    while len({each[-length:] for each in parts}) < len(parts):
        length += 1
    return ["/".join(each[-length:]) for each in parts]
