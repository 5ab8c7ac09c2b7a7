"""Energy by part: against counted operations, and one spike's cost worked out by hand."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from spikebottlenet.accounting.energy import compute_uj
from spikebottlenet.accounting.energy_activity import from_manifest
from spikebottlenet.accounting.energy_head import (
    Activity,
    activity_at,
    head_energy,
    ordinary_head,
    spiking_head,
)
from spikebottlenet.accounting.energy_profile import (
    DEFAULT_PROFILE,
    ENERGY_PROFILES,
    find_profile,
    moved_pj,
)
from spikebottlenet.accounting.operations import (
    ann_head_macs,
    fan_out,
    fixed_accumulates,
    stem_macs,
)
from spikebottlenet.bundle import HEAD_ONNX, Bundle
from spikebottlenet.cli.__main__ import app
from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.head_activity import head_activity
from spikebottlenet.model.architecture import Architecture, head_layers
from spikebottlenet.runtime.onnx_head import OnnxHead

SMALL = Architecture(width=4, classes=5, side=10, after_stage=2, timesteps=3, channels=3)
KIB = 8 * 1024  # bits
PAGE = Path(__file__).parent.parent / "docs" / "energy.md"


def silent() -> Activity:
    return activity_at(SMALL, [0.0] * len(head_layers(SMALL)))


def test_the_default_profile_says_what_records_say(bundle: Bundle, crops: np.ndarray) -> None:
    architecture = bundle.manifest.architecture
    ran = OnnxHead(bundle.path(HEAD_ONNX), architecture, threads=1).run(crops[:2])
    activity = head_activity(bundle, crops[:2], threads=1)
    found = head_energy(architecture, activity, DEFAULT_PROFILE)
    assert found.spiking.total_uj == pytest.approx(
        compute_uj(ran.macs, 0) + compute_uj(0, int(ran.accumulates.sum())) / 2
    )
    assert found.ordinary_float32.total_uj == pytest.approx(
        compute_uj(ann_head_macs(architecture), 0)
    )
    assert found.ordinary_int8.total_uj == pytest.approx(ann_head_macs(architecture) * 0.3e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"residual": "membrane"},
        {"residual": "sew_add"},
        {"residual": "sew_and", "stem": "imagenet", "side": 32},
        {"backbone": "mobilenet_v1", "after_stage": 5, "side": 16},
        {"backbone": "resnet50", "stem": "imagenet", "side": 32, "residual": "membrane"},
    ],
)
def test_every_kind_of_head_costs_what_its_operations_are_counted_at(options: dict) -> None:
    architecture = Architecture.model_validate({**SMALL.model_dump(), **options})
    layers = head_layers(architecture)
    rng = np.random.default_rng(5)
    activity = Activity(tuple(3 * rng.random((layer.side, layer.side)) for layer in layers))
    pairs = zip(activity.maps, fan_out(architecture), strict=True)
    accumulates = sum(float((fired * outflow).sum()) for fired, outflow in pairs)
    accumulates += fixed_accumulates(architecture)
    expected = (stem_macs(architecture) * 4.6 + accumulates * 0.9) / 1e6
    found = head_energy(architecture, activity, DEFAULT_PROFILE)
    assert found.spiking.total_uj == pytest.approx(expected)
    assert found.ordinary_float32.macs * 1e6 == pytest.approx(4.6 * ann_head_macs(architecture))
    least = head_energy(architecture, activity, find_profile("horowitz45-int8-once"))
    most = head_energy(architecture, activity, find_profile("horowitz45-int8-each"))
    assert least.ordinary_int8.total_uj < most.ordinary_int8.total_uj


@pytest.mark.parametrize(
    ("name", "add_pj", "weight_bits", "accumulator_bits"),
    [("fp32", 0.9, 32, 32), ("fp16", 0.4, 16, 16), ("int8", 0.1, 8, 32)],
)
def test_one_spike_costs_what_a_hand_counts(
    name: str, add_pj: float, weight_bits: int, accumulator_bits: int
) -> None:
    # In the middle of act1: 9 taps * 4 outputs through layer1.0.conv1, 1 through the shortcut. All
    # memories here are of 8 KiB at most: 10 pJ / 64 bits.
    quiet = silent()
    maps = [each.copy() for each in quiet.maps]
    maps[0][5, 5] = 1.0
    for traffic, weights, potentials in (
        ("", 0.0, 0.0),
        ("-each", 36 * weight_bits, 37 * 2 * accumulator_bits),
        ("-once", 0.0, 0.0),
    ):
        profile = find_profile(f"horowitz45-{name}{traffic}")
        before = spiking_head(SMALL, quiet, profile)
        after = spiking_head(SMALL, Activity(tuple(maps)), profile)
        assert (after.accumulates - before.accumulates) * 1e6 == pytest.approx(37 * add_pj)
        assert (after.weights - before.weights) * 1e6 == pytest.approx(weights / 64 * 10)
        assert (after.potentials - before.potentials) * 1e6 == pytest.approx(potentials / 64 * 10)
        assert after.macs == before.macs
        assert after.features == before.features  # maps of bits, whatever they say


def test_a_silent_head_still_pays_for_neurons_weights_and_stem() -> None:
    found = spiking_head(SMALL, silent(), find_profile("horowitz45-fp32-once"))
    layers = head_layers(SMALL)
    updates = sum(layer.channels * layer.side**2 for layer in layers) * 3
    assert found.accumulates == 0
    assert found.neuron_updates * 1e6 == pytest.approx(updates * (3.7 + 0.9 + 0.9))
    convolutions = [s for layer in layers for s in layer.synapses if s.convolution is not None]
    stem, *others = (s.outputs * s.inputs * s.kernel**2 for s in convolutions)
    bits = 32 * (stem + 3 * sum(others))  # the stem's weights once, others each timestep
    assert max(others) * 32 <= 8 * KIB
    assert found.weights * 1e6 == pytest.approx(bits / 64 * 10)
    ordinary = ordinary_head(SMALL, find_profile("horowitz45-fp32-once"))
    encoder = others[-1]
    assert ordinary.weights * 1e6 == pytest.approx(32 * (stem + sum(others) - encoder) / 64 * 10)


@pytest.mark.parametrize(
    ("held", "expected"),
    [(8 * KIB, 10), (8 * KIB + 1, 20), (32 * KIB, 20), (1024 * KIB, 100)],
)
def test_the_smallest_memory_that_holds_it_is_charged(held: int, expected: float) -> None:
    assert moved_pj(64, held_bits=held) == expected


def test_what_fits_no_cache_is_fetched_from_dram_once_a_pass() -> None:
    held = 1024 * KIB + 64
    assert moved_pj(64, held_bits=held, passes=2) == pytest.approx(100 + 2 * held / 64 * 1300)


def test_moving_every_datum_once_is_never_dearer_than_each_time() -> None:
    activity = activity_at(SMALL, [0.2] * len(head_layers(SMALL)))
    for name in ("fp32", "fp16", "int8"):
        none, each, once = (
            head_energy(SMALL, activity, ENERGY_PROFILES[f"horowitz45-{name}{suffix}"])
            for suffix in ("", "-each", "-once")
        )
        for head in ("spiking", "ordinary_float32", "ordinary_int8"):
            bare, most, least = (getattr(found, head) for found in (none, each, once))
            assert bare.total_uj < least.total_uj < most.total_uj
            assert all(a <= b for a, b in zip(least, most, strict=True))
            assert (bare.macs, bare.accumulates) == (least.macs, least.accumulates)


def test_a_manifests_energy_comes_back_from_its_mean_rate(bundle: Bundle) -> None:
    measured = bundle.manifest.measured
    assert measured is not None
    seen = from_manifest(bundle.manifest)
    found = head_energy(bundle.manifest.architecture, seen.activity, DEFAULT_PROFILE)
    assert found.spiking.total_uj == pytest.approx(measured.edge_compute_uj)
    bare = bundle.manifest.model_copy(update={"measured": None})
    with pytest.raises(ConfigError, match="--data"):
        from_manifest(bare)


def test_wrong_numbers_of_rates_and_unknown_profiles_are_named() -> None:
    with pytest.raises(ConfigError, match="found 2 firing rates, the head has 10"):
        activity_at(SMALL, [0.1, 0.2])
    with pytest.raises(ConfigError, match="did you mean 'horowitz45-int8'"):
        find_profile("horowitz-int8")


def test_the_pages_table_is_what_the_command_prints(bundle: Bundle) -> None:
    told = CliRunner().invoke(app, ["energy", "--json"])
    assert told.exit_code == 0
    record = json.loads(told.stdout)
    rows = re.findall(r"^\| `(horowitz45-\S+)` \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(ENERGY_PROFILES) == list(record["profiles"])
    for name, cells in rows:
        found = record["profiles"][name]
        wanted = [
            f"{found['spiking']['total_uj']:,.1f}",
            f"{found['ordinary_float32']['total_uj']:,.1f}",
            f"{found['ratio_float32']:.1f}x",
            f"{found['ordinary_int8']['total_uj']:,.1f}",
            f"{found['ratio_int8']:.1f}x",
        ]
        assert [cell.strip() for cell in cells.split("|")] == wanted
    for radio in record["radio"].values():
        assert radio["send_and_tail_uj"] > radio["send_uj"] > 0
    shown = CliRunner().invoke(app, ["energy", "--profile", "horowitz45-int8"])
    assert "neuron_updates" in shown.stdout
    assert "estimates" in shown.stdout
