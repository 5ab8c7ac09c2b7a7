"""The training loop: phases, learning rate, checkpoints every epoch, a log line every epoch."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from spikebottlenet.lab.augment import random_crop_flip
from spikebottlenet.lab.config import Phase, Schedule
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.muon import Muon
from spikebottlenet.model.exact import PixelScale

BatchLoss = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, dict[str, float]]]
Evaluate = Callable[[], dict[str, float]]


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


def rate_factor(progress: float, warmup: float) -> float:
    """Learning rate over its peak at ``progress`` in [0, 1): linear up, then linear to zero."""
    if progress < warmup:
        return progress / warmup
    return (1.0 - progress) / (1.0 - warmup)


def _optimizers(network: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    convolutions = [
        module.weight
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.in_channels > 3 and module.bias is None
    ]
    chosen = {id(weight) for weight in convolutions}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in chosen]
    return [
        Muon(
            [p for p in network.parameters() if id(p) in chosen and p.requires_grad],
            lr=schedule.muon_lr,
        ),
        torch.optim.SGD(
            others,
            lr=schedule.sgd_lr,
            momentum=0.9,
            nesterov=True,
            weight_decay=schedule.weight_decay,
        ),
    ]


def _epochs(schedule: Schedule) -> list[Phase]:
    return [phase for phase in schedule.phases for _ in range(phase.epochs)]


def _batches(
    run: Run, phase: Phase, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    labels = torch.from_numpy(run.split.labels)
    order = torch.randperm(len(labels), generator=generator)
    batch = run.schedule.batch
    for start in range(0, len(labels) - batch + 1, batch):
        chosen = order[start : start + batch]
        images = torch.from_numpy(run.split.images[chosen.numpy()])  # alone these are in memory
        crops = random_crop_flip(images, side=phase.side, pad=phase.pad, generator=generator)
        yield run.pixels.normalise(crops), labels[chosen]


def _save(path: Path, state: dict[str, object]) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def train(run: Run) -> None:
    """Train ``run.network`` in place, resuming from its last whole epoch where there is one.

    Each epoch leaves ``NAME.pt`` (weights, optimizers, random state) and adds a line to
    ``NAME.jsonl`` in ``run.folder``.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = run.folder / f"{run.name}.pt"
    optimizers = _optimizers(run.network, run.schedule)
    peaks = [[group["lr"] for group in o.param_groups] for o in optimizers]
    generator = torch.Generator().manual_seed(run.seed)
    torch.manual_seed(run.seed)
    epochs, first = _epochs(run.schedule), 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        run.network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_rng"])
        first = state["epochs_done"]
    steps = len(run.split) // run.schedule.batch
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, refresh_per_second=1) as bar:
        task = bar.add_task(run.name, total=steps * len(epochs), completed=steps * first)
        for epoch in range(first, len(epochs)):
            started, sums = time.monotonic(), dict[str, float]()
            run.network.train()
            for step, (images, labels) in enumerate(_batches(run, epochs[epoch], generator)):
                progress = (epoch * steps + step) / (steps * len(epochs))
                factor = rate_factor(progress, run.schedule.warmup)
                for optimizer, group_peaks in zip(optimizers, peaks, strict=True):
                    for group, peak in zip(optimizer.param_groups, group_peaks, strict=True):
                        group["lr"] = peak * factor
                loss, parts = run.batch_loss(images, labels)
                run.network.zero_grad(set_to_none=True)
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
                for name, value in {"loss": float(loss.detach()), **parts}.items():
                    sums[name] = sums.get(name, 0.0) + value / steps
                bar.update(task, advance=1, description=f"{run.name} {epoch + 1}/{len(epochs)}")
            run.network.eval()
            line = {"epoch": epoch + 1, "side": epochs[epoch].side, **sums, **run.evaluate()}
            line["seconds"] = time.monotonic() - started
            rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()}
            with (run.folder / f"{run.name}.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(rounded) + "\n")
            bar.console.print(f"{run.name} {json.dumps(rounded)}", soft_wrap=True)
            _save(
                checkpoint,
                {
                    "network": run.network.state_dict(),
                    "optimizers": [o.state_dict() for o in optimizers],
                    "generator": generator.get_state(),
                    "torch_rng": torch.get_rng_state(),
                    "epochs_done": epoch + 1,
                },
            )
