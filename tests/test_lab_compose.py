"""Configs that extend others, and settings from the command line."""

from importlib import resources
from pathlib import Path

import pytest
import yaml

from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.compose import read_config

BASE = """\
uncut: {phases: [{epochs: 1, side: 8}, {epochs: 2, side: 8}]}
cut: {phases: [{epochs: 1, side: 8}]}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE + "loss: {lambda_bits: 1.0, temperature: 3.0}\n")
    return path


def test_a_config_is_laid_over_what_it_extends(base: Path) -> None:
    (base.parent / "parts").mkdir()
    middle = base.parent / "parts" / "middle.yaml"
    middle.write_text("extends: ../base.yaml\nloss: {lambda_bits: 2.0}\n")
    top = base.parent / "top.yaml"
    top.write_text("extends: parts/middle.yaml\nseed: 5\n")
    found = read_config(top, ["loss.lambda_energy=0.5", "uncut.phases.1.epochs=9"])
    assert (found.config.seed, found.config.loss.lambda_bits) == (5, 2.0)
    assert (found.config.loss.temperature, found.config.loss.lambda_energy) == (3.0, 0.5)
    assert [phase.epochs for phase in found.config.uncut.phases] == [1, 9]
    whole = base.parent / "whole.yaml"
    whole.write_text(found.text)
    assert "extends" not in yaml.safe_load(found.text)
    assert read_config(whole).config == found.config
    assert read_config(base).text == base.read_text()  # comments and all


def test_what_is_wrong_is_named(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"lambda_bit'.*did you mean 'lambda_bits'"):
        read_config(base, ["loss.lambda_bit=1"])
    with pytest.raises(ConfigError, match=r"lambda_bits.*found 'much'"):
        read_config(base, ["loss.lambda_bits=much"])
    with pytest.raises(ConfigError, match=r"found --set loss, wanted KEY=VALUE"):
        read_config(base, ["loss"])
    with pytest.raises(ConfigError, match=r"found '7', wanted 0 to 1"):
        read_config(base, ["uncut.phases.7.epochs=1"])
    one, two = base.parent / "one.yaml", base.parent / "two.yaml"
    one.write_text("extends: two.yaml\n")
    two.write_text("extends: one.yaml\n")
    with pytest.raises(ConfigError, match=r"one\.yaml -> two\.yaml -> one\.yaml"):
        read_config(one)
    two.write_text("extends: gone.yaml\n")
    with pytest.raises(ConfigError, match=r"cannot read .*gone\.yaml"):
        read_config(one)


@pytest.mark.parametrize(("cut", "bits", "times"), [(1, 4096, 512), (2, 2048, 512), (3, 1024, 512)])
def test_shipped_configs_make_what_they_say(cut: int, bits: int, times: int) -> None:
    folder = Path(str(resources.files("spikebottlenet.lab"))) / "configs"
    architecture = read_config(folder / f"cifar100-resnet18-cut{cut}.yaml").config.architecture(100)
    assert architecture.spike_shape.bits == bits
    assert architecture.bit_compression == times
    last = read_config(folder / "cifar100-resnet18-cut4.yaml").config.architecture(100)
    assert (last.spike_shape.bits, last.bit_compression) == (1024, 256)
