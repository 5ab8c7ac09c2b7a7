"""A step of training the cut network as `spikebottlenet train` takes it, against a plain one.

Plain: the neuron as a loop under autograd, contiguous memory, float32. Both have the same layers,
batch and loss, and the same optimizers, which are part of the step. A third shows what our way with
deep convolutions (``lab.deep_conv``) wins in bfloat16. On a processor without units for bfloat16 a
step of it takes a minute, so it is left out there.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn import functional

from spikebottlenet.bench.figures import Cell, Part, Table
from spikebottlenet.bench.measuring import in_turns, ratios, spread, timed
from spikebottlenet.bench.neuron_part import plain_lif
from spikebottlenet.bench.subject import Subject
from spikebottlenet.lab.config import Phase, Precision, Schedule
from spikebottlenet.lab.deep_conv import deep_convolutions
from spikebottlenet.lab.optimizers import optimizers_of
from spikebottlenet.lab.precision import autocast, has_bfloat16
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.neuron import LIF, LIFParams
from spikebottlenet.model.split import SplitNetwork

_BATCH, _QUICK_BATCH = 32, 4
_ROUNDS = 3
_QUICK_WIDTH = 16
_CPU = torch.device("cpu")


class _PlainLIF(LIF):
    """The loop under autograd."""

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """Run all timesteps of [T * B, C, H, W]."""
        return plain_lif(current.unflatten(0, (self.timesteps, -1)), self.params).flatten(0, 1)


def _with_plain_neurons(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, LIF):
                setattr(parent, name, _PlainLIF(child.params, timesteps=child.timesteps))


def _step(
    architecture: Architecture,
    batch: int,
    *,
    plain: bool,
    fused: bool,
    precision: Precision,
    deep: bool = True,
) -> Callable[[], None]:
    """One whole step on made images."""
    torch.manual_seed(0)
    network = SplitNetwork(architecture, LIFParams(), fused=fused)
    images = torch.randn(batch, 3, architecture.side, architecture.side)
    labels = torch.randint(0, architecture.classes, (batch,))
    if plain:
        _with_plain_neurons(network)
    else:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
        images = images.contiguous(memory_format=torch.channels_last)
    schedule = Schedule(phases=(Phase(epochs=1, side=architecture.side),))
    optimizers = optimizers_of(network, schedule, precision)

    def run() -> None:
        products = deep_convolutions(network, _CPU) if deep and not plain else nullcontext()
        with products:
            with autocast(precision, _CPU):
                output = network(images, architecture.timesteps)
            loss = functional.cross_entropy(output.logits.float(), labels)
            network.zero_grad(set_to_none=True)
            loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    return run


def measure_train(subject: Subject) -> Part:
    """Both in turns, ours in each precision that the processor is made for: one table."""
    architecture = subject.bundle.manifest.architecture
    batch = _BATCH
    if subject.quick:
        batch = _QUICK_BATCH
        architecture = architecture.model_copy(update={"width": _QUICK_WIDTH})
    fused, has_units = not subject.quick, has_bfloat16("cpu")
    try:
        steps = {
            "plain loop, contiguous, float32": _step(
                architecture, batch, plain=True, fused=False, precision="float32"
            ),
            "ours, float32": _step(
                architecture, batch, plain=False, fused=fused, precision="float32"
            ),
        }
        if has_units:
            steps |= {
                "ours, bfloat16, oneDNN's deep convolutions": _step(
                    architecture, batch, plain=False, fused=fused, precision="bfloat16", deep=False
                ),
                "ours, bfloat16": _step(
                    architecture, batch, plain=False, fused=fused, precision="bfloat16"
                ),
            }
        rounds = 1 if subject.quick else _ROUNDS
        seconds = in_turns(rounds, *(timed(step) for step in steps.values()))
    except (
        Exception
    ) as error:  # inductor raises its own errors, and those of the compiler it starts
        return Part("train", notes=(f"train: not measured: {type(error).__name__}: {error}"[:300],))
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            round(batch / spread(own).median, 1),
            round(spread(ratios(seconds[0], own)).median, 2),
        )
        for name, own in zip(steps, seconds, strict=True)
    ]
    columns = ("a step of training, with its optimizers", "images/s", "plain / this")
    note = (
        "this processor has bfloat16 units: precision auto is bfloat16"
        if has_units
        else "this processor has no bfloat16 units: precision auto is float32, and bfloat16, many "
        "times slower here, is not measured"
    )
    if subject.quick:
        note += "; a quick run is of a narrow network, and does not compile"
    return Part("train", (), (Table("train", "A step of training", columns, tuple(rows), note),))
