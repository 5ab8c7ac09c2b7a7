"""A machine's profile: what a placement's parts take there, as ``profile.json``.

Times are medians of interleaved repeats. What rests on random weights or on a model says so by
name; a plan never mixes it up with what was measured of the bundle.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from spikebottlenet.bench.measuring import spread
from spikebottlenet.config import Settings
from spikebottlenet.errors import ConfigError
from spikebottlenet.model.architecture import Architecture

FORMAT_VERSION = 1
_MAX_BYTES = 1024 * 1024

NotNegative = Field(ge=0)
_MAX_FILE_BYTES = 1e9  # more is a damaged profile
Count = Annotated[int, Field(ge=0)]


class Ms(Settings):
    """Milliseconds: the median of repeats, and their quartiles."""

    median: float = NotNegative
    low: float = NotNegative  # first quartile
    high: float = NotNegative  # third quartile
    repeats: int = Field(ge=1)

    @classmethod
    def of_seconds(cls, values: list[float]) -> "Ms":
        """From repeats in seconds."""
        found = spread(values).scaled(1e3)
        low, median, high = (round(value, 4) for value in (found.low, found.median, found.high))
        return cls(median=median, low=low, high=high, repeats=found.repeats)


class StageTime(Settings):
    """One stage of the un-cut network, one image."""

    name: str
    time: Ms


class HeadCost(Settings):
    """The spiking head up to one cut, with its encoder, one image."""

    after_stage: int
    channels: int = Field(ge=1)  # of the bottleneck
    spike_bits: int = Field(ge=1)
    weights: Literal["bundle", "random"]  # random: same architecture, never trained
    time: Ms
    macs: Count
    accumulates: float = (
        NotNegative  # bundle: counted; random: by the rates in ``EdgeSide.firing_rates``
    )


class FileCost(Settings):
    """An image as a file, resized as the network takes it."""

    name: str  # of the encoding
    bytes_mean: float = Field(gt=0, le=_MAX_FILE_BYTES)
    time: Ms  # to encode it


class EdgeSide(Settings):
    """What the edge's parts take."""

    machine: dict[str, Any]
    threads: int
    image_file: str  # what preprocess was timed on
    preprocess: Ms
    encode: Ms  # spikes of the bundle's cut to a frame
    edge_exit: Ms
    heads: tuple[HeadCost, ...]
    files: tuple[FileCost, ...]
    uncut_stages: tuple[StageTime, ...]  # on ONNX Runtime, random weights
    uncut: Ms  # all of them in one graph
    firing_rates: dict[str, float]  # of the bundle's neuron layers, spikes a site a timestep
    assumed_rate: float  # of layers that the bundle's head does not have: the mean of the above


class TailCost(Settings):
    """Decoder and tail behind one cut."""

    after_stage: int
    weights: Literal["bundle", "random"]
    time: Ms  # one image
    batch_time: Ms  # ``CloudSide.batch`` images
    macs: Count


class CloudSide(Settings):
    """What the cloud's parts take."""

    machine: dict[str, Any]
    threads: int
    batch: int
    decode: Ms  # a frame of the bundle's cut to spikes
    tails: tuple[TailCost, ...]
    uncut_stages: tuple[StageTime, ...]  # on torch, random weights
    uncut: Ms
    uncut_batch: Ms


class Loopback(Settings):
    """Real processes on this machine, over loopback, one request at a time."""

    images: int
    split: Ms  # edge-node and cloud-node: the record's total, from arrival at the edge to answer
    edge_exit: Ms  # edge-node alone: the same
    uncut: Ms  # a plain gRPC server with the un-cut network: one image file over an open stream
    uncut_file: str  # the encoding of that file
    uncut_answer_bytes: float


class Profile(Settings):
    """All that was measured of one machine with one bundle."""

    format_version: int = FORMAT_VERSION
    bundle: str  # name and short fingerprint
    fingerprint: str
    architecture: Architecture
    images: str  # which ones
    frame_bytes: float = Field(
        gt=0, le=_MAX_FILE_BYTES
    )  # mean, of these images, by the bundle's codec
    macs_uncut: Count
    edge: EdgeSide | None = None
    cloud: CloudSide | None = None
    loopback: Loopback | None = None


def write_profile(profile: Profile, path: Path) -> None:
    """Write it as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(profile.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_profile(path: Path) -> Profile:
    """Read what ``write_profile`` wrote.

    Raises:
        ConfigError: no such file, or one that is not a profile of this version.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}; make one with `spikebottlenet profile`"
        ) from error
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not JSON ({error}): make it with `spikebottlenet profile`"
        ) from error
    version = plain.get("format_version") if isinstance(plain, dict) else None
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"{path} is a profile of format {version}, this version reads {FORMAT_VERSION}: "
            "make it again with `spikebottlenet profile`"
        )
    # pydantic is stricter with Python's values than with JSON's: a list is no tuple to it.
    try:
        return Profile.model_validate_json(data)
    except ValueError:
        return Profile.parse(plain, source=str(path))  # for its message
