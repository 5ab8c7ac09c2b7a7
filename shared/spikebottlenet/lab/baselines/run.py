"""All baselines of one run, by kind; the test split is read by each rival once."""

import difflib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.baselines.bottlenetpp import (
    BottleNetPP,
    Symbols,
    bottlenetpp_points,
    train_bottlenetpp,
)
from spikebottlenet.lab.baselines.edge_only import edge_only_points
from spikebottlenet.lab.baselines.features import features_points
from spikebottlenet.lab.baselines.ground import Ground
from spikebottlenet.lab.baselines.image_files import QUALITIES, image_points
from spikebottlenet.lab.baselines.integer_head import integer_points
from spikebottlenet.lab.baselines.whole import whole_point
from spikebottlenet.lab.data_classes import match_classes
from spikebottlenet.lab.data_identity import images_sha256
from spikebottlenet.lab.results import Point, add_points
from spikebottlenet.model.layers import Input

log = logging.getLogger(__name__)

LOG = "baselines.jsonl"


class Kind(StrEnum):
    """A kind of baseline, as the command names it."""

    EDGE_ONLY = "edge-only"
    FEATURES = "features"
    IMAGE = "image"
    WHOLE = "whole"
    BOTTLENETPP = "bottlenetpp"
    INTEGER = "integer"


def parse_kinds(names: str) -> tuple[Kind, ...]:
    """Kinds from their names with commas between; all of them from an empty text.

    Raises:
        ConfigError: names the nearest known one.
    """
    kinds = list[Kind]()
    for name in (part.strip() for part in names.split(",") if part.strip()):
        if name not in list(Kind):
            near = difflib.get_close_matches(name, list(Kind), n=1, cutoff=0.3)
            hint = f"did you mean {str(near[0])!r}?" if near else f"known: {', '.join(Kind)}"
            raise ConfigError(f"unknown kind of baseline {name!r}: {hint}")
        kinds.append(Kind(name))
    return tuple(kinds) or tuple(Kind)


@dataclass(frozen=True)
class Choice:
    """Which baselines, with which settings."""

    kinds: tuple[Kind, ...] = tuple(Kind)
    symbols: tuple[Symbols, ...] = ()  # of BottleNet++; empty: as many bits as the spikes have
    qualities: tuple[int, ...] = QUALITIES
    threads: int = 1


def equal_bits(ground: Ground) -> Symbols:
    """BottleNet++ with the cut network's bits before coding, or the nearest above that can be."""
    own = ground.architecture
    bits = own.spike_shape.bits
    side = own.cut_side
    shrink = side % 2 == 0 and side > 1 and bits < 8 * side**2
    sites = (side // 2) ** 2 if shrink else side**2
    return Symbols(max(1, -(-bits // (8 * sites))), shrink)


def run_baselines(ground: Ground, choice: Choice, *, command: str) -> Iterator[Point]:
    """Measure every chosen baseline; each point is kept in the run's results as it comes."""
    ground = _identified(ground)
    for point in _points(ground, choice, command):
        add_points(ground.run, ground.bundle.manifest.class_names, [point])
        line = {
            "at": round(time.time()),
            "method": point.method.value,
            "setting": point.setting,
            "split": point.subject.split,
            "images": point.subject.images,
            "top1": point.top1,
            "payload_bytes_mean": point.payload_bytes_mean,
        }
        with (ground.run / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        yield point


def _identified(ground: Ground) -> Ground:
    """The same, its subject with the digest of the images."""
    test = match_classes(ground.test, ground.bundle.manifest.class_names)
    subject = ground.subject.model_copy(update={"images_sha256": images_sha256(test)})
    return replace(ground, subject=subject)


def _points(ground: Ground, choice: Choice, command: str) -> Iterator[Point]:
    if Kind.EDGE_ONLY in choice.kinds:
        yield from edge_only_points(ground, log=LOG, command=command)
    if Kind.FEATURES in choice.kinds:
        yield from features_points(ground, log=LOG, command=command)
    events = ground.architecture.input is Input.EVENTS
    if Kind.IMAGE in choice.kinds and events:
        log.warning("image files are left out: the run is of event frames")
    elif Kind.IMAGE in choice.kinds:
        yield from image_points(
            ground, qualities=choice.qualities, log=LOG, command=command, threads=choice.threads
        )
    if Kind.WHOLE in choice.kinds:
        yield whole_point(ground, command=command)
    if {Kind.BOTTLENETPP, Kind.INTEGER}.isdisjoint(choice.kinds):
        return
    trained = _trained(ground, choice.symbols or (equal_bits(ground),))
    if Kind.BOTTLENETPP in choice.kinds:
        yield from bottlenetpp_points(ground, trained, command=command)
    if Kind.INTEGER in choice.kinds:
        yield from integer_points(ground, trained, command=command)


def _trained(ground: Ground, symbols: Sequence[Symbols]) -> list[tuple[Symbols, BottleNetPP]]:
    return [(each, train_bottlenetpp(ground, each)) for each in symbols]
