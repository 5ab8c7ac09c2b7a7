"""The codec against the entropy, and against the head's time."""

import time
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np

from spikebottlenet.bench.entropies import Bits, Entropies, entropies, rate_bits
from spikebottlenet.bench.figures import Bound, Part, Table, claim, fixed
from spikebottlenet.bench.measuring import in_turns, ratios, spread, timed
from spikebottlenet.bench.subject import Subject, daemon_default
from spikebottlenet.bundle import HEAD_ONNX
from spikebottlenet.codec.frame import OVERHEAD_BYTES, Scheme
from spikebottlenet.runtime.onnx_head import OnnxHead

_AT_A_TIME = 16  # images that one measurement takes


def measure_codec(subject: Subject) -> Part:
    """Bytes of the images' spikes, and time beside the head's."""
    found = entropies(subject.bundle, subject.spikes)
    payload = np.array([len(frame) - OVERHEAD_BYTES for frame in subject.frames], dtype=float)
    prior, model = found.prior / 8, found.model / 8
    pieces = np.array_split(np.arange(len(payload)), min(16, len(payload)))

    def means(values: "np.ndarray[Any, Any]") -> list[float]:
        return [float(values[piece].mean()) for piece in pieces]

    threads = daemon_default("edge_node", "threads")
    head_s, encode_s, decode_s = _times(subject, threads)
    both_s = [encode + decode for encode, decode in zip(encode_s, decode_s, strict=True)]
    images = subject.images.source
    claims = (
        claim(
            "codec.payload_to_model",
            f"payload over the entropy of the best model: {found.model_is}",
            Bound.AT_MOST,
            1.03,
            unit="bytes an image",
            values=means(payload),
            references=means(model),
            reference_is=f"entropy under the best model of the spikes of {images}",
        ),
        claim(
            "codec.payload_to_prior",
            "payload over the per-site prior's entropy",
            Bound.AT_MOST,
            0.95,
            unit="bytes an image",
            values=means(payload),
            references=means(prior),
            reference_is=f"entropy under the per-site prior of the spikes of {images}",
        ),
        claim(
            "codec.time_to_head",
            f"encode and decode on one thread over the head's time on {threads}",
            Bound.AT_MOST,
            0.05,
            unit="us an image",
            values=[1e6 * value for value in both_s],
            references=[1e6 * value for value in head_s],
            reference_is=f"head, one image, {threads} thread(s)",
        ),
    )
    notes = (
        f"{len(payload)} images: {subject.images.source}. A payload is a frame without its "
        f"{OVERHEAD_BYTES} bytes of header and CRC. Spread of bytes: over {len(pieces)} parts of "
        "the images.",
    )
    limits = _limits(found, rate_bits(subject.spikes), payload)
    return Part("codec", claims, (limits, _schemes(subject, found.prior, found.model)), notes)


def _limits(found: Entropies, rates: Bits, payload: Bits) -> Table:
    """The payload beside each entropy of the same spikes."""
    mean = float(payload.mean())
    rows = []
    for name, bits in (
        ("per-site prior of the bundle", found.prior),
        (found.model_is, found.model),
        ("per-site rates of these images", rates),
    ):
        limit = float(bits.mean()) / 8
        rows.append((name, round(limit, 2), round(ratios([mean], [limit])[0], 4)))
    note = (
        "rates: those of one half of the images, Laplace-smoothed, on the other half and the "
        "other way round"
    )
    columns = ("entropy under", "bytes an image", "payload / it")
    return Table("entropy", "Entropy of the spikes", columns, tuple(rows), note)


def _images(subject: Subject) -> Iterator[int]:
    return cycle(range(len(subject.frames)))


def _times(subject: Subject, threads: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds an image of head, encode and decode, of each so many means of a few images.

    Each image goes through all three, one after another as in the daemons, so that the codec finds
    the caches as the head leaves them.
    """
    codec, at, clock = subject.bundle.codec(), _images(subject), time.perf_counter
    architecture = subject.bundle.manifest.architecture
    head = OnnxHead(subject.bundle.path(HEAD_ONNX), architecture, threads=threads)
    rounds = 4 if subject.quick else 30
    took = np.zeros((rounds + 1, 3))
    for sums in took:
        for _ in range(_AT_A_TIME):
            pixels = subject.images.pixels[next(at)][None]
            began = clock()
            spikes = head.run(pixels).spikes[:, 0]
            headed = clock()
            frame = codec.encode_spikes(spikes)
            encoded = clock()
            codec.decode_spikes(frame)
            sums += headed - began, encoded - headed, clock() - encoded
    head_s, encode_s, decode_s = (took[1:] / _AT_A_TIME).T.tolist()  # the first one is to warm up
    return head_s, encode_s, decode_s


def _schemes(subject: Subject, prior: Any, model: Any) -> Table:
    """Bytes and time of every scheme."""
    codec, rows = subject.bundle.codec(), []
    for name in [scheme.name.lower() for scheme in Scheme] + ["auto"]:
        choice: Any = name
        frames = [codec.encode_spikes(spikes, scheme=choice) for spikes in subject.spikes]
        at, back = _images(subject), _images(subject)

        def encode(at: Iterator[int] = at, choice: Any = choice) -> None:
            codec.encode_spikes(subject.spikes[next(at)], scheme=choice)

        def decode(back: Iterator[int] = back, frames: list[bytes] = frames) -> None:
            codec.decode_spikes(frames[next(back)])

        takes = (timed(encode, times=_AT_A_TIME), timed(decode, times=_AT_A_TIME))
        encode_s, decode_s = in_turns(3 if subject.quick else 15, *takes)
        bytes_mean = float(np.mean([len(frame) for frame in frames]))
        rows.append(
            (
                name,
                round(bytes_mean, 2),
                round(8 * (bytes_mean - OVERHEAD_BYTES) / float(prior.mean()), 4),
                round(8 * (bytes_mean - OVERHEAD_BYTES) / float(model.mean()), 4),
                round(1e6 * spread(encode_s).median, 1),
                round(1e6 * spread(decode_s).median, 1),
            )
        )
    columns = ("scheme", "frame bytes", "payload / prior", "payload / best model")
    note = (
        f"entropy an image: {fixed(float(prior.mean()) / 8, 1)} B under the prior, "
        f"{fixed(float(model.mean()) / 8, 1)} B under the best model"
    )
    return Table("codec", "Codec", (*columns, "encode us", "decode us"), tuple(rows), note)
