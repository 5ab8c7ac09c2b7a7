"""Frames: every scheme round-trips every tensor, and nothing but a true frame is accepted."""

import struct

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikebottlenet.codec.frame import OVERHEAD_BYTES, Scheme, dense_bytes, max_frame_bytes
from spikebottlenet.codec.spikes import SchemeChoice, SpikeCodec
from spikebottlenet.errors import CorruptFrameError
from spikebottlenet.model.shape import SpikeShape
from tests.context_models import random_model

SCHEMES: list[SchemeChoice] = ["auto", "dense", "zstd", "sparse", "entropy", "context"]
SHAPES = st.builds(
    SpikeShape, st.integers(1, 5), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9)
)


def make_codec(shape: SpikeShape, seed: int) -> SpikeCodec:
    rng = np.random.default_rng(seed)
    prior = rng.integers(1, 65_536, tuple(shape)).astype(np.uint16)
    return SpikeCodec(shape, prior, random_model(shape, seed))


def draw_spikes(codec: SpikeCodec, density: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed + 1)
    return (rng.random(tuple(codec.shape)) < density).astype(np.uint8)


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", google_crc32c.value(body))


@pytest.mark.parametrize("scheme", SCHEMES)
@given(shape=SHAPES, density=st.floats(0, 1), seed=st.integers(0, 2**32 - 1), data=st.data())
@settings(deadline=None)
def test_every_scheme_round_trips_any_range_of_timesteps(scheme, shape, density, seed, data):
    codec = make_codec(shape, seed)
    spikes = draw_spikes(codec, density, seed)
    first = data.draw(st.integers(0, shape.timesteps - 1))
    count = data.draw(st.integers(1, shape.timesteps - first))
    part = spikes[first : first + count]
    frame = codec.encode_spikes(part, first_timestep=first, scheme=scheme)
    got = codec.decode_spikes(frame)
    assert got.first_timestep == first
    np.testing.assert_array_equal(got.spikes, part)
    assert len(frame) <= OVERHEAD_BYTES + dense_bytes(count * shape.sites)


@given(shape=SHAPES, density=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_auto_is_the_models_size_on_usual_images_and_the_smallest_on_others(shape, density, seed):
    codec = make_codec(shape, seed)
    spikes = draw_spikes(codec, density, seed)
    sizes = {s: len(codec.encode_spikes(spikes, scheme=s)) for s in SCHEMES}
    p = codec.prior / 65_536
    expected_bytes = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum() / 8
    if sizes["context"] - OVERHEAD_BYTES <= 1.25 * expected_bytes:
        assert sizes["auto"] == sizes["context"]
    else:
        assert sizes["auto"] == min(sizes.values())


@given(
    shape=SHAPES, seed=st.integers(0, 2**32 - 1), scheme=st.sampled_from(SCHEMES), data=st.data()
)
@settings(deadline=None)
def test_truncation_and_bit_flips_are_refused(shape, seed, scheme, data):
    codec = make_codec(shape, seed)
    frame = codec.encode_spikes(draw_spikes(codec, 0.2, seed), scheme=scheme)
    with pytest.raises(CorruptFrameError):
        codec.decode_spikes(frame[: data.draw(st.integers(0, len(frame) - 1))])
    flipped = bytearray(frame)
    for bit in data.draw(st.sets(st.integers(0, 8 * len(frame) - 1), min_size=1, max_size=3)):
        flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptFrameError):
        codec.decode_spikes(bytes(flipped))


@given(foreign=st.binary(max_size=400), seed=st.integers(0, 99))
@settings(deadline=None)
def test_foreign_bytes_are_refused(foreign, seed):
    with pytest.raises(CorruptFrameError):
        make_codec(SpikeShape(2, 16, 8, 8), seed).decode_spikes(foreign)


@given(
    payload=st.binary(max_size=256),
    scheme=st.integers(0, 15),
    first=st.integers(0, 255),
    count=st.integers(0, 255),
)
@settings(deadline=None, max_examples=500)
def test_a_hostile_payload_with_a_true_crc_is_refused_or_is_one_tensors_frame(
    payload, scheme, first, count
):
    codec = make_codec(SpikeShape(2, 16, 8, 8), 3)
    frame = sealed(bytes([1 << 4 | scheme, first, count]) + payload)
    try:
        got = codec.decode_spikes(frame)
    except CorruptFrameError:
        return
    again = codec.encode_spikes(
        got.spikes, first_timestep=got.first_timestep, scheme=Scheme(scheme).name.lower()
    )
    assert set(np.unique(got.spikes)) <= {0, 1}
    np.testing.assert_array_equal(codec.decode_spikes(again).spikes, got.spikes)


def test_a_payload_that_claims_to_grow_is_stopped_at_its_bound():
    import zstandard

    bomb = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            3, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False
        )
    ).compress(bytes(1 << 20))
    assert len(bomb) < max_frame_bytes(SpikeShape(2, 16, 8, 8))
    with pytest.raises(CorruptFrameError, match="exactly 256 bytes"):
        make_codec(SpikeShape(2, 16, 8, 8), 0).decode_spikes(
            sealed(bytes([1 << 4 | Scheme.ZSTD, 0, 2]) + bomb)
        )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (bytes([2 << 4, 0, 2]), "version is 2"),
        (bytes([1 << 4 | 9, 0, 2]), "scheme is 9"),
        (bytes([1 << 4, 0, 0]), "at least one"),
        (bytes([1 << 4, 1, 2]), "timesteps 1 to 2"),
    ],
)
def test_the_refusal_says_what_is_wrong(header, message):
    with pytest.raises(CorruptFrameError, match=message):
        make_codec(SpikeShape(2, 16, 8, 8), 0).decode_spikes(sealed(header + bytes(256)))


def test_a_good_prior_makes_frames_near_its_entropy():
    shape = SpikeShape(2, 16, 8, 8)
    probability = np.full(tuple(shape), 0.05)
    codec = SpikeCodec(shape, (probability * 65_536).astype(np.uint16))
    spikes = draw_spikes(codec, 0.05, 7)
    p = 0.05
    information = -(np.log2(p) * spikes.sum() + np.log2(1 - p) * (spikes.size - spikes.sum()))
    size = len(codec.encode_spikes(spikes, scheme="entropy")) - OVERHEAD_BYTES
    assert size <= information / 8 + 4
