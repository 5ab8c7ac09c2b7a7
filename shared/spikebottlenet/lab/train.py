"""A whole training: un-cut network, cut network, bundle, and the test split once at the end."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from spikebottlenet.bundle import Bundle, Half, open_bundle
from spikebottlenet.durable_folder import force_to_disk
from spikebottlenet.lab.bundle_point import keep_points
from spikebottlenet.lab.claim import CONFIG, check_lender, claim_data, claimed, take_uncut
from spikebottlenet.lab.compose import read_config
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.cut import train_cut
from spikebottlenet.lab.data import ImageSplit, hold_out, load_split
from spikebottlenet.lab.data_classes import check_trainable, warn_of_duplicates
from spikebottlenet.lab.data_colours import measured_colours
from spikebottlenet.lab.disk import writing
from spikebottlenet.lab.evaluate import measure_bundle
from spikebottlenet.lab.export import copy_record, export_bundle
from spikebottlenet.lab.precision import say_precision
from spikebottlenet.lab.uncut import train_uncut, uncut_accuracy
from spikebottlenet.lab.witness import Witness
from spikebottlenet.lab.workers import workers
from spikebottlenet.model.split import SplitNetwork
from spikebottlenet.model.uncut import UncutNetwork

log = logging.getLogger(__name__)

_SILENT = 0.01  # spikes a site a timestep


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
        DataError: the data set cannot be loaded, or not be trained on.
        StoreError: a checkpoint cannot be written or read.
        StoreError: checkpoints or the bundle cannot be written.
        TrainingStoppedError: a signal came during a training.
    """
    source = read_config(config_path, options.sets)
    config, among = source.config, workers()
    with claimed(out, source, among):
        if options.uncut_from is not None and among.first:
            check_lender(options.uncut_from, out, config)
        among.wait()
        found = data or config.data.name
        with among.first_before_others():
            settings = measured_colours(config.data, found)
            whole = load_split(found, "train", settings.preprocess(), settings)
        config = config.model_copy(update={"data": settings})
        pixels = settings.scale
        train_split, held_out = hold_out(whole, settings.held_out, seed=settings.seed)
        check_trainable(train_split, batch=max(config.uncut.batch, config.cut.batch))
        for schedule in (config.uncut, config.cut):
            among.share(schedule.batch)  # refused now, not after the un-cut network's training
        claim_data(out, whole, options.uncut_from, among)
        if options.uncut_from is not None and among.first:
            take_uncut(options.uncut_from, out)
        among.wait()
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
    uncut: UncutNetwork,
    cut: SplitNetwork,
    train_split: ImageSplit,
    out: Path,
    *,
    name: str,
    source: str,
) -> Bundle:
    """Export the two trained networks, measure the bundle on the test split, write that down."""
    folder, making = out / "bundle", out / "bundle.unfinished"
    threads = torch.get_num_threads()
    with writing("the bundle", out):
        shutil.rmtree(making, ignore_errors=True)
        export_bundle(cut, config, train_split, making, name=name, threads=threads)
        copy_record(out, config_path, making)
    test = load_split(source, "test", config.data.preprocess(), config.data)
    warn_of_duplicates(train_split, test)
    made = open_bundle(making, Half.LAB)
    witness = Witness(made.manifest.architecture)
    uncut_top1 = uncut_accuracy(uncut, test, config.data.scale)
    data = config.data.name or Path(source).name
    with writing("the bundle's results", out):
        measure_bundle(
            made, test, data=data, uncut_top1=uncut_top1, threads=threads, witness=witness
        )
        _take_place(making, folder)
        measured = open_bundle(folder, Half.LAB)
        keep_points(measured, witness, out, data=source)
    _warn_of_silence(measured)
    return measured


def _take_place(made: Path, folder: Path) -> None:
    """Put a whole bundle in the place of an older one; at no moment is there half of one."""
    before = folder.with_name(f"{folder.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    if folder.exists():
        folder.rename(before)
    made.rename(folder)
    force_to_disk(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def _warn_of_silence(bundle: Bundle) -> None:
    measured = bundle.manifest.measured
    if measured is not None and measured.firing_rate < _SILENT:
        log.warning(
            "hardly a spike crosses the cut (firing rate %.4f), so answers say little: train for "
            "more steps, or lower neuron.threshold, loss.lambda_bits or loss.lambda_energy",
            measured.firing_rate,
        )
