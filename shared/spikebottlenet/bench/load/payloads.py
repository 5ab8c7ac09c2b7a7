"""What a load carries: image files, or the frames that a bundle's head makes of them."""

import json
from pathlib import Path

from spikebottlenet.bench.images import ENCODINGS, image_file, load_images
from spikebottlenet.bundle import HEAD_ONNX, Bundle
from spikebottlenet.cli.sources import find_images
from spikebottlenet.errors import DataError, ModelMismatchError
from spikebottlenet.preprocess import read_image
from spikebottlenet.runtime.onnx_head import OnnxHead

_COUNT = 200  # of photos' pieces
_INDEX, _FRAMES = "frames.json", "frames.bin"


def images_to_send(bundle: Bundle, paths: list[str]) -> tuple[bytes, ...]:
    """The bytes of these image files, or of pieces of photos as PNG."""
    if paths:
        return tuple(source.read() for source in find_images(paths))
    pixels = load_images(None, bundle.manifest.preprocess, _COUNT).pixels
    return tuple(image_file(each, ENCODINGS[0]) for each in pixels)


def frames_to_send(bundle: Bundle, recorded: Path | None, paths: list[str]) -> tuple[bytes, ...]:
    """Recorded frames, or those of these images.

    Raises:
        DataError: a folder that holds no frames.
        ModelMismatchError: frames of another bundle.
        ImageError: an image that cannot be used.
    """
    if recorded is not None:
        return _read_frames(bundle, recorded)
    codec = bundle.codec()
    head = OnnxHead(bundle.path(HEAD_ONNX), bundle.manifest.architecture, threads=1)
    frames = []
    for data in images_to_send(bundle, paths):
        pixels = read_image(data, bundle.manifest.preprocess)
        frames.append(codec.encode_spikes(head.run(pixels[None]).spikes[:, 0]))
    return tuple(frames)


def write_frames(frames: tuple[bytes, ...], bundle: Bundle, folder: Path) -> int:
    """Keep frames: their bytes one after another, and an index of lengths; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FRAMES).write_bytes(b"".join(frames))
    index = {"fingerprint": bundle.fingerprint, "lengths": [len(frame) for frame in frames]}
    (folder / _INDEX).write_text(json.dumps(index) + "\n", encoding="utf-8")
    return len(frames)


def _read_frames(bundle: Bundle, folder: Path) -> tuple[bytes, ...]:
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        fingerprint, lengths = str(index["fingerprint"]), [int(n) for n in index["lengths"]]
        data = (folder / _FRAMES).read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"no recorded frames in {folder} ({error}): make some with `bench record {folder}`"
        ) from error
    if fingerprint != bundle.fingerprint:
        raise ModelMismatchError(
            f"the frames in {folder} are of bundle {fingerprint[:12]}, wanted "
            f"{bundle.fingerprint[:12]}: name their bundle with --bundle, or record again"
        )
    if not lengths or min(lengths) < 1 or sum(lengths) != len(data):
        raise DataError(f"{folder} holds {len(data)} bytes of frames, not what its index says")
    frames, at = [], 0
    for length in lengths:
        frames.append(data[at : at + length])
        at += length
    return tuple(frames)
