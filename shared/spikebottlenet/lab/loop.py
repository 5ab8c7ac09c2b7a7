"""The training loop: phases, learning rate, a checkpoint and a log line every epoch."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.augment import random_crop_flip
from spikebottlenet.lab.averaged import copied, follow
from spikebottlenet.lab.checkpoint import load_checkpoint, save_checkpoint
from spikebottlenet.lab.config import Phase, Precision, Schedule
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.deep_conv import deep_convolutions
from spikebottlenet.lab.epoch_log import Line, write_log
from spikebottlenet.lab.heap import keep_freed_memory
from spikebottlenet.lab.mixing import mix
from spikebottlenet.lab.onednn_fault import without_fault
from spikebottlenet.lab.optimizers import optimizers_of, rate_factor, set_rates
from spikebottlenet.lab.scalars import Scalars
from spikebottlenet.lab.shared_norm import share_norms
from spikebottlenet.lab.standing import Standing
from spikebottlenet.lab.stopping import StopFlag, TrainingStoppedError, stop_flag
from spikebottlenet.lab.workers import Workers, workers
from spikebottlenet.model.exact import PixelScale


class Batch(NamedTuple):
    """This process's part of a batch."""

    images: torch.Tensor  # [B, 3, H, W], normalised
    labels: torch.Tensor  # [B]
    targets: torch.Tensor  # the labels, or [B, classes] shares of mixed images
    progress: float  # of the whole schedule, [0, 1)


BatchLoss = Callable[[Batch], tuple[torch.Tensor, Mapping[str, torch.Tensor]]]
Evaluate = Callable[[], dict[str, float]]  # epochs are chosen by the last of these


@dataclass(frozen=True)
class Run:
    """One network being trained: what, on what, by which schedule, and where it is kept."""

    name: str
    network: nn.Module
    schedule: Schedule
    split: ImageSplit
    pixels: PixelScale
    batch_loss: BatchLoss
    evaluate: Evaluate
    folder: Path
    seed: int
    tensorboard: bool = False
    precision: Precision = "auto"  # of the optimizers; forward passes are ``batch_loss``'s to run

    @property
    def checkpoint(self) -> Path:
        """Its newest checkpoint."""
        return self.folder / f"{self.name}.pt"

    @property
    def log_path(self) -> Path:
        """Its log."""
        return self.folder / f"{self.name}.jsonl"

    @property
    def epochs(self) -> list[Phase]:
        """The phase of each epoch."""
        return [phase for phase in self.schedule.phases for _ in range(phase.epochs)]

    @property
    def steps(self) -> int:
        """Whole batches an epoch."""
        return len(self.split) // self.schedule.batch


def train(run: Run) -> None:
    """Train ``run.network`` in place, resuming from its last whole epoch where there is one.

    Each epoch leaves ``NAME.pt`` (weights, optimizers, random state, log), with the one before it
    as ``NAME.previous.pt``, and a line in ``NAME.jsonl``, in ``run.folder``. With ``patience`` the
    best epoch's weights are the result, with ``ema`` the mean ones: the last checkpoint holds them.

    Raises:
        ConfigError: the batch is larger than the split, or does not divide among the processes.
        StoreError: a checkpoint cannot be written, or none can be read.
        TrainingStoppedError: a signal came.
    """
    among = workers()
    among.share(run.schedule.batch)
    if run.steps == 0:
        raise ConfigError(
            f"{run.name}.batch is {run.schedule.batch}, there are {len(run.split)} images to train "
            "on: set it lower"
        )
    run.folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    run.network.to(among.device)
    if among.count > 1:
        share_norms(run.network)
    standing = _begin(run, among)
    if not standing.finished and standing.epochs_done < len(run.epochs):
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        wanted = run.tensorboard and among.first
        with (
            Scalars(run.folder, run.name, standing.history, wanted=wanted) as scalars,
            Progress(*columns, refresh_per_second=1, disable=not among.first) as bar,
            stop_flag() as stop,
            without_fault(run.network, among.device),
            deep_convolutions(run.network, among.device),
        ):
            _train_epochs(run, standing, among, scalars, bar, stop)
    _settle(run, standing, among)


def _begin(run: Run, among: Workers) -> Standing:
    """From the checkpoint, or from nothing."""
    generator = torch.Generator().manual_seed(run.seed)
    standing = Standing(optimizers_of(run.network, run.schedule, run.precision), generator)
    if run.schedule.ema:
        standing.average = copied(run.network)
    torch.manual_seed(run.seed)
    state = load_checkpoint(run.checkpoint)
    if state is not None:
        standing.take_up(state, run.network, run.log_path)
    among.wait()  # nobody writes before all have read
    if among.first:
        write_log(run.log_path, standing.history)
    return standing


def _train_epochs(
    run: Run,
    standing: Standing,
    among: Workers,
    scalars: Scalars,
    bar: Progress,
    stop: StopFlag,
) -> None:
    steps, epochs = run.steps, run.epochs
    first = standing.epochs_done
    task = bar.add_task(run.name, total=steps * len(epochs), completed=steps * first)
    patience = run.schedule.patience
    for epoch in range(first, len(epochs)):
        by = standing.judged_by
        if patience and by and standing.epochs_without_better(by) >= patience:  # resumed ones too
            bar.console.print(f"{run.name}: {patience} epochs without a better {by}: stopped early")
            return
        started = time.monotonic()
        sums = dict[str, torch.Tensor]()
        run.network.train()
        for step, batch in enumerate(_batches(run, epoch, standing.generator, among)):
            for name, value in _step(run, standing, batch, epoch * steps + step, among).items():
                sums[name] = sums[name] + value if name in sums else value
            bar.update(task, advance=1, description=f"{run.name} {epoch + 1}/{len(epochs)}")
            if signal_number := among.any(stop.signal_number):
                raise _stopped(run, standing, signal_number)
        means = {name: float(among.mean(value)) / steps for name, value in sums.items()}
        diverged = sorted(name for name, value in means.items() if not math.isfinite(value))
        if diverged:
            raise ConfigError(
                f"{run.name} diverged in epoch {epoch + 1} ({', '.join(diverged)} is no number): "
                f"lower muon_lr or sgd_lr; {run.checkpoint} is as it was"
            )
        found = _evaluated(run, standing)
        line: Line = {"epoch": epoch + 1, "side": epochs[epoch].side, **means, **found}
        line["seconds"] = time.monotonic() - started
        line = {k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()}
        standing.history.append(line)
        by = standing.judged_by
        if run.schedule.patience and standing.newest_is_best(by):
            standing.best = standing.average or copied(run.network)
            standing.best = {name: value.clone() for name, value in standing.best.items()}
        if among.first:
            save_checkpoint(run.checkpoint, standing.state(run.network))
            write_log(run.log_path, standing.history)
            bar.console.print(f"{run.name} {json.dumps(line)}", soft_wrap=True)
        scalars.add(line)
        if signal_number := among.any(stop.signal_number):
            raise _stopped(run, standing, signal_number)


def _batches(run: Run, epoch: int, generator: torch.Generator, among: Workers) -> Iterator[Batch]:
    """Whole batches drawn alike by every process, and this one's share of each."""
    phase, size, steps = run.epochs[epoch], run.schedule.batch, run.steps
    labels = torch.from_numpy(run.split.labels)
    order = torch.randperm(len(labels), generator=generator)
    share = among.share(size)
    for step in range(steps):
        chosen = order[step * size : (step + 1) * size]
        images = torch.from_numpy(run.split.images[chosen.numpy()])  # alone these are in memory
        crops = random_crop_flip(
            images,
            side=phase.side,
            pad=phase.pad,
            flip=run.schedule.flip,
            generator=generator,
        )
        normal, targets = mix(
            run.pixels.normalise(crops),
            labels[chosen],
            schedule=run.schedule,
            classes=len(run.split.class_names),
            generator=generator,
        )
        yield Batch(
            normal[share].to(among.device, non_blocking=True),
            labels[chosen][share].to(among.device),
            targets[share].to(among.device),
            (epoch * steps + step) / (steps * len(run.epochs)),
        )


def _step(
    run: Run, standing: Standing, batch: Batch, step: int, among: Workers
) -> dict[str, torch.Tensor]:
    """One step of the optimizers; what is to be logged of it."""
    factor = rate_factor(batch.progress, run.schedule.warmup)
    set_rates(standing.optimizers, run.schedule, factor)
    loss, parts = run.batch_loss(batch)
    run.network.zero_grad(set_to_none=True)
    loss.backward()
    among.average_gradients(run.network)
    for optimizer in standing.optimizers:
        optimizer.step()
    if standing.average is not None:
        follow(standing.average, run.network, decay=run.schedule.ema, step=step)
    return {"loss": loss.detach().double()} | {k: v.detach().double() for k, v in parts.items()}


def _evaluated(run: Run, standing: Standing) -> dict[str, float]:
    """What the held-out part says of the weights that would be kept."""
    run.network.eval()
    if standing.average is None:
        return run.evaluate()
    trained = copied(run.network)
    run.network.load_state_dict(standing.average)
    found = run.evaluate()
    run.network.load_state_dict(trained)
    return found


def _settle(run: Run, standing: Standing, among: Workers) -> None:
    """Put the chosen weights into network and checkpoint, where they are not the last ones."""
    run.network.eval()
    chosen = standing.best or standing.average
    if chosen is None or standing.finished:
        return
    run.network.load_state_dict(chosen)
    standing.finished = True
    if among.first:
        save_checkpoint(run.checkpoint, standing.state(run.network))


def _stopped(run: Run, standing: Standing, signal_number: int) -> TrainingStoppedError:
    done = standing.epochs_done
    kept = f"{run.checkpoint} holds {done} whole epochs" if done else "no epoch was whole yet"
    return TrainingStoppedError(
        f"stopped by signal {signal_number}: {kept} of {len(run.epochs)}; the same command goes on "
        "from there",
        signal_number,
    )
