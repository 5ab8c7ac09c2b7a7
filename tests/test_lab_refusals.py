"""Trainings that would end with figures of something else are refused, and say why."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.checkpoint import load_checkpoint
from spikebottlenet.lab.claim import claim_data, claimed
from spikebottlenet.lab.compose import read_config
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.train import TrainingOptions, train_bundle
from spikebottlenet.lab.uncut import train_uncut
from spikebottlenet.lab.workers import ALONE
from spikebottlenet.model.weight_grid import nearest_weights, top_weight
from tests.lab_run import CONFIG, write_config, write_data
from tests.test_lab_schedule import PIXELS, split

PATIENT = {**CONFIG["cut"], "patience": 2}


def config(**over: Any) -> TrainingConfig:
    return TrainingConfig.parse(CONFIG | over, source="test")


def test_a_folder_keeps_to_the_images_that_it_was_begun_with(tmp_path: Path) -> None:
    run, lender = tmp_path / "run", tmp_path / "lender"
    run.mkdir()
    lender.mkdir()
    own = split()
    claim_data(run, own, None, ALONE)
    claim_data(run, own, None, ALONE)
    grown = split(40)
    claim_data(run, grown, None, ALONE)  # nothing was trained yet: a first try was refused
    claim_data(run, own, None, ALONE)
    (run / "uncut.pt").touch()
    with pytest.raises(ConfigError, match=r"run was trained on other images than these \(40"):
        claim_data(run, grown, None, ALONE)
    claim_data(lender, grown, None, ALONE)
    with pytest.raises(ConfigError, match="lender was trained on other images than these"):
        claim_data(run, own, lender, ALONE)
    renamed = ImageSplit(own.images, own.labels, ("lorry", "ship"))
    with pytest.raises(ConfigError, match="other images"):
        claim_data(run, renamed, None, ALONE)


def test_another_config_is_refused_with_what_differs(tmp_path: Path) -> None:
    first = read_config(write_config(tmp_path / "one.yaml"))
    with claimed(tmp_path / "run", first, ALONE):
        pass
    (tmp_path / "run" / "uncut.pt").touch()
    with claimed(tmp_path / "run", first, ALONE):
        pass
    other = read_config(write_config(tmp_path / "two.yaml"), ("seed=1", "cut.batch=8"))
    with (
        pytest.raises(ConfigError, match=r"config\.yaml; seed, cut\.batch differ"),
        claimed(tmp_path / "run", other, ALONE),
    ):
        pass


def test_a_refused_lender_leaves_nothing_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wanted, lender = write_config(tmp_path / "tiny.yaml"), tmp_path / "lender"
    small, large = write_data(tmp_path / "small"), write_data(tmp_path / "large", 80)
    only_uncut = TrainingOptions(only_uncut=True)
    train_bundle(wanted, lender, name="tiny", data=str(small), options=only_uncut)
    borrowing = TrainingOptions(uncut_from=lender)
    with pytest.raises(ConfigError, match="lender was trained on other images"):
        train_bundle(wanted, tmp_path / "own", name="tiny", data=str(large), options=borrowing)
    assert not list((tmp_path / "own").glob("uncut*"))
    other = write_config(tmp_path / "other.yaml", seed=1)
    with pytest.raises(ConfigError, match=r"by other settings \(\['seed'\] differ\)"):
        train_bundle(other, tmp_path / "own", name="tiny", data=str(small), options=borrowing)
    assert not list((tmp_path / "own").glob("uncut*"))


@pytest.mark.parametrize(
    ("over", "said"),
    [
        (
            {"data": CONFIG["data"] | {"held_out": 0}, "cut": CONFIG["cut"] | {"patience": 2}},
            "held",
        ),
        ({"loss": {"self_distillation": 0.5}}, "every_prefix"),
        ({"quantization_aware": True}, "head_bits of 4 to 8"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"data": CONFIG["data"] | {"seed": -1}}, "seed"),
        ({"data": CONFIG["data"] | {"std": [0, 1, 1]}}, "std"),
        ({"uncut": {"phases": []}}, "phases"),
        ({"uncut": {"phases": [{"epochs": 1, "side": 11, "pad": 1}]}}, "do not fit"),
        (
            {
                "data": CONFIG["data"] | {"side": 32},
                "bottleneck": CONFIG["bottleneck"] | {"after_stage": 4},
                "cut": {"phases": [{"epochs": 1, "side": 24}]},
            },
            "multiple of the stride",
        ),
    ],
)
def test_what_could_only_fail_after_hours_is_refused_at_birth(
    over: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        config(**over)


def test_a_training_that_diverges_ends_and_leaves_its_last_checkpoint(tmp_path: Path) -> None:
    uncut = CONFIG["uncut"] | {"sgd_lr": 1e25}
    images = split()
    with pytest.raises(ConfigError, match=r"uncut diverged in epoch \d .*lower muon_lr or sgd_lr"):
        train_uncut(config(uncut=uncut), images, images, PIXELS, tmp_path)
    kept = load_checkpoint(tmp_path / "uncut.pt")
    assert kept is None or all(np.isfinite(line["loss"]) for line in kept["history"])


def test_a_channel_that_its_bias_alone_fires_keeps_it_on_eight_bits() -> None:
    weight = torch.full((2, 3, 1, 1), 1e-9, dtype=torch.float64)
    bias = torch.tensor([2.5, -2.5], dtype=torch.float64) * 2**14
    _, scale = nearest_weights(weight, bias, top_weight(8))
    integers = torch.round(bias / scale)
    assert integers.abs().max() < 2**24  # exact in float32, and far from int32's end
    torch.testing.assert_close(integers * scale, bias, rtol=1e-6, atol=0)


def test_a_sample_is_always_the_same_and_of_all_classes() -> None:
    images = np.zeros((100, 8, 8, 3), np.uint8)
    sorted_by_class = ImageSplit(images, np.repeat(np.arange(2), 50), ("red", "green"))
    first, second = sorted_by_class.sample(20), sorted_by_class.sample(20)
    assert np.array_equal(first.labels, second.labels)
    assert set(first.labels.tolist()) == {0, 1}
    assert len(replace(sorted_by_class).sample(500)) == 100
