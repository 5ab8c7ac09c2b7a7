"""Rivals of a trained run: same network, same images, bytes counted alike."""

import io
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
import zstandard
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from spikebottlenet.cli.__main__ import app
from spikebottlenet.codec.frame import OVERHEAD_BYTES
from spikebottlenet.errors import ConfigError, DataError
from spikebottlenet.lab.baselines.bottlenetpp import (
    BottleNetPP,
    Symbols,
    encoder_macs,
    parse_symbols,
)
from spikebottlenet.lab.baselines.edge_only import uncut_macs
from spikebottlenet.lab.baselines.features import packed_levels, zstd_bytes
from spikebottlenet.lab.baselines.ground import Ground, open_ground
from spikebottlenet.lab.baselines.image_files import FILE_FORMS, jpeg_own_bytes, written
from spikebottlenet.lab.baselines.integer_head import eight_bit_head, head_convolutions
from spikebottlenet.lab.baselines.quantise import levels, rounded_weights, scale_for
from spikebottlenet.lab.baselines.run import Choice, Kind, equal_bits, parse_kinds, run_baselines
from spikebottlenet.lab.baselines.whole import WholeNetwork
from spikebottlenet.lab.report.runs import read_groups
from spikebottlenet.lab.results import Method, read_results
from spikebottlenet.lab.train import train_bundle
from spikebottlenet.model.head import SpikingHead
from spikebottlenet.model.resnet import ResNet18

CONFIG = {
    "data": {"name": "colours", "side": 8, "held_out": 16},
    "network": {"width": 4},
    "bottleneck": {"after_stage": 1, "timesteps": 2, "channels": 4, "stride": 2},
    "neuron": {"fused": False},
    "edge_exit": {"hidden": 4, "epochs": 1, "batch": 16},
    "uncut": {"batch": 16, "phases": [{"epochs": 2, "side": 8, "pad": 1}]},
    "cut": {"batch": 16, "phases": [{"epochs": 1, "side": 8, "pad": 1}]},
}


def colours(count: int, seed: int) -> datasets.Dataset:
    """Images of three classes, told apart by which colour is strong."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    pixels = random.integers(0, 120, (count, 8, 8, 3))
    pixels[np.arange(count), :, :, labels] += 130
    names = datasets.ClassLabel(names=["red", "green", "blue"])
    features = datasets.Features({"img": datasets.Image(), "label": names})
    rows = {"img": list(pixels.astype(np.uint8)), "label": labels.tolist()}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny finished training and its data."""
    folder = tmp_path_factory.mktemp("baselines")
    data, run, config = folder / "data", folder / "run", folder / "tiny.yaml"
    data.mkdir()
    colours(96, 0).to_parquet(data / "train-0.parquet")
    colours(40, 1).to_parquet(data / "test-0.parquet")
    config.write_text(yaml.safe_dump(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        train_bundle(config, run, name="tiny", data=str(data))
        yield run, data


@pytest.fixture(scope="module")
def ground(trained: tuple[Path, Path]) -> Ground:
    run, data = trained
    return open_ground(run, data=str(data))


@pytest.fixture(scope="module")
def measured(ground: Ground) -> dict[tuple[str, str], object]:
    """Every baseline, by method and setting."""
    choice = Choice(qualities=(10, 90))
    points = list(run_baselines(ground, choice, command="spikebottlenet baselines RUN"))
    return {(point.method.value, point.setting): point for point in points}


def test_a_training_leaves_the_points_of_its_bundle(ground: Ground) -> None:
    results = read_results(ground.run)
    by_method = {point.method: point for point in results.points}
    cut, alone = by_method[Method.SPIKES], by_method[Method.EDGE_SPIKING]
    stated = ground.bundle.manifest.measured
    assert stated is not None
    assert (cut.top1, cut.payload_bytes_mean) == (stated.top1, stated.payload_bytes_mean)
    assert cut.uncut_top1 == stated.uncut_top1
    assert cut.energy[0].edge_uj == pytest.approx(stated.edge_compute_uj, abs=1e-3)
    assert cut.energy[0].ordinary_head_uj == pytest.approx(stated.ann_head_uj, abs=1e-3)
    assert cut.by_timesteps[-1].top1 == cut.top1
    assert cut.by_timesteps[0].payload_bytes_mean < cut.by_timesteps[-1].payload_bytes_mean
    assert cut.firing_rates[-1].rate == pytest.approx(stated.firing_rate, abs=1e-3)
    wrong = sum(count for _, _, count in cut.confusion)
    assert wrong == pytest.approx(40 * (100 - cut.top1) / 100)
    assert (alone.top1, alone.payload_bytes_mean) == (stated.edge_exit_top1, 0)
    assert alone.energy[0].edge_uj > cut.energy[0].edge_uj
    assert (ground.run / cut.log).is_file()
    assert cut.command.startswith("spikebottlenet evaluate ")


def test_all_baselines_are_measured_on_the_same_images(
    ground: Ground, measured: dict[tuple[str, str], object]
) -> None:
    kept = {point.key: point for point in read_results(ground.run).points}
    (subject,) = {point.subject for point in kept.values()}  # of the bundle's points too
    assert len(subject.images_sha256) == 64
    unnamed = {"images_sha256": ground.subject.images_sha256}
    assert subject.model_copy(update=unnamed) == ground.subject
    for point in measured.values():
        assert kept[point.key] == point
        assert (ground.run / point.log).is_file()
        assert point.subject.split == "test"
    own = measured["edge-ordinary", "un-cut network"]
    assert own.top1 == ground.bundle.manifest.measured.uncut_top1
    assert own.payload_bytes_mean == 0
    assert measured["features", "float32 + zstd"].top1 == own.top1  # float32 loses nothing
    assert measured["image", "png"].top1 == own.top1  # nor does PNG
    assert measured["image", "webp lossless"].top1 == own.top1
    sizes = [measured["features", f"{form} + zstd"] for form in ("float32", "float16", "8-bit")]
    assert sorted(sizes, key=lambda p: -p.payload_bytes_mean) == sizes
    assert [point.bits_before_coding for point in sizes] == [8192, 4096, 2048]  # 4 * 8 * 8 values
    assert [point.bit_compression for point in sizes] == [1, 2, 4]


def test_rivals_operations_leave_padding_out(ground: Ground) -> None:
    counted = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], _: object) -> None:
        nonlocal counted
        if isinstance(module, nn.Linear):
            counted += module.weight.numel()
        elif isinstance(module, nn.Conv2d):
            inside = torch.ones(1, 1, *inputs[0].shape[2:])
            kernel = torch.ones(1, 1, *module.kernel_size)
            taps = nn.functional.conv2d(
                inside, kernel, stride=module.stride, padding=module.padding
            )
            counted += int(taps.sum()) * module.in_channels * module.out_channels

    hooks = [module.register_forward_hook(count) for module in ground.uncut.modules()]
    ground.uncut(torch.zeros(1, 3, 8, 8))
    for hook in hooks:
        hook.remove()
    assert uncut_macs(ground.architecture) == counted
    assert encoder_macs(ground, Symbols(3, shrink=False)) == (3 * 8 - 2) ** 2 * 4 * 3


def test_bottlenetpp_has_the_spikes_bits_where_nothing_else_is_said(
    ground: Ground, measured: dict[tuple[str, str], object]
) -> None:
    symbols = equal_bits(ground)
    assert symbols == Symbols(1, shrink=True)
    plain = measured["bottlenet++", symbols.name]
    assert plain.bits_before_coding == ground.architecture.spike_shape.bits == 128
    assert plain.payload_bytes_mean == 128 / 8 + OVERHEAD_BYTES
    eight_bit = measured["integer", symbols.name]
    assert eight_bit.payload_bytes_mean == plain.payload_bytes_mean
    # 0.3 pJ a multiply-accumulate where float32 takes 4.6
    assert plain.energy[0].edge_uj / eight_bit.energy[0].edge_uj == pytest.approx(
        4.6 / 0.3, rel=0.01
    )
    assert eight_bit.chosen_on == "held-out images"
    log = (ground.run / "bottlenetpp-1h-frozen.jsonl").read_text()
    frozen = [json.loads(line) for line in log.splitlines()]
    assert [line["epoch"] for line in frozen] == [1]


def test_the_bottleneck_drop_is_told_against_the_same_head(
    ground: Ground, measured: dict[tuple[str, str], object]
) -> None:
    whole = measured["spikes-whole", "features whole + zstd"]
    assert whole.bits_before_coding == 2 * 4 * 8 * 8  # T * features * side * side
    network = WholeNetwork(ground).eval()
    params = ground.config.neuron.lif_params()
    head = SpikingHead(ground.architecture, params, fused=False).eval()
    state = torch.load(ground.run / "cut.pt", weights_only=True)["network"]
    head.load_state_dict({n[5:]: v for n, v in state.items() if n.startswith("head.")})
    before = []  # what the trained head's encoder sees
    encoder = head.get_submodule("convolutions.encoder/conv")
    encoder.register_forward_pre_hook(lambda _, inputs: before.append(inputs[0]))
    images = ground.pixels.normalise(torch.from_numpy(ground.test.images))
    with torch.inference_mode():
        head(images)
        passed = network.head(images).spikes
    assert torch.equal(passed.flatten(0, 1), before[0])
    assert passed.sum() > 0


def test_an_eight_bit_head_rounds_weights_and_inputs(ground: Ground) -> None:
    uncut = ResNet18(width=4, classes=3).eval()
    trained = BottleNetPP(uncut, cut=1, features=4, symbols=Symbols(2, shrink=False)).eval()
    network = eight_bit_head(ground, trained)
    convolutions = head_convolutions(network)
    assert len(convolutions) == 6  # stem, two blocks of two, encoder
    for convolution in convolutions:
        for channel in convolution.weight.detach():
            assert len(channel.unique()) <= 255
    behind = network.uncut.get_submodule("layer2.0.conv1")
    assert torch.equal(behind.weight, trained.uncut.get_submodule("layer2.0.conv1").weight)


def test_levels_are_sent_and_read_alike() -> None:
    values = torch.tensor([0.0, 0.4, 0.6, 2.9, 9.0])
    assert scale_for(values, 1.0, 4) == pytest.approx(9 / 15)
    assert levels(values, 1.0, 2).tolist() == [0, 0, 1, 3, 3]
    assert scale_for(torch.zeros(3), 1.0, 8) > 0
    packed = packed_levels(np.array([[1, 2, 15]], dtype=np.uint8), 4)
    assert packed.tolist() == [[0x12, 0xF0]]
    weights = rounded_weights(torch.tensor([[1.0, -0.5, 0.003], [8.0, 4.0, -8.0]]), 8)
    assert weights[:, 0].tolist() == [1.0, 8.0]
    assert weights[0, 1] == pytest.approx(-64 / 127)


def test_zstd_bytes_are_those_of_a_payload_that_can_be_read() -> None:
    row = np.arange(64, dtype=np.uint8).repeat(8)[None]
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_checksum=False,
        write_content_size=False,
    )
    payload = zstandard.ZstdCompressor(compression_params=parameters).compress(row.tobytes())
    reader = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    assert reader.decompress(payload, max_output_size=512) == row.tobytes()
    assert zstd_bytes(row) == [len(payload) + OVERHEAD_BYTES]


@pytest.mark.parametrize("form", FILE_FORMS, ids=lambda form: form.name)
def test_image_files_are_read_again(form) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    qualities = (10, 95) if form.has_quality else (None,)
    files = [written(pixels, form, quality) for quality in qualities]
    assert all(file.pixels.shape == (32, 32, 3) for file in files)
    if form.has_quality:
        assert files[0].payload_bytes < files[1].payload_bytes
        errors = [np.abs(file.pixels.astype(int) - pixels).mean() for file in files]
        assert errors[0] > errors[1]
    else:
        assert np.array_equal(files[0].pixels, pixels)


def test_a_jpegs_tables_are_what_is_left_out() -> None:
    sizes = []
    for seed in (0, 1):
        file = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=50)
        sizes.append((len(file.getvalue()), jpeg_own_bytes(file.getvalue())))
    left_out = {whole - own for whole, own in sizes}
    assert len(left_out) == 1  # the same for every image of a quality
    # APP0 18, two tables of quantisation 69 each, four of Huffman 33 + 183 + 33 + 183.
    assert left_out == {18 + 2 * 69 + 33 + 183 + 33 + 183}


def test_what_is_typed_wrong_is_named(trained: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'features'"):
        parse_kinds("edge-only,feature")
    assert parse_kinds("image, whole") == (Kind.IMAGE, Kind.WHOLE)
    with pytest.raises(ConfigError, match="such as 16, or 16h"):
        parse_symbols("16x")
    assert parse_symbols("16h") == Symbols(16, shrink=True)
    with pytest.raises(DataError, match="no bundle holds"):
        open_ground(tmp_path, data=None)
    run, data = trained
    arguments = ["baselines", str(run), "--data", str(data), "--only", "image", "--qualities", "x"]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, ConfigError)


def test_a_damaged_checkpoint_is_named(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = trained
    broken = tmp_path / "run"
    broken.mkdir()
    (broken / "config.yaml").write_text((run / "config.yaml").read_text())
    (broken / "bundle").symlink_to(run / "bundle")
    (broken / "uncut.pt").write_bytes((run / "uncut.pt").read_bytes()[:1000])
    with pytest.raises(DataError, match=r"uncut\.pt is not a checkpoint"):
        open_ground(broken, data=str(data))


def test_decoder_of_an_odd_side_gives_the_side_back() -> None:
    network = BottleNetPP(
        ResNet18(width=4, classes=3), cut=1, features=4, symbols=Symbols(2, shrink=True)
    ).eval()
    features = torch.rand(2, 4, 7, 7)
    symbols = network.encode(features)
    assert symbols.shape == (2, 2, 4, 4)
    assert torch.equal(torch.round(symbols * 255) / 255, symbols)
    assert network.decode(symbols, 7).shape == features.shape
    assert isinstance(network.encoder, nn.Conv2d)


def test_an_evaluation_adds_its_point_and_repeats_itself(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = trained
    monkeypatch.setenv("XDG_CACHE_HOME", str(run.parent / "cache"))
    arguments = ["evaluate", str(run / "bundle"), "--data", str(data), "--limit", "20"]
    found = []
    for _ in range(2):
        done = CliRunner().invoke(
            app, [*arguments, "--out", str(tmp_path), "--json"], catch_exceptions=False
        )
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]
    points = read_results(tmp_path).points
    assert [point.method for point in points] == [Method.SPIKES, Method.EDGE_SPIKING]
    assert points[0].top1 == found[0]["top1"]
    assert points[0].subject.images == 20
    assert points[0].uncut_top1 is None  # what the manifest says is of other images
    assert "--limit 20" in points[0].command


def test_other_images_are_told_apart_and_a_copy_is_not(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = trained
    monkeypatch.setenv("XDG_CACHE_HOME", str(run.parent / "cache"))
    other, copy, mine = tmp_path / "other", tmp_path / "copy", tmp_path / "run"
    for folder, seed in ((other, 7), (copy, 1)):
        folder.mkdir()
        colours(96, 0).to_parquet(folder / "train-0.parquet")
        colours(40, seed).to_parquet(folder / "test-0.parquet")
    for folder in (data, other, copy):
        words = ["evaluate", str(run / "bundle"), "--data", str(folder), "--out", str(mine)]
        CliRunner().invoke(app, [*words, "--test-split", "test"], catch_exceptions=False)
    points = [each for each in read_results(mine).points if each.method is Method.SPIKES]
    stated = open_ground(run, data=str(data)).bundle.manifest.measured
    assert [each.uncut_top1 for each in points] == [stated.uncut_top1, None]
    assert points[0].subject.images_sha256 == stated.images_sha256
    assert points[0].command.endswith("--test-split test")
    assert str(copy) in points[0].command  # the copy's point took the place of the first
    assert [len(group.of(Method.SPIKES)) for group in read_groups([mine, run])] == [2, 1]
