"""The bundle: a trained model on disk, one manifest and two halves.

    manifest.yaml       what the model is, what was measured, SHA-256 of every other file
    head.onnx           edge: the exact spiking head
    exit.safetensors    edge: the edge exit
    prior.npy           both: uint16 [T, C, H, W], probability of a spike times 65,536
    context.safetensors both: the context model of the spikes; bundles may be without
    tail.safetensors    cloud: decoder and tail, float16
    head.safetensors    lab: the exact head's weights, the reference that head.onnx is held to

The fingerprint is the SHA-256 of the manifest as canonical JSON (sorted keys, no spaces, UTF-8), so
it covers every file. Each side checks only the files of its own half.
"""

import hashlib
import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from numpy.lib import format as npy
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

from spikebottlenet.codec.sites import Prior
from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.config import Settings, read_yaml
from spikebottlenet.errors import BundleError, ConfigError
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.backbones import Backbone
from spikebottlenet.model.layers import SIGNS
from spikebottlenet.model.shape import SpikeShape

FORMAT_VERSION = 1
MANIFEST = "manifest.yaml"
HEAD_ONNX = "head.onnx"
HEAD_WEIGHTS = "head.safetensors"
TAIL_WEIGHTS = "tail.safetensors"
EXIT_WEIGHTS = "exit.safetensors"
PRIOR = "prior.npy"
CONTEXT = "context.safetensors"
TAIL_ONNX = "tail.onnx"
_PRIOR_TYPE = np.dtype("<u2")
_MAX_NPY_HEADER_BYTES = 512  # NumPy writes 128 for four dimensions

# Of stage 1, where 64 is usual; the tail takes memory by its square: 0.6 GB, and 1.5 times that for
# ResNet-50 at half of it.
_MAX_WIDTH = 256

# A file's name goes into paths, so it is a plain name: no folder, not hidden.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Sample = Annotated[int, Field(ge=0, le=255)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Half(Enum):
    """Who opens a bundle, by the files that it needs.

    With ``CONTEXT``, where there is one, and with ``TAIL_ONNX`` where somebody could run it.
    """

    EDGE = (HEAD_ONNX, PRIOR, EXIT_WEIGHTS)
    CLOUD = (TAIL_WEIGHTS, PRIOR)
    LAB = (HEAD_ONNX, HEAD_WEIGHTS, PRIOR, EXIT_WEIGHTS, TAIL_WEIGHTS)


class EventFrames(Settings):
    """How an event camera's recording becomes frames, one a timestep (``event_frames``)."""

    width: int = Field(ge=1, le=65_536)  # sites of the camera; what lies beyond is left out
    height: int = Field(ge=1, le=65_536)
    timesteps: int = Field(ge=1, le=32)
    parts: Literal["time", "count"] = "time"  # of equal length, or of equally many events


class Preprocess(Settings):
    """What the head wants of an image, or of a recording where ``events`` says how."""

    side: int = Field(ge=8, le=4096)  # sites
    mean_colour: tuple[Sample, Sample, Sample]  # RGB; what shows through transparency
    crop: float = Field(0.875, gt=0, le=1)  # of the shorter side; 224 / 256, as is usual
    events: EventFrames | None = None

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what came later where it is none, so that old fingerprints stay."""
        values: dict[str, Any] = handler(self)
        if self.events is None:
            del values["events"]
        return values

    @property
    def taken_off(self) -> tuple[int, ...]:
        """What the head takes off each channel of a frame: nothing of counts of events."""
        return self.mean_colour if self.events is None else (0,) * SIGNS

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one input, uint8 [side, side, samples]."""
        samples = len(self.taken_off) * (1 if self.events is None else self.events.timesteps)
        return (self.side, self.side, samples)


class LayerOperations(Settings):
    """One neuron layer of the head."""

    name: str
    neurons: int  # C * H * W
    dense_accumulates: int  # accumulates of one image if every neuron fired at every timestep


class OperationCounts(Settings):
    """Operations of one image, from the layers' shapes."""

    stem_macs: int  # the spiking head's multiply-accumulates
    ann_head_macs: int  # of the same layers run as an ordinary network, encoder left out
    fixed_accumulates: int = 0  # of the spiking head, whatever fires
    tail_macs: tuple[int, ...]  # for 1 .. T timesteps received
    head_layers: tuple[LayerOperations, ...]

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what came later and is 0, so that old fingerprints stay."""
        values: dict[str, Any] = handler(self)
        if not self.fixed_accumulates:
            del values["fixed_accumulates"]
        return values


class Measured(Settings):
    """What an evaluation through the real codec gave; accuracies in percent."""

    data: str
    split: str
    date: str  # YYYY-MM-DD
    images: int
    top1: float
    top5: float
    uncut_top1: float | None
    edge_exit_top1: float
    payload_bytes_mean: float
    payload_bytes_p99: float
    firing_rate: float  # of the bottleneck, spikes a site a timestep
    edge_compute_uj: float
    ann_head_uj: float
    prior_bits_mean: float | None = None  # information of an image's spikes under the prior
    context_bits_mean: float | None = None  # under the context model; the limit of its payload
    int8_tail_top1: float | None = None  # of the same spikes by tail.onnx
    images_sha256: str = ""  # lab.data_identity's; empty where it was not taken

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what was not measured then, so that old fingerprints stay."""
        values: dict[str, Any] = handler(self)
        if self.int8_tail_top1 is None:
            del values["int8_tail_top1"]
        if not self.images_sha256:
            del values["images_sha256"]
        return values


class Manifest(Settings):
    """All that both sides have to agree on."""

    format_version: int = FORMAT_VERSION
    name: str = Field(min_length=1, max_length=100)
    architecture: Architecture
    preprocess: Preprocess
    class_names: tuple[str, ...]
    operations: OperationCounts
    measured: Measured | None = None
    files: dict[FileName, Digest]  # SHA-256, hexadecimal

    def files_of(self, half: Half) -> tuple[str, ...]:
        """The files that one half of this bundle has."""
        extra = (CONTEXT,) if half is Half.EDGE else (CONTEXT, TAIL_ONNX)
        return (*half.value, *(name for name in extra if name in self.files))

    def plain(self) -> dict[str, Any]:
        """As plain values; what was not measured then is left out, so old fingerprints stay."""
        values = self.model_dump(mode="json")
        for name in ("prior_bits_mean", "context_bits_mean"):
            if values["measured"] and values["measured"][name] is None:
                del values["measured"][name]
        return values

    def canonical_json(self) -> str:
        """What the fingerprint is taken of: sorted keys, no spaces."""
        plain = self.plain()
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of the canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; the files of the half that opened it are checked."""

    folder: Path
    manifest: Manifest

    @cached_property
    def fingerprint(self) -> str:
        """The manifest's fingerprint, hexadecimal."""
        return self.manifest.fingerprint

    @cached_property
    def model(self) -> str:
        """Name and short fingerprint, as records show it."""
        return f"{self.manifest.name}@{self.fingerprint[:12]}"

    def path(self, name: str) -> Path:
        """Where a file of the bundle lies."""
        return self.folder / name

    def codec(self) -> SpikeCodec:
        """The codec with this bundle's shape, prior and, where there is one, context model."""
        shape = self.manifest.architecture.spike_shape
        try:
            prior = _read_prior(self.path(PRIOR), shape)
            context = None
            if CONTEXT in self.manifest.files:
                # A client without extras reads manifests, and has no safetensors.
                from spikebottlenet.codec.context_file import read_context

                context = read_context(self.path(CONTEXT), shape)
            return SpikeCodec(shape, prior, context)
        except (OSError, ValueError) as error:
            raise BundleError(f"cannot use {self.path(PRIOR)}: {error}") from error


def default_bundle() -> Path:
    """The bundle that ships with the package."""
    return Path(str(resources.files("spikebottlenet"))) / "bundles" / "default"


def bundle_folder(name: str) -> Path:
    """A folder from what a user types: ``default`` or a path."""
    return default_bundle() if name == "default" else Path(name)


def bundle_folders(names: str) -> list[Path]:
    """Folders from what a user types for several bundles, with commas between them."""
    return [bundle_folder(name.strip()) for name in names.split(",") if name.strip()]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_bundle(folder: Path, half: Half) -> Bundle:
    """Read the manifest and check the files of one half.

    Raises:
        BundleError: names the file that is missing or altered, and both hashes.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"no {MANIFEST} in {folder}: give a bundle's folder, or 'default' for the shipped one"
        )
    try:
        manifest = Manifest.parse(read_yaml(path), source=str(path))
    except ConfigError as error:
        raise BundleError(f"manifest not understood: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise BundleError(
            f"{path} is format {manifest.format_version}, this version reads {FORMAT_VERSION}: "
            "install a matching version"
        )
    architecture = manifest.architecture
    if len(manifest.class_names) != architecture.classes:
        raise BundleError(
            f"{path} names {len(manifest.class_names)} classes, the network has "
            f"{architecture.classes}: export the bundle again"
        )
    most = _MAX_WIDTH // (2 if architecture.backbone is Backbone.RESNET50 else 1)
    if architecture.width > most:
        raise BundleError(f"{path} has width {architecture.width}, wanted at most {most}")
    if manifest.preprocess.side != architecture.side:
        raise BundleError(
            f"{path} makes images of side {manifest.preprocess.side}, the network takes "
            f"{architecture.side}: export the bundle again"
        )
    if manifest.preprocess.shape[-1] != architecture.samples:
        raise BundleError(
            f"{path} makes inputs of {manifest.preprocess.shape[-1]} samples a site, the network "
            f"takes {architecture.samples}: export the bundle again"
        )
    if len(manifest.operations.tail_macs) != architecture.timesteps:
        raise BundleError(
            f"{path} counts the tail's operations for {len(manifest.operations.tail_macs)} "
            f"timesteps, the network has {architecture.timesteps}: export the bundle again"
        )
    for name in manifest.files_of(half):
        _check_file(folder / name, manifest.files.get(name))
    return Bundle(folder, manifest)


def _read_prior(path: Path, shape: SpikeShape) -> Prior:
    """Read uint16 [T, C, H, W]; what the file's header claims is checked before it is believed."""
    wanted_bytes = shape.bits * _PRIOR_TYPE.itemsize
    size = path.stat().st_size
    if not wanted_bytes < size <= wanted_bytes + _MAX_NPY_HEADER_BYTES:
        raise ValueError(f"it has {size} bytes, wanted {wanted_bytes} and a header")
    file = io.BytesIO(path.read_bytes())
    try:
        version = npy.read_magic(file)
        found_shape, columns_first, found_type = npy.read_array_header_1_0(
            file, max_header_size=_MAX_NPY_HEADER_BYTES
        )
    except Exception as error:  # the header is a Python literal, and fails in as many ways
        raise ValueError(f"it is not an array of NumPy format 1.0 ({error})") from error
    found = (version, found_shape, columns_first, found_type)
    if found != ((1, 0), tuple(shape), False, _PRIOR_TYPE):
        raise ValueError(f"it holds {found_type} {found_shape}, wanted uint16 {tuple(shape)}")
    values = np.frombuffer(file.getbuffer()[file.tell() :], dtype=_PRIOR_TYPE)
    return values.astype(np.uint16).reshape(shape)


def _check_file(path: Path, wanted: str | None) -> None:
    if wanted is None:
        raise BundleError(f"manifest beside {path} lists no {path.name}: export the bundle again")
    try:
        found = file_digest(path)
    except OSError as error:
        raise BundleError(
            f"{path} is missing or unreadable ({error.strerror}), wanted SHA-256 {wanted}: "
            "copy the whole bundle again"
        ) from error
    if found != wanted:
        raise BundleError(
            f"{path} was altered: its SHA-256 is {found}, the manifest says {wanted}: "
            "copy the whole bundle again"
        )


def sealed_files(folder: Path, names: Collection[str]) -> dict[str, str]:
    """Digests of a bundle's files, by name, for its manifest; each is made readable for all."""
    for name in names:
        (folder / name).chmod(0o644)  # safetensors writes for its owner alone
    return {name: file_digest(folder / name) for name in sorted(names)}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.yaml`` of a bundle whose other files are in place."""
    plain = manifest.plain()
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
