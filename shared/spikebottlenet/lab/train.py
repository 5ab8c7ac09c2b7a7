"""A whole training: un-cut network, cut network, bundle, and the test split once at the end."""

from dataclasses import dataclass
from pathlib import Path

import torch

from spikebottlenet.bundle import Bundle, Half, open_bundle
from spikebottlenet.lab.claim import CONFIG, claimed, take_uncut
from spikebottlenet.lab.compose import read_config
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.cut import train_cut
from spikebottlenet.lab.data import ImageSplit, hold_out, load_split
from spikebottlenet.lab.evaluate import measure_bundle
from spikebottlenet.lab.export import copy_record, export_bundle
from spikebottlenet.lab.precision import say_precision
from spikebottlenet.lab.uncut import train_uncut, uncut_accuracy
from spikebottlenet.lab.workers import workers
from spikebottlenet.model.resnet import ResNet18
from spikebottlenet.model.split import SplitNetwork


@dataclass(frozen=True)
class TrainingOptions:
    """How a training is run, beside what its config says."""

    sets: tuple[str, ...] = ()  # single settings over the config's, KEY=VALUE
    uncut_from: Path | None = None  # another run's folder, whose un-cut network is taken
    only_uncut: bool = False  # end when there is an un-cut network
    tensorboard: bool = False


def train_bundle(
    config_path: Path,
    out: Path,
    *,
    name: str,
    data: str | None = None,
    options: TrainingOptions = TrainingOptions(),
) -> Bundle | None:
    """Train by a config file; ``out`` holds checkpoints and logs, and ``out/bundle`` the result.

    A training that was stopped goes on from its last whole epoch when called again with the same
    config and ``out``. ``data`` takes the place of the config's data set (its local copy). Without
    a result where only the un-cut network is wanted, and in all processes but the first.

    Raises:
        ConfigError: bad config, or ``out`` holds a training by another config.
        DataError: the data set cannot be loaded.
        StoreError: a checkpoint cannot be written or read.
        TrainingStoppedError: a signal came during a training.
    """
    source = read_config(config_path, options.sets)
    config, among = source.config, workers()
    with claimed(out, source, among):
        if options.uncut_from is not None and among.first:
            take_uncut(options.uncut_from, out, config)
        among.wait()
        found = data or config.data.name
        pixels = config.data.scale
        with among.first_before_others():
            whole = load_split(found, "train", config.data.preprocess())
        train_split, held_out = hold_out(whole, config.data.held_out, seed=config.data.seed)
        say_precision(config.precision, among)
        board = options.tensorboard
        uncut = train_uncut(config, train_split, held_out, pixels, out, tensorboard=board)
        if options.only_uncut:
            among.leave()
            return None
        architecture = config.architecture(len(whole.class_names))
        cut = train_cut(
            config, architecture, uncut, train_split, held_out, pixels, out, tensorboard=board
        )
        among.leave()
        if not among.first:
            return None
        kept = out / CONFIG
        return finish(kept, config, uncut, cut.cpu(), train_split, out, name=name, source=found)


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
    return measure_bundle(
        open_bundle(folder, Half.LAB),
        test,
        data=config.data.name,
        uncut_top1=uncut_accuracy(uncut, test, config.data.scale),
        threads=threads,
    )
