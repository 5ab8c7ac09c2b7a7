"""A whole training: un-cut network, cut network, bundle, and the test split once at the end."""

import shutil
from pathlib import Path

import torch

from spikebottlenet.bundle import Bundle, Half, open_bundle
from spikebottlenet.config import read_yaml
from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.bundle_point import keep_points
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.cut import train_cut
from spikebottlenet.lab.data import ImageSplit, hold_out, load_split
from spikebottlenet.lab.evaluate import measure_bundle
from spikebottlenet.lab.export import copy_record, export_bundle
from spikebottlenet.lab.uncut import train_uncut, uncut_accuracy
from spikebottlenet.lab.witness import Witness
from spikebottlenet.model.resnet import ResNet18
from spikebottlenet.model.split import SplitNetwork

_CONFIG = "config.yaml"


def train_bundle(config_path: Path, out: Path, *, name: str, data: str | None = None) -> Bundle:
    """Train by a config file; ``out`` holds checkpoints and logs, and ``out/bundle`` the result.

    A training that was stopped goes on from its last whole epoch when called again with the same
    config and ``out``. ``data`` takes the place of the config's data set (its local copy).

    Raises:
        ConfigError: bad config, or ``out`` holds a training by another config.
        DataError: the data set cannot be loaded.
    """
    config = TrainingConfig.parse(read_yaml(config_path), source=str(config_path))
    _claim(out, config_path)
    source = data or config.data.name
    pixels = config.data.scale
    whole = load_split(source, "train", config.data.preprocess())
    train_split, held_out = hold_out(whole, config.data.held_out, seed=config.data.seed)
    uncut = train_uncut(config, train_split, held_out, pixels, out)
    architecture = config.architecture(len(whole.class_names))
    cut = train_cut(config, architecture, uncut, train_split, held_out, pixels, out)
    return finish(config_path, config, uncut, cut, train_split, out, name=name, source=source)


def finish(
    config_path: Path,
    config: TrainingConfig,
    uncut: ResNet18,
    cut: SplitNetwork,
    train_split: ImageSplit,
    out: Path,
    *,
    name: str,
    source: str,
) -> Bundle:
    """Export the two trained networks, measure the bundle on the test split, write that down."""
    folder = out / "bundle"
    threads = torch.get_num_threads()
    export_bundle(cut, config, train_split, folder, name=name, threads=threads)
    copy_record(out, config_path, folder)
    test = load_split(source, "test", config.data.preprocess())
    made = open_bundle(folder, Half.LAB)
    witness = Witness(made.manifest.architecture)
    measured = measure_bundle(
        made,
        test,
        data=config.data.name,
        uncut_top1=uncut_accuracy(uncut, test, config.data.scale),
        threads=threads,
        witness=witness,
    )
    keep_points(measured, witness, out, data=source)
    return measured


def _claim(out: Path, config_path: Path) -> None:
    """Keep two configs from mixing their checkpoints in one folder."""
    out.mkdir(parents=True, exist_ok=True)
    kept = out / _CONFIG
    if not kept.exists():
        shutil.copyfile(config_path, kept)
    elif kept.read_bytes() != config_path.read_bytes():
        raise ConfigError(
            f"{out} holds a training by another config than {config_path} (see {kept}): "
            "give another --out, or that config"
        )
