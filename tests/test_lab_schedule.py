"""What a schedule may add: mixed images, mean weights, an early end, every prefix, TensorBoard."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from spikebottlenet.errors import ConfigError
from spikebottlenet.lab import loop
from spikebottlenet.lab.averaged import copied, follow
from spikebottlenet.lab.checkpoint import load_checkpoint
from spikebottlenet.lab.config import Schedule, TrainingConfig
from spikebottlenet.lab.cut import train_cut
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.losses import distillation_loss, ramp_factor
from spikebottlenet.lab.mixing import mix
from spikebottlenet.lab.uncut import train_uncut
from spikebottlenet.model.exact import PixelScale
from tests.lab_run import CONFIG, lines_of

PIXELS = PixelScale((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def split(count: int = 32) -> ImageSplit:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    return ImageSplit(images, np.arange(count, dtype=np.int64) % 2, ("red", "green"))


def schedule(epochs: int = 3, **more: float) -> Schedule:
    phases = [{"epochs": epochs, "side": 8, "pad": 1}]
    return Schedule.parse({"batch": 16, "phases": phases, **more}, source="test")


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_images_carry_the_shares_of_their_labels(kind: str) -> None:
    labels = torch.arange(4)
    images = labels.float()[:, None, None, None].expand(4, 3, 8, 8).clone()  # each of one value
    mixed, targets = mix(
        images,
        labels,
        schedule=schedule(**{kind: 1.0}),
        classes=4,
        generator=torch.Generator().manual_seed(3),
    )
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    # The mean pixel is the mean label.
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), targets @ labels.float())
    assert not torch.equal(mixed, images)


def test_without_mixing_targets_are_labels() -> None:
    images, labels = torch.randn(4, 3, 8, 8), torch.arange(4)
    same, targets = mix(images, labels, schedule=schedule(), classes=4, generator=torch.Generator())
    assert same is images
    assert targets is labels


def test_mean_weights_follow_by_the_stated_share() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    mean = copied(network)
    nn.init.constant_(network.weight, 1.0)
    follow(mean, network, decay=0.75, step=1000)
    assert float(mean["weight"]) == 0.25
    follow(mean, network, decay=0.75, step=0)  # early on the share is 1 - 1 / 10
    assert float(mean["weight"]) == pytest.approx(0.25 + 0.9 * 0.75)


def test_lambdas_grow_over_the_ramp() -> None:
    assert [ramp_factor(p, 0.5) for p in (0.0, 0.25, 0.5, 0.9)] == [0.0, 0.5, 1.0, 1.0]
    assert ramp_factor(0.0, 0.0) == 1.0
    logits = torch.randn(3, 4)
    assert float(distillation_loss(logits, logits, 2.0)) == pytest.approx(0.0, abs=1e-6)


def run(folder: Path, accuracies: list[float], **more: float) -> loop.Run:
    """A small network whose held-out accuracies are given."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 2, 3, bias=False)
    network = nn.Sequential(first, second, nn.Flatten(), nn.Linear(2 * 6 * 6, 2))
    left = iter(accuracies)
    return loop.Run(
        name="uncut",
        network=network,
        schedule=schedule(len(accuracies), **more),
        split=split(),
        pixels=PIXELS,
        batch_loss=lambda batch: (
            functional.cross_entropy(network(batch.images), batch.targets),
            {},
        ),
        evaluate=lambda: {"held_out_top1": next(left)},
        folder=folder,
        seed=0,
    )


def test_patience_ends_early_with_the_best_epochs_weights(tmp_path: Path) -> None:
    stopped = run(tmp_path / "a", [10.0, 30.0, 20.0, 20.0, 90.0], patience=2)
    loop.train(stopped)
    log = lines_of(tmp_path / "a/uncut.jsonl")
    assert [line["held_out_top1"] for line in log] == [10.0, 30.0, 20.0, 20.0]
    state = load_checkpoint(tmp_path / "a/uncut.pt")
    assert state is not None
    assert state["finished"]
    for name, value in stopped.network.state_dict().items():
        assert torch.equal(state["best"][name], value)
        assert torch.equal(state["network"][name], value)
    again = run(tmp_path / "a", [0.0] * 5, patience=2)
    loop.train(again)  # has nothing left to do
    assert lines_of(tmp_path / "a/uncut.jsonl") == log
    assert torch.equal(again.network[3].weight, stopped.network[3].weight)


def test_mean_weights_are_what_is_kept(tmp_path: Path) -> None:
    plain, mean = run(tmp_path / "a", [1.0, 2.0]), run(tmp_path / "b", [1.0, 2.0], ema=0.9)
    loop.train(plain)
    loop.train(mean)
    state = load_checkpoint(tmp_path / "b/uncut.pt")
    assert state is not None
    assert torch.equal(state["average"]["3.weight"], mean.network[3].weight)
    assert not torch.equal(plain.network[3].weight, mean.network[3].weight)


def test_every_prefix_is_trained_and_shown(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    loss = {"every_prefix": True, "self_distillation": 0.5, "ramp": 0.5, "lambda_bits": 0.1}
    short = {"batch": 16, "cutmix": 1.0, "phases": [{"epochs": 1, "side": 8, "pad": 1}]}
    config = TrainingConfig.parse(
        {**CONFIG, "loss": loss, "uncut": short, "cut": short}, source="test"
    )
    data = split()
    uncut = train_uncut(config, data, data, PIXELS, tmp_path, tensorboard=True)
    train_cut(config, config.architecture(2), uncut, data, data, PIXELS, tmp_path, tensorboard=True)
    (line,) = lines_of(tmp_path / "cut.jsonl")
    assert line["self_distillation"] >= 0
    assert {"held_out_top1_t1", "held_out_top1_t2"} <= set(line)
    for name in ("uncut", "cut"):
        assert len(list((tmp_path / "tensorboard" / name).glob("events.*"))) == 1


def test_a_batch_larger_than_the_split_is_refused(tmp_path: Path) -> None:
    wide = run(tmp_path, [1.0])
    narrow = loop.Run(**{**vars(wide), "split": split(8)})
    with pytest.raises(ConfigError, match=r"uncut.batch is 16, there are 8 images"):
        loop.train(narrow)
