"""Inputs to start a corpus from: small valid ones of every kind."""

import io
import random
from collections.abc import Iterator

import numpy as np
import yaml
from PIL import Image, features
from safetensors.numpy import save

from spikebottlenet.bundle import Half, default_bundle, open_bundle
from spikebottlenet.codec.frame import CRC_BYTES, bind_frame
from spikebottlenet.model.shape import SpikeShape
from spikebottlenet.rpc.checks import frame_context, with_check
from spikebottlenet.rpc.v1.coinference_pb2 import InferRequest, Open, StreamRequest
from tests.context_models import random_tables

_SCHEMES = ("dense", "zstd", "sparse", "entropy", "context")


def seeds(name: str) -> list[bytes]:
    """Valid inputs of a target."""
    makers = {
        "frame": _frames,
        "envelope": _envelopes,
        "manifest": _manifests,
        "weights": _weights,
        "image": _images,
    }
    return list(makers[name]())


def _spikes(density: float, timesteps: int) -> np.ndarray:
    shape = open_bundle(default_bundle(), Half.CLOUD).manifest.architecture.spike_shape
    drawn = np.random.default_rng(0).random((timesteps, *tuple(shape)[1:]))
    return (drawn < density).astype(np.uint8)


def _coded() -> Iterator[bytes]:
    codec = open_bundle(default_bundle(), Half.CLOUD).codec()
    for scheme in _SCHEMES:
        for density in (0.0, 0.02, 0.3, 1.0):
            yield codec.encode_spikes(_spikes(density, 2), scheme=scheme)
            yield codec.encode_spikes(_spikes(density, 1), first_timestep=1, scheme=scheme)


def _frames() -> Iterator[bytes]:
    for frame in _coded():
        yield b"\0" + frame[:-CRC_BYTES]
        yield b"\0" + frame
    draw = random.Random(0)
    for mode in range(10):
        yield bytes([mode << 1 | 1]) + draw.randbytes(64)
        yield bytes([mode << 1 | 1]) + bytes(30) + b"\x10" + bytes(33)


def _envelopes() -> Iterator[bytes]:
    codec = open_bundle(default_bundle(), Half.CLOUD).codec()
    halves = [
        codec.encode_spikes(_spikes(0.1, 1), first_timestep=t, scheme="sparse") for t in (0, 1)
    ]
    fingerprint, stream_id = bytes(range(32)), bytes(range(16))
    for frames in ([codec.encode_spikes(_spikes(0.1, 2))], halves, halves[::-1], []):
        body = InferRequest(fingerprint=fingerprint, frames=frames).SerializeToString()
        yield b"\0" + body
        yield b"\2" + body
    for checked in (False, True):
        opening = Open(fingerprint=fingerprint, stream_id=stream_id, checked=checked, ordered=True)
        messages = [StreamRequest(open=with_check(opening, stream_id))]
        for index, frame in enumerate(halves):
            more = index == 0
            context = frame_context(stream_id, 7, more=more) if checked else b""
            bound = bind_frame(frame, context)
            messages.append(StreamRequest(sequence=7, frame=bound, more=more, deadline_ms=500))
        packed = [message.SerializeToString() for message in messages]
        body = b"".join(len(one).to_bytes(2, "little") + one for one in packed)
        yield b"\1" + body
        yield b"\3" + body


def _manifests() -> Iterator[bytes]:
    manifest = open_bundle(default_bundle(), Half.EDGE).manifest
    plain = manifest.model_dump(mode="json")
    architecture = plain["architecture"] | {"classes": 2}
    operations = plain["operations"] | {"head_layers": plain["operations"]["head_layers"][:1]}
    files = {name: plain["files"][name] for name in manifest.files_of(Half.EDGE)}
    small = plain | {"architecture": architecture, "class_names": ["a", "b"]}
    small |= {"operations": operations, "files": files}
    yield yaml.safe_dump(small, sort_keys=False).encode()
    small["measured"] = None
    yield yaml.safe_dump(small, sort_keys=False, default_flow_style=True).encode()
    yield b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    yield b"- ? {a: 1, 'b': \"\\u00e9\"}\n  : !!binary aGVq\n- |\n  x\n- 2026-11-25 10:00:00.5Z\n"
    yield b"{1: 0x1f, 2: 1_000, 3: 190:20:30, 4: -.inf, 5: ~, 6: no, <<: {a: b}}\n"


def _weights() -> Iterator[bytes]:
    for array in (
        np.full((2, 1, 1, 1), 9000, np.uint16),
        np.full((2, 1, 1, 1), 9000, np.int16),
        np.full((2, 1, 1), 7, np.uint16),
        np.zeros((2, 1, 1, 1), np.float64),
    ):
        file = io.BytesIO()
        np.save(file, array)
        yield b"\0" + file.getvalue()
    for spoilt in (None, "weights", "bias", "table"):
        tables = random_tables(SpikeShape(2, 1, 1, 1), 0)._asdict()
        tables["table"] = np.array([1, 32_768, 65_535], np.uint16)
        if spoilt:
            tables[spoilt] = tables[spoilt][:-1]
        yield b"\2" + save(tables)
    ones = {"hidden.weight": (2, 2), "hidden.bias": (2,), "out.weight": (2, 2), "out.bias": (2,)}
    for kind in (np.float32, np.float16, np.int64):
        yield b"\1" + save({name: np.ones(shape, kind) for name, shape in ones.items()})


def _images() -> Iterator[bytes]:
    Image.init()
    side = np.linspace(0, 255, 24).astype(np.uint8)
    red, green = np.meshgrid(side, side[:17])
    colour = Image.fromarray(np.stack([red, green, red ^ green, 255 - red], axis=2), "RGBA")
    modes = [colour.convert(mode) for mode in ("RGBA", "RGB", "L", "1", "LA", "CMYK", "P")]
    modes += [Image.fromarray(red.astype(kind)) for kind in (np.uint16, np.int32, np.float32)]
    for kind in sorted(Image.SAVE):
        if kind in ("PDF", "PALM") or (kind == "AVIF" and not features.check("avif")):
            continue
        for image in modes:
            try:
                yield _saved(image, kind)
            except (OSError, ValueError, KeyError, TypeError, SystemError, RuntimeError):
                continue  # a format that does not hold this mode
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb = colour.convert("RGB")
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        yield _saved(rgb, kind, exif=exif)
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        yield _saved(rgb, kind, save_all=True, append_images=[rgb.rotate(90)])
    yield _saved(rgb, "JPEG", progressive=True)
    yield _saved(rgb.convert("P"), "PNG", transparency=3)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield _saved(rgb, "TIFF", compression=compression)
    yield _saved(colour.convert("1"), "TIFF", compression="group4")


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
