"""What was measured of a network and of its rivals: points, kept as ``results.json`` in a run.

A point is one way of getting an answer (spikes at the cut, features at the cut, the image itself,
nothing sent at all) with one setting, measured on one split. Every point carries the log that it
came from and the command that makes it again. Torch is not imported, so reports are quick.
"""

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from spikebottlenet.config import Settings
from spikebottlenet.durable_folder import force_to_disk
from spikebottlenet.errors import ConfigError, DataError
from spikebottlenet.lab.disk import writing

RESULTS = "results.json"
RESULTS_VERSION = 1

Percent = Annotated[float, Field(ge=0, le=100)]
Amount = Annotated[float, Field(ge=0)]


class Method(StrEnum):
    """A way of getting an answer."""

    SPIKES = "spikes"  # this project: bottleneck spikes, entropy-coded
    SPIKES_WHOLE = "spikes-whole"  # the same spiking head, its features passed whole
    EDGE_SPIKING = "edge-spiking"  # spiking head and edge exit, nothing sent
    EDGE_ORDINARY = "edge-ordinary"  # the un-cut network on the edge, nothing sent
    FEATURES = "features"  # the ordinary head's features, perhaps quantised, and Zstandard
    BOTTLENETPP = "bottlenet++"  # learned encoder and decoder, 8-bit symbols
    INTEGER = "integer"  # the same behind an ordinary head of 8-bit weights and features
    IMAGE = "image"  # the image as a file, to the un-cut network


class Subject(Settings):
    """What was measured, and on what."""

    backbone: str
    width: int
    cut: str  # "layer2": after which part
    timesteps: int
    side: int  # sites of the square image
    data: str
    split: str
    images: int = Field(ge=1)
    seed: int
    config_sha256: str  # of the training config; empty where it is not known
    images_sha256: str = ""  # of the images themselves; empty where it was not taken

    def same_images(self, other: "Subject") -> bool:
        """Whether both were measured on the same images.

        Told by the images where that can be; by the data set's name where one has no digest, or
        where the sides differ, as digests are of resized pixels.
        """
        if (self.split, self.images) != (other.split, other.images):
            return False
        if self.images_sha256 and other.images_sha256 and self.side == other.side:
            return self.images_sha256 == other.images_sha256
        return self.data == other.data


class EnergyEstimate(Settings):
    """Compute energy on the edge by one named model, microjoules an image."""

    model: str
    edge_uj: Amount
    parts: dict[str, Amount] = Field(default_factory=dict)
    ordinary_head_uj: Amount | None = None  # float32, the same layers up to the cut
    ordinary_int8_head_uj: Amount | None = None


class LayerRate(Settings):
    """Firing rate of one neuron layer, spikes a site a timestep."""

    layer: str
    rate: Amount


class Prefix(Settings):
    """What the first timesteps alone give."""

    timesteps: int
    top1: Percent
    payload_bytes_mean: Amount


class Point(Settings):
    """One measured way of getting an answer; accuracies in percent, bytes of an image."""

    method: Method
    setting: str = ""  # what tells it from its kind: "8-bit + zstd", "jpeg 50"
    subject: Subject
    top1: Percent
    top5: Percent
    bits_before_coding: int = Field(ge=0)  # of all timesteps
    payload_bytes_mean: Amount  # of whole frames
    payload_bytes_p99: Amount
    wire_bytes_mean: Amount
    wire_method: str
    bit_compression: Amount | None = None  # over float32 features at the cut
    energy: tuple[EnergyEstimate, ...] = ()
    firing_rates: tuple[LayerRate, ...] = ()
    by_timesteps: tuple[Prefix, ...] = ()
    uncut_top1: Percent | None = None
    edge_exit_top1: Percent | None = None
    int8_tail_top1: Percent | None = None  # by the tail on 8-bit integers; ``top1`` is float32's
    head_bits: int | None = None  # of the head's weights
    head_bytes: int | None = None  # of the head's file
    confusion: tuple[tuple[int, int, int], ...] = ()  # (true class, answer, images), wrong ones
    chosen_on: str = ""  # where a setting was chosen: "held-out images"; empty: nothing chosen
    log: str  # file in the run's folder
    command: str  # that makes this point again

    @property
    def key(self) -> tuple[str, ...]:
        """Tells a run's points apart."""
        subject = self.subject
        images = subject.images_sha256 or subject.data
        about = (subject.cut, subject.split, str(subject.images), images)
        return (self.method.value, self.setting, *about)

    def replaces(self, older: "Point") -> bool:
        """Whether it is the same measurement again, perhaps of a time without digests of images."""
        a, b = self, older
        alike = (a.method, a.setting, a.subject.cut) == (b.method, b.setting, b.subject.cut)
        return alike and a.subject.same_images(b.subject)


class Results(Settings):
    """All points of one run."""

    version: int = RESULTS_VERSION
    class_names: tuple[str, ...]
    points: tuple[Point, ...] = ()

    def with_points(self, points: Iterable[Point]) -> "Results":
        """These results and newer points, which take the place of older ones of the same."""
        kept = list(self.points)
        for point in points:
            places = [place for place, older in enumerate(kept) if point.replaces(older)]
            if places:
                kept[places[0]] = point
                for place in reversed(places[1:]):
                    del kept[place]
            else:
                kept.append(point)
        return self.model_copy(update={"points": tuple(kept)})


def results_path(place: Path) -> Path:
    """The results file of a run's folder, which need not be there yet, or a file named itself."""
    named = place.is_file() or (place.suffix == ".json" and not place.is_dir())
    return place if named else place / RESULTS


def read_results(place: Path) -> Results:
    """Read a run's folder or its results file.

    Raises:
        DataError: none there, not readable, of another version, or damaged.
    """
    path = results_path(place)
    again = "measure again with `spikebottlenet evaluate BUNDLE --data DATA --out RUN`"
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no {RESULTS} in {place}: {again}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not a results file that can be read ({error}): {again}"
        ) from error
    version = values.get("version") if isinstance(values, dict) else None
    if isinstance(values, dict) and version != RESULTS_VERSION:
        raise DataError(
            f"{path} is version {version!r} of results, wanted {RESULTS_VERSION}: {again}"
        )
    try:
        return Results.parse(values, source=str(path))
    except ConfigError as error:
        raise DataError(f"results are damaged: {error}: {again}") from error


def add_points(place: Path, class_names: tuple[str, ...], points: Iterable[Point]) -> Path:
    """Write points into a run's results, which are begun where there are none.

    Several processes may add to one run: each waits for the other, and no point is lost.

    Raises:
        DataError: what is there cannot be read, or is of other classes.
        StoreError: it cannot be written.
    """
    path = results_path(place)
    with writing(path.name, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_suffix(".lock")):
            _replace(path, class_names, points)
    return path


def _replace(path: Path, class_names: tuple[str, ...], points: Iterable[Point]) -> None:
    before = read_results(path) if path.exists() else Results(class_names=class_names)
    if before.class_names != class_names:
        raise DataError(
            f"{path} is of {len(before.class_names)} other classes than these "
            f"{len(class_names)}: give another --out"
        )
    partial = path.with_suffix(".partial")
    kept = before.with_points(points).model_dump(mode="json", exclude_defaults=True)
    text = json.dumps({"version": RESULTS_VERSION, **kept}, ensure_ascii=False)
    partial.write_text(text + "\n", encoding="utf-8")
    force_to_disk(partial)
    partial.replace(path)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process is in this block; the kernel ends that when one dies."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
