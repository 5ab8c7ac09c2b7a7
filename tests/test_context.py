"""The context model: integers decide, both sides agree, and correlated spikes cost less."""

import re
import shutil
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikebottlenet.codec.context import decode, decode_each, encode
from spikebottlenet.codec.context_file import read_context, write_context
from spikebottlenet.codec.context_model import ContextModel
from spikebottlenet.codec.context_tables import ContextTables, known_neighbours
from spikebottlenet.codec.frame import Scheme
from spikebottlenet.codec.information import context_bits, prior_bits
from spikebottlenet.codec.spikes import SpikeCodec
from spikebottlenet.errors import BundleError, CorruptFrameError
from spikebottlenet.model.shape import SpikeShape
from tests.context_models import UNITS, in_numpy, logistic_table, random_model, random_tables

SHAPE = SpikeShape(2, 4, 5, 6)
SHAPES = st.builds(
    SpikeShape, st.integers(1, 4), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9)
)
SEEDS = st.integers(0, 2**32 - 1)


def draw(shape: SpikeShape, seed: int, density: float = 0.4) -> np.ndarray:
    return (np.random.default_rng(seed).random(tuple(shape)) < density).astype(np.uint8)


def slow_probabilities(spikes: np.ndarray, tables: ContextTables) -> np.ndarray:
    """The equation site by site, in int64."""
    weights, bias, table = (part.astype(np.int64) for part in tables)
    t, c, h, w = spikes.shape
    out = np.empty(spikes.shape, np.int64)
    for step, y, x in np.ndindex(t, h, w):
        logits = bias[step, :, y, x].copy()
        for place, (dy, dx) in enumerate(np.ndindex(3, 3)):
            row, column = y + dy - 1, x + dx - 1
            if 0 <= row < h and 0 <= column < w:
                before = spikes[step - 1, :, row, column] if step else np.zeros(c, np.int64)
                near = np.concatenate([before, spikes[step, :, row, column]]).astype(np.int64)
                logits += near @ weights[step, (y + x) % 2, place]
        out[step, :, y, x] = table[np.clip(logits + table.size // 2, 0, table.size - 1)]
    return out


@given(shape=SHAPES, seed=SEEDS)
@settings(deadline=None, max_examples=40)
def test_float32_products_give_what_64_bit_integers_give(shape, seed):
    tables = random_tables(shape, seed)
    model, spikes = ContextModel(shape, tables), draw(shape, seed)
    wanted = slow_probabilities(spikes, tables).reshape(-1)[model.order]
    chances = model.chances(spikes) * 65_536
    np.testing.assert_array_equal(chances, np.stack([65_536 - wanted, wanted], axis=1))


@given(shape=SHAPES, seed=SEEDS, data=st.data())
@settings(deadline=None)
def test_a_site_changes_no_probability_of_those_coded_before_it(shape, seed, data):
    model, spikes = random_model(shape, seed), draw(shape, seed)
    rank = data.draw(st.integers(0, shape.bits - 1))
    before = model.chances(spikes)[: rank + 1]
    spikes.reshape(-1)[model.order[rank]] ^= 1
    after = model.chances(spikes)[: rank + 1]
    np.testing.assert_array_equal(before, after)
    assert sorted(model.order) == list(range(shape.bits))


@given(shape=SHAPES, seed=SEEDS, density=st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_payloads_are_those_of_bernoulli_models_and_come_back(shape, seed, density):
    # The format since its first version: what is decoded must not depend on which coder wrote it.
    model, spikes = random_model(shape, seed), draw(shape, seed, density)
    chances, coder = model.chances(spikes), constriction.stream.stack.AnsCoder()
    bernoulli = constriction.stream.model.Bernoulli(perfect=False)
    symbols = spikes.reshape(-1)[model.order].astype(np.int32)
    coder.encode_reverse(symbols, bernoulli, np.ascontiguousarray(chances[:, 1]))
    words = np.asarray(coder.get_compressed(), dtype="<u4")
    for either in (model, in_numpy(model)):
        payload = encode(spikes.reshape(-1), either)
        assert payload == words.tobytes().rstrip(b"\0")
        if len(payload) <= -(-shape.bits // 8):  # a longer one is sent dense
            decoded = decode(payload, either, shape.timesteps)
            np.testing.assert_array_equal(decoded, spikes.reshape(-1))


@pytest.mark.skipif(
    shutil.which("cc") is None or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason="no C compiler, or no headers of Python",
)
def test_where_there_is_a_compiler_the_codec_is_compiled():
    assert random_model(SHAPE, 1).native is not None


@given(
    shape=st.builds(
        SpikeShape, st.integers(1, 3), st.integers(1, 140), st.integers(1, 6), st.integers(1, 6)
    ),
    seed=SEEDS,
    density=st.floats(0, 1),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_compiled_and_not_write_and_read_the_same(shape, seed, density, data):
    model, timesteps = random_model(shape, seed), data.draw(st.integers(1, shape.timesteps))
    spikes, plain = draw(shape, seed, density)[:timesteps].reshape(-1), in_numpy(model)
    payload = encode(spikes, model)
    assert payload == encode(spikes, plain)
    flipped = bytearray(payload or b"\1")
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= data.draw(st.integers(1, 255))
    for sent in (payload, bytes(flipped)):
        read = [outcome(sent, either, timesteps) for either in (model, plain)]
        assert read[0] == read[1]


def outcome(payload: bytes, model: ContextModel, timesteps: int) -> bytes | None:
    try:
        return decode(payload, model, timesteps).tobytes()
    except CorruptFrameError:
        return None


@pytest.mark.parametrize("first", range(1, 65_536, 8_193))
def test_every_probability_is_the_coders(first):
    # Each site looks up an entry of its own.
    table = np.arange(first, first + 8_193).clip(max=65_535).astype(np.uint16)
    shape = SpikeShape(1, 1, 1, table.size)
    bias = np.arange(table.size).astype(np.int16) - table.size // 2
    tables = ContextTables(np.zeros((1, 2, 9, 2, 1), np.int8), bias.reshape(1, 1, 1, -1), table)
    model = ContextModel(shape, tables)
    for spikes in (draw(shape, first, 0.5).reshape(-1), draw(shape, first, 0.9).reshape(-1)):
        payload = encode(spikes, model)
        assert payload == encode(spikes, in_numpy(model))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (2, 4, 5, 7)}, "bias of 480 bytes, wanted 560"),
        ({"shape": (0, 4, 5, 6)}, "is none of spikes"),
        ({"shape": (2, 4096, 32_767, 32_767)}, "is none of spikes"),
        ({"weights": b""}, "weights of 0 bytes, wanted 1152"),
        ({"table": bytes(4)}, "odd number"),
        ({"table": bytes(6)}, "holds a 0"),
    ],
)
def test_the_compiled_part_believes_no_sizes(changes, message):
    native = random_model(SHAPE, 1).native
    if native is None:
        pytest.skip("not compiled")
    whole = {"shape": tuple(SHAPE), **random_tables(SHAPE, 1)._asdict()}
    with pytest.raises(ValueError, match=message):
        type(native)(**(whole | changes))
    for sites in (0, 119, 360):
        with pytest.raises(ValueError, match=f"spikes of {sites} sites"):
            native.encode(bytes(sites))
    for timesteps in (0, 3):
        with pytest.raises(ValueError, match="timesteps, wanted 1 to 2"):
            native.decode((b"",), timesteps)
    with pytest.raises(TypeError):
        native.decode([b""], 1)
    with pytest.raises(TypeError):
        native.decode((b"", bytearray()), 1)


@pytest.mark.parametrize("kind", [lambda model: model, in_numpy], ids=["as_built", "numpy"])
@given(shape=SHAPES, seed=SEEDS, data=st.data())
@settings(deadline=None, max_examples=30)
def test_images_decoded_together_are_those_decoded_one_by_one(kind, shape, seed, data):
    model = kind(random_model(shape, seed))
    timesteps = data.draw(st.integers(1, shape.timesteps))
    payloads = []
    for number in range(data.draw(st.integers(0, 5))):
        payload = encode(draw(shape, seed + number)[:timesteps], model)
        damage = data.draw(st.sampled_from(["", "cut", "longer", "too long", "zero", "flipped"]))
        if damage == "cut":
            payload = payload[:-1]
        elif damage == "flipped" and payload:
            payload = bytes([payload[0] ^ 1]) + payload[1:]
        else:
            payload += {"longer": b"x", "too long": bytes(shape.bits), "zero": b"\0"}.get(
                damage, b""
            )
        payloads.append(payload)
    together = decode_each(tuple(payloads), model, timesteps)
    assert len(together) == len(payloads)
    for payload, found in zip(payloads, together, strict=True):
        if isinstance(found, CorruptFrameError):
            with pytest.raises(CorruptFrameError, match=re.escape(str(found))):
                decode(payload, model, timesteps)
        else:
            np.testing.assert_array_equal(found, decode(payload, model, timesteps))


@pytest.mark.parametrize("sign", [1, -1])
def test_tables_whose_sums_take_more_than_16_bits_are_left_to_numpy(sign):
    if random_model(SHAPE, 1).native is None:
        pytest.skip("not compiled")
    tables = random_tables(SHAPE, 1)
    weights = np.where(tables.weights, sign * 127, 0).astype(np.int8)
    sums = weights.astype(np.int64).sum(axis=(2, 3))  # [T, colour, C]
    furthest = sums.max(axis=1) if sign > 0 else sums.min(axis=1)
    middle = tables.table.size // 2
    limit = 32_767 if sign > 0 else -32_768
    bias = (limit - middle - furthest)[:, :, None, None] * np.ones((1, 1, 5, 6))
    fits = tables._replace(weights=weights, bias=bias.astype(np.int16))
    model, spikes = ContextModel(SHAPE, fits), draw(SHAPE, 2, 0.9)
    assert model.native is not None
    payload = encode(spikes, model)
    assert payload == encode(spikes, in_numpy(model))
    # Not by decode, as spikes against such odds take more bytes than any frame.
    assert model.native.decode((payload,), 2) == (spikes.tobytes(), b"\1")
    beyond = ContextModel(SHAPE, fits._replace(bias=fits.bias + np.int16(sign)))
    assert beyond.native is None
    assert encode(spikes, beyond)


def model_of_few_spikes() -> ContextModel:
    tables = random_tables(SHAPE, 5)
    bias = np.full(tuple(SHAPE), -2 * UNITS, np.int16)
    return ContextModel(SHAPE, tables._replace(weights=tables.weights // 10, bias=bias))


EITHER = pytest.mark.parametrize("kind", [lambda model: model, in_numpy], ids=["as_built", "numpy"])


@EITHER
def test_threads_that_decode_at_once_do_not_meet(kind):
    model = kind(model_of_few_spikes())
    images = [draw(SHAPE, seed, density=0.12) for seed in range(20)] * 20
    payloads = [encode(image.reshape(-1), model) for image in images]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda payload: decode(payload, model, 2), payloads))
    np.testing.assert_array_equal(found, [image.reshape(-1) for image in images])


@EITHER
def test_a_refused_payload_leaves_nothing_behind_for_the_next(kind):
    model, image = kind(model_of_few_spikes()), draw(SHAPE, 1, density=0.12)
    payload = encode(image.reshape(-1), model)
    for wrong in (b"\x01", b"\xff" * 8, payload[:-1] + bytes([payload[-1] ^ 1 or 2])):
        with pytest.raises(CorruptFrameError):
            decode(wrong, model, 2)
        np.testing.assert_array_equal(decode(payload, model, 2), image.reshape(-1))


@EITHER
@given(payload=st.binary(max_size=12), seed=SEEDS)
@settings(deadline=None, max_examples=300)
def test_a_payload_is_refused_or_the_very_one_that_is_written(kind, payload, seed):
    model = kind(random_model(SpikeShape(2, 2, 4, 6), seed % 7))
    try:
        spikes = decode(payload, model, 2)
    except CorruptFrameError:
        return
    assert encode(spikes, model) == payload


def test_a_frame_from_a_later_timestep_goes_by_the_prior():
    codec = SpikeCodec(SHAPE, np.full(tuple(SHAPE), 9_000, np.uint16), random_model(SHAPE, 1))
    spikes = draw(SHAPE, 3, density=0.1)
    frame = codec.encode_spikes(spikes[1:], first_timestep=1, scheme="context")
    assert frame[0] & 15 == Scheme.ENTROPY
    assert codec.decode_spikes(frame).first_timestep == 1


def test_a_bundle_without_the_model_refuses_the_scheme_by_name():
    shape = SpikeShape(2, 16, 8, 8)
    weights = np.zeros((2, 2, 9, 32, 16), np.int8)
    bias = np.full(tuple(shape), -2 * UNITS, np.int16)
    model = ContextModel(shape, ContextTables(weights, bias, logistic_table()))
    codec = SpikeCodec(shape, np.full(tuple(shape), 9_000, np.uint16), model)
    frame = codec.encode_spikes(draw(shape, 4, density=0.1), scheme="context")
    assert frame[0] & 15 == Scheme.CONTEXT
    with pytest.raises(CorruptFrameError, match="context"):
        replace(codec, context=None).decode_spikes(frame)


def test_a_second_timestep_that_repeats_the_first_costs_a_tenth_of_a_bit_or_less_a_site():
    # By hand: the same site of the timestep before moves the logit from -6 to +6 nats, so a
    # repeated site has probability 1 / (1 + e^-6) = 0.9975, or 0.0036 bits; the first timestep
    # and everything under the prior cost 1 bit a site.
    shape = SpikeShape(2, 4, 8, 8)
    weights = np.zeros((2, 2, 9, 8, 4), np.int8)
    for channel in range(4):
        weights[1, :, 4, channel, channel] = 12 * 10
    bias = np.zeros(tuple(shape), np.int16)
    bias[1] = -6 * 10
    table = logistic_table()[:: UNITS // 10]
    model = ContextModel(shape, ContextTables(weights, bias, np.ascontiguousarray(table)))
    spikes = draw(shape, 5, density=0.5)
    spikes[1] = spikes[0]
    prior = np.full(tuple(shape), 32_768, np.uint16)
    assert prior_bits(spikes, prior) == shape.bits
    wanted = shape.sites * (1 + np.log2(1 + np.exp(-6)))
    assert context_bits(spikes, model) == pytest.approx(wanted, rel=1e-3)
    payload = encode(spikes.reshape(-1), model)
    assert len(payload) <= context_bits(spikes, model) / 8 + 5
    np.testing.assert_array_equal(decode(payload, model, 2), spikes.reshape(-1))


def future_weights() -> np.ndarray:
    return np.where(known_neighbours(4), 0, 1).astype(np.int8)[None].repeat(2, axis=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.zeros((2, 2, 9, 8, 5), np.int8)}, "weights is"),
        ({"weights": np.zeros((2, 2, 9, 8, 4), np.int16)}, "int16"),
        ({"weights": future_weights()}, "not decoded yet"),
        ({"weights": np.ones((2, 2, 9, 8, 4), np.int8)}, "not decoded yet"),
        ({"bias": np.zeros((2, 4, 5, 7), np.int16)}, "bias is"),
        ({"table": np.ones(4, np.uint16)}, "odd length"),
        ({"table": np.ones((3, 1), np.uint16)}, "odd length"),
        ({"table": np.zeros(3, np.uint16)}, "none of them 0"),
        ({"table": np.ones(8_195, np.uint16)}, "at most 8193"),
    ],
)
def test_tables_that_do_not_fit_are_refused(change, message, tmp_path: Path):
    path = tmp_path / "context.safetensors"
    write_context(path, random_tables(SHAPE, 1)._replace(**change))
    with pytest.raises(BundleError, match=message):
        read_context(path, SHAPE)


def test_a_file_comes_back_as_it_was_and_damaged_ones_are_refused(tmp_path: Path):
    path = tmp_path / "context.safetensors"
    tables = random_tables(SHAPE, 2)
    write_context(path, tables)
    for got, wanted in zip(read_context(path, SHAPE).tables, tables, strict=True):
        np.testing.assert_array_equal(got, wanted)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:20], whole + bytes(40_000), b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(BundleError):
            read_context(path, SHAPE)
